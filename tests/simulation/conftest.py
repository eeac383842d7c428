"""Simulations make many objects that live until their end: cyclic garbage is looked for less often."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from raftoral_nb.simulation.many import rarely_collecting


@pytest.fixture(autouse=True)
def little_garbage_collection() -> Iterator[None]:
    with rarely_collecting():
        yield
    gc.collect()

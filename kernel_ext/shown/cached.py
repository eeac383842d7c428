"""The cache of steps as a table. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftoral_nb.core.sizes import size_words

from .tables import Table
from .waiting import time_left

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftoral_nb import CachedStep


def cached_steps(cached: Sequence[CachedStep], now: float) -> Table:
    """A row per result that is cached of a step."""
    rows = tuple(
        (
            one.name,
            one.inputs,
            size_words(one.size, coarse=True),
            time_left(now - one.at),
            str(one.hits),
            str(one.source),
        )
        for one in cached
    )
    header = ("function", "inputs", "size", "age", "hits", "computed by")
    return Table("cached results of steps, the one used last first", header, rows, frozenset({2, 3, 4}))

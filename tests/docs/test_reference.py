"""The reference says what the code says of itself."""

from __future__ import annotations

import re

import raftoral_nb
from kernel_ext.magics.table import TABLE
from tests.docs.reference import PATH, reference


def test_the_reference_is_what_the_docstrings_and_parsers_make_it() -> None:
    assert PATH.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_it_names_everything_that_is_public() -> None:
    text = reference()
    left_out = {"ClusterEvent", "FAULTS", "SCENARIOS"}  # a union of the events; tables of the magics
    missing = [name for name in raftoral_nb.__all__ if f"`{name}`" not in text and name not in left_out]
    assert missing == []
    assert [name for name in TABLE if not re.search(rf"^\| `{name}\b", text, re.MULTILINE)] == []
    for command in ("demo", "inspect", "simulate"):
        assert f"### `raftoral-nb {command}`" in text


def test_nothing_in_it_differs_from_one_process_to_the_next() -> None:
    assert not re.search(r"0x[0-9a-f]{6,}", reference())

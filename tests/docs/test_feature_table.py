"""The feature table of `docs/compared.md` names the test that holds each row, and that test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
TEST: Final = re.compile(r"\]\(\.\./(?P<file>tests/[\w/]+\.py)#(?P<test>\w+)\)")


def table() -> list[list[str]]:
    text = (ROOT / "docs" / "compared.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


HEADER, _, *ROWS = table()


def test_it_stands_beside_the_original_and_the_three_that_people_know() -> None:
    assert HEADER == ["", "raftoral-nb", "Raftoral", "Temporal", "DBOS", "Restate"]
    assert len(ROWS) >= 20
    assert all(len(row) == len(HEADER) and all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_names_a_test_that_is_there(row: list[str]) -> None:
    named = list(TEST.finditer(row[1]))
    assert named, row[1]
    assert len(named) == row[1].count("](")
    for one in named:
        tree = ast.parse((ROOT / one["file"]).read_text(encoding="utf-8"))
        assert one["test"].startswith("test_")
        assert one["test"] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, one["test"]
    assert not any(TEST.search(cell) for cell in row[2:])

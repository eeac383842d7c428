"""The measurement of large values works with a small one, and tells what it says it tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.environments import ROOT
from benchmarks.own import large_values


def test_each_size_and_number_of_nodes_has_a_line_of_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # its parts are processes of their own
    assert (
        large_values.main(["--megabytes", "1", "--nodes", "1", "3", "--rounds", "1", "--scratch", str(tmp_path)]) == 0
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (columns,) = [line for line in lines if line[:2] == ["MB", "nodes"]]
    rows = [line for line in lines if line[:2] in (["1", "1"], ["1", "3"])]
    assert [row[1] for row in rows] == ["1", "3"]
    for row in rows:
        figures = [part for part in row if not part.startswith("(")]  # in parentheses stands the spread of a ratio
        assert len(figures) == len(columns)
        assert all(float(figure) >= 0 for figure in figures)
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

from raftoral_nb.cells.cell_key import CellInputs
from tests.cells.test_cell_log import record


def test_what_differs_is_said_in_a_few_words() -> None:
    before = CellInputs("c", {"x": "1", "y": "1"}, {"f": "1"}, [])
    kept = record("a", code="c", reads=before.reads, functions=before.functions, key=before.key())
    assert before.differences(kept) == []
    assert CellInputs("d", {}, {}, []).differences(kept) == ["its code changed"]
    assert CellInputs("c", {"x": "2", "y": "1"}, {"f": "2"}, []).differences(kept) == ["`f` and `x` changed"]
    assert CellInputs("c", {"x": "2", "y": "2"}, {"f": "2"}, []).differences(kept) == ["`f`, `x` and `y` changed"]
    assert CellInputs("c", {"x": "1", "z": "1"}, {}, []).differences(kept) == [
        "`f` and `y` are not there",
        "`z` was not there",
    ]
    assert CellInputs("c", before.reads, before.functions, [("x", "y")]).differences(kept) == [
        "names that it reads share their values otherwise"
    ]


def test_the_order_of_names_does_not_count() -> None:
    one = CellInputs("c", {"x": "1", "y": "2"}, {}, [("a", "b"), ("c", "d")])
    assert one.key() == CellInputs("c", {"y": "2", "x": "1"}, {}, [("c", "d"), ("a", "b")]).key()

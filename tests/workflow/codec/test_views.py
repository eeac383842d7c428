"""A small slice of an Arrow table that is too large to be recorded says why, and what to do; that helps."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from raftoral_nb import CodeNotShippableError, ValueNotShippableError, limits
from raftoral_nb.workflow.codec import blobs, values
from raftoral_nb.workflow.shipping import definitions


class Table:
    """As far as it matters here, a slice of a pyarrow.Table: it pickles with more than its own data."""

    def __init__(self, own: int, whole: int) -> None:
        self.nbytes = own
        self._whole = b"x" * whole

    def get_total_buffer_size(self) -> int:
        return len(self._whole)


class Unsized(Table):
    def get_total_buffer_size(self) -> int:
        raise NotImplementedError("a layout that nobody counts")


@dataclass
class Report:
    title: str
    rows: Any


@pytest.fixture
def arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pyarrow")
    module.Table = Table  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", module)


LARGE = 1_000_001


@pytest.fixture(autouse=True)
def _uncompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables here are of zeros."""
    monkeypatch.setattr(blobs, "compressed", lambda data: None)


def refusal(value: object) -> str:
    with pytest.raises(ValueNotShippableError) as caught:
        values.encode(value, what="the value", most=LARGE - 1)
    return str(caught.value)


@pytest.mark.usefixtures("arrow")
def test_a_slice_says_that_all_of_it_goes_along_wherever_it_is_in_a_value() -> None:
    for value in (Table(40, LARGE), [1, {"rows": (Table(40, LARGE),)}], Report("sales", Table(40, LARGE))):
        told = refusal(value)
        assert "a slice of a larger pyarrow.Table: its own data are 40 bytes" in told
        assert f"{LARGE:,} bytes" in told
        assert "part.take(list(range(len(part))))" in told


@pytest.mark.usefixtures("arrow")
def test_what_is_large_itself_gets_the_usual_advice() -> None:
    for value in (Table(LARGE, LARGE), b"x" * LARGE, Unsized(1, LARGE)):
        assert "slice" not in refusal(value)
        assert "Write large data to a file" in refusal(value)


def test_pyarrow_is_not_imported_to_say_so() -> None:
    before = "pyarrow" in sys.modules
    assert "slice" not in refusal(Table(40, LARGE))
    assert ("pyarrow" in sys.modules) == before


@pytest.mark.usefixtures("arrow")
def test_a_workflow_that_captured_a_slice_is_told_the_same() -> None:
    part = Table(40, limits.MAX_CODE_BYTES + 1)

    async def reads(ctx: Any, _: None) -> int:
        return part.nbytes

    with pytest.raises(CodeNotShippableError, match=r"part \(.*a slice of a larger pyarrow\.Table"):
        definitions.build("reads", 1, reads)


def test_what_is_advised_makes_a_real_slice_small() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow to try it with real tables")
    numbers = list(range(LARGE // 8 + 1))
    part = pyarrow.table({"number": numbers, "name": [f"n{number}" for number in numbers]}).slice(10, 5)
    assert "its own data are" in refusal(part)
    whole = part.take(list(range(len(part))))
    assert values.round_trip(whole, what="rows")[1].equals(part)


def test_views_of_numpy_are_as_large_as_what_they_show() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(LARGE, dtype=numpy.uint8)
    assert len(values.encode(array[5:10], what="rows")) < 1000
    assert len(values.encode(array[::100_000], what="rows")) < 1000
    assert len(values.encode(memoryview(bytes(LARGE))[5:10], what="rows")) < 1000

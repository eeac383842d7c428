from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any

import pytest

from raftoral_nb.cells.cell_pickles import CellPickler, TakenValue

matplotlib = pytest.importorskip("matplotlib")


def figure(*, drawn: bool) -> Any:
    from matplotlib.figure import Figure

    made = Figure()
    left, right = made.subplots(1, 2)
    left.plot([1, 2])
    left.set_xlabel("t")
    right.imshow([[1, 2], [3, 4]])
    if drawn:
        made.savefig(io.BytesIO())
    return made


def again(value: Any) -> Any:
    data, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    CellPickler(data, {}, buffers, frozenset()).dump(value)
    return pickle.loads(data.getvalue(), buffers=[bytearray(one.raw()) for one in buffers])


def picture(figure: Any) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return hashlib.md5(data.getvalue(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("drawn", [True, False])
def test_a_figure_has_one_digest_however_often_it_is_looked_at(drawn: bool) -> None:
    made = figure(drawn=drawn)

    def digest() -> str:
        return TakenValue(made, {}, frozenset()).digest

    first = digest()
    assert digest() == first
    made.get_size_inches()
    assert digest() == first
    made.axes[0].set_xlabel("other")
    assert digest() != first


@pytest.mark.parametrize("drawn", [True, False])
def test_a_figure_looks_the_same_and_can_be_changed_when_it_was_loaded(drawn: bool) -> None:
    made = figure(drawn=drawn)
    found = again(made)
    assert picture(found) == picture(made)
    for one in (made, found):
        one.axes[0].plot([5, 9, 2])
        one.axes[0].set_xlim(-1, 7)
        one.set_size_inches(3, 3)
    assert picture(found) == picture(made)

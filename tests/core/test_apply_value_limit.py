"""How large values may be is part of the state."""

from __future__ import annotations

import pytest

from raftoral_nb.core.commands import SetValueLimit
from raftoral_nb.core.events import ValueLimitSet
from raftoral_nb.core.snapshot import Frozen, Reader
from raftoral_nb.core.state import State
from raftoral_nb.limits import MAX_ENCODED_BYTES, MAX_VALUE_BYTES
from tests.core.commands import done, refusal


def test_the_limit_can_be_changed_and_nothing_is_told_of_what_is_so_already() -> None:
    state = State()
    assert state.max_value_bytes == MAX_VALUE_BYTES
    assert done(state, SetValueLimit(5)) == (ValueLimitSet(5),)
    assert done(state, SetValueLimit(5)) == ()
    assert state.max_value_bytes == 5


def test_a_snapshot_has_it() -> None:
    state = State()
    done(state, SetValueLimit(5))
    reader = Reader()
    for piece in Frozen(state).pieces():
        reader.feed(piece)
    assert reader.state().max_value_bytes == 5


@pytest.mark.parametrize("most", [0, -1, True, "5", 1.5, MAX_ENCODED_BYTES + 1, None])
def test_what_is_no_limit_is_malformed(most: object) -> None:
    assert refusal(State(), SetValueLimit(most)) == "bad_command"  # type: ignore[arg-type]

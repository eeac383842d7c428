"""What steps leave behind beside their records: states for the next attempt, and results that are cached for all runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.core.apply import apply
from raftoral_nb.core.blob_refs import BlobRef, encode_reference
from raftoral_nb.core.commands import (
    CacheStep,
    CancelRun,
    ClearCache,
    ContinueRun,
    MoveRun,
    RegisterWorkflow,
    SaveStepState,
    Takeover,
)
from raftoral_nb.core.events import CacheCleared, CheckpointSet, CommandRefused, StepStateSaved
from raftoral_nb.core.records import CachedStep, Step, StepSource, StepState
from raftoral_nb.core.snapshot import Frozen, Reader
from raftoral_nb.core.state import State, summary
from raftoral_nb.core.validation import Limits
from tests.core.commands import FAILURE, checkpoint, definition, done, end, refusal, running


def saves(number: int = 1, value: bytes = b"epoch", step_id: str = "0/charge", **more: Any) -> SaveStepState:
    names = {"run_id": "r1", "node": 1, "epoch": 1, **more}
    return SaveStepState(step_id=step_id, number=number, value=value, **names)


def saved(state: State, run_id: str = "r1") -> dict[str, bytes]:
    return {step_id: one.value for step_id, one in state.runs[run_id].step_states.items()}


def test_the_latest_of_a_step_is_kept_and_is_no_record() -> None:
    state = running("r1")
    assert done(state, saves(1, b"one", at=2.0)) == (StepStateSaved("r1", "0/charge", 1, 3),)
    assert done(state, saves(3, b"three", at=1.0)) == (StepStateSaved("r1", "0/charge", 3, 5),)
    done(state, saves(1, b"x", "1/other"))
    assert state.runs["r1"].step_states["0/charge"] == StepState("0/charge", 3, b"three", 1.0)
    assert saved(state) == {"0/charge": b"three", "1/other": b"x"}
    assert (state.runs["r1"].records, state.runs["r1"].time, state.checkpoints) == ([], 0.0, 0)


def test_one_that_is_late_is_refused_and_one_that_is_said_twice_changes_nothing() -> None:
    state = running("r1")
    done(state, saves(2, b"two"))
    before = summary(state)
    assert done(state, saves(2, b"two")) == ()
    assert summary(state) == before
    assert refusal(state, saves(1, b"one")) == "older_step_state"


def test_a_recorded_step_has_none_and_gets_none() -> None:
    state = running("r1")
    done(state, saves())
    done(state, saves(step_id="1/other"))
    done(state, checkpoint())
    assert saved(state) == {"1/other": b"epoch"}
    assert refusal(state, saves(2)) == "already_recorded"


@pytest.mark.parametrize("over", [end(), ContinueRun("r1", 1, 1, 1, b"")], ids=["ended", "began anew"])
def test_the_end_of_a_run_or_its_new_beginning_drops_them(over: Any) -> None:
    state = running("r1")
    done(state, saves())
    done(state, over)
    assert saved(state) == {}


def test_a_request_to_cancel_another_epoch_and_a_move_leave_them() -> None:
    state = running("r1")
    done(state, saves())
    done(state, CancelRun("r1", "why"))
    done(state, Takeover(2, 2))
    done(state, RegisterWorkflow(definition(version=2)))
    done(state, MoveRun("r1", 2, 1))
    assert saved(state) == {"0/charge": b"epoch"}
    done(state, saves(2, b"later", node=2, epoch=2, version=2))
    assert saved(state) == {"0/charge": b"later"}


def test_a_run_with_as_many_as_may_be_saves_no_more_but_goes_on_with_those() -> None:
    state = running("r1", "r2", limits=Limits(step_states=2))
    done(state, saves())
    done(state, saves(step_id="1/b"))
    assert refusal(state, saves(step_id="2/c")) == "too_many_step_states"
    done(state, saves(2, b"later"))
    done(state, saves(step_id="2/c", run_id="r2"))
    done(state, checkpoint())
    done(state, saves(step_id="2/c"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"run_id": ""},
        {"step_id": ""},
        {"step_id": "s" * 1025},
        {"number": 0},
        {"number": True},
        {"value": b"12345"},
        {"value": None},
        {"node": 0},
        {"epoch": 0},
        {"version": -1},
        {"generation": 0},
        {"at": float("nan")},
    ],
    ids=str,
)
def test_what_is_malformed_or_too_large_is_refused(wrong: dict[str, Any]) -> None:
    command = {"value": b"1234", **wrong}
    assert refusal(running("r1", limits=Limits(value_bytes=4)), saves(**command)) == "bad_command"


def test_a_snapshot_holds_them_in_pieces_and_the_state_is_the_same() -> None:
    state = running("r1", "r2")
    for number in range(5):
        done(state, saves(value=bytes(100), step_id=f"{number}/s"))
    done(state, checkpoint("9/done"))
    pieces = list(Frozen(state).pieces(150))
    assert len(pieces) > 5
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
    assert summary(reader.state()) == summary(state)


def test_what_is_saved_after_a_snapshot_was_begun_is_not_in_it() -> None:
    state = running("r1")
    done(state, saves(1, b"one"))
    frozen = Frozen(state)
    done(state, saves(2, b"two"))
    done(state, saves(1, b"x", "1/other"))
    reader = Reader()
    for piece in frozen.pieces():
        reader.feed(piece)
    assert saved(reader.state()) == {"0/charge": b"one"}


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["save", "record", "take over"])), max_size=30))
def test_whatever_comes_in_whatever_order_the_numbers_of_a_step_only_rise(asked: list[tuple[int, str]]) -> None:
    """Against an account of our own: what the current epoch saved last with a higher number, until the step is recorded."""
    state, expected, term, is_recorded = running("r1"), 0, 1, False
    for number, what in asked:
        if what == "take over":
            term += 1
            done(state, Takeover(1, term))
        elif what == "record":
            is_recorded = is_recorded or number > 3
            apply(state, checkpoint(epoch=term), 9) if number > 3 else refusal(state, checkpoint(epoch=term + 1))
            expected = 0 if is_recorded else expected
        else:
            events = apply(state, saves(number, str(number).encode(), epoch=term), 9)
            is_refused = bool(events) and isinstance(events[0], CommandRefused)
            assert is_refused == (is_recorded or number < expected)
            expected = expected if is_refused else number
        known = state.runs["r1"].step_states.get("0/charge")
        assert (0 if known is None else known.number) == expected
        assert known is None or known.value == str(known.number).encode()


# --- the cache


def caches(key: str = "k", value: bytes = b"model", step_id: str = "0/fit", **more: Any) -> CacheStep:
    names = {"run_id": "r1", "name": "fit", "inputs": "3", **more}
    source, at, failure = names.pop("source", None), names.pop("at", 0.0), names.pop("failure", None)
    author = names.pop("node", 1), names.pop("epoch", 1)
    given = None if failure is not None else value
    step = Step(step_id, names.pop("operation", "compute"), given, failure, *author, at, cached_from=source)
    return CacheStep(step=step, key=key, **names)


def cached(state: State) -> list[tuple[str, bytes, int]]:
    return [(one.key, one.value, one.hits) for one in state.cache.values()]


def test_a_result_that_is_recorded_is_cached_and_a_hit_counts_and_makes_it_the_one_used_last() -> None:
    state = running("r1", "r2")
    (event,) = done(state, caches("a", b"first", "0/fit", at=4.0))
    assert event == CheckpointSet("r1", Step("0/fit", "compute", b"first", None, 1, 1, 4.0))
    done(state, caches("b", b"second", "1/fit"))
    source = StepSource("r1", "0/fit")
    assert state.cache["a"] == CachedStep("a", "fit", "3", b"first", source, 4.0)
    assert state.cache["a"].size == 5
    (event,) = done(state, caches("a", b"first", "0/again", run_id="r2", source=source))
    assert event.step.cached_from == source
    assert cached(state) == [("b", b"second", 0), ("a", b"first", 1)]
    assert [one.value for one in state.runs["r2"].steps] == [b"first"]
    assert state.checkpoints == 3


def test_what_cannot_be_recorded_leaves_the_cache_as_it_is() -> None:
    state = running("r1")
    done(state, caches("a"))
    assert refusal(state, caches("a", b"other")) == "already_recorded"
    assert refusal(state, caches("b", step_id="1/fit", epoch=2)) == "stale_epoch"
    assert (
        refusal(state, caches("a", step_id="1/fit", generation=2, source=StepSource("r1", "0/fit")))
        == "stale_generation"
    )
    assert cached(state) == [("a", b"model", 0)]


def test_a_value_that_is_found_no_more_is_recorded_all_the_same() -> None:
    """It was cleared, or dropped, since the acting node looked."""
    state = running("r1")
    done(state, caches("a", source=StepSource("gone", "0/fit")))
    assert cached(state) == []
    assert state.runs["r1"].by_id["0/fit"].value == b"model"


def test_two_that_computed_the_same_leave_one_the_later() -> None:
    state = running("r1", "r2")
    done(state, caches("a", b"one"))
    done(state, caches("a", b"one", "0/x", run_id="r2", source=StepSource("r1", "0/fit")))
    done(state, caches("a", b"two", "1/fit", run_id="r2"))
    assert cached(state) == [("a", b"two", 1)]
    assert state.cache["a"].source == StepSource("r2", "1/fit")


def test_there_is_room_for_so_many_and_for_so_many_bytes_and_those_not_used_for_longest_go() -> None:
    state = running("r1", limits=Limits(cached_steps=3, cache_bytes=10))
    for number, key in enumerate("abc"):
        done(state, caches(key, b"12", f"{number}/fit"))
    done(state, caches("a", b"12", "3/fit", source=StepSource("r1", "0/fit")))
    done(state, caches("d", b"12", "4/fit"))
    assert list(state.cache) == ["c", "a", "d"]
    done(state, caches("e", bytes(7), "5/fit"))
    assert list(state.cache) == ["d", "e"]
    done(state, caches("f", bytes(11), "6/fit"))
    assert list(state.cache) == ["d", "e"], "one that is larger than all the room drops none"
    done(state, caches("d", bytes(11), "7/fit"))
    assert list(state.cache) == ["e"], "what it replaces is gone"


def test_blobs_count_with_their_size() -> None:
    state = running("r1", limits=Limits(cache_blob_bytes=2000))
    for number, key in enumerate("abc"):
        done(state, caches(key, encode_reference(BlobRef("0" * 32, 900)), f"{number}/fit"))
    assert list(state.cache) == ["b", "c"]


def test_the_cache_is_cleared_of_a_function_or_of_all() -> None:
    state = running("r1")
    for number, name in enumerate(("fit", "load", "fit")):
        done(state, caches(str(number), step_id=f"{number}/s", name=name))
    assert done(state, ClearCache("fit")) == (CacheCleared("fit", 2),)
    assert list(state.cache) == ["1"]
    assert done(state, ClearCache()) == (CacheCleared(None, 1),)
    assert done(state, ClearCache()) == (CacheCleared(None, 0),)


@pytest.mark.parametrize(
    "command",
    [
        caches(""),
        caches(name=""),
        caches(inputs=3),
        caches(inputs="x" * 201),
        caches(failure=FAILURE),
        caches(operation="set"),
        caches(source="r1"),
        caches(source=StepSource("", "0/fit")),
        caches(source=StepSource("r1", 3)),  # type: ignore[arg-type]
        caches(value=bytes(99)),
        ClearCache(""),
        ClearCache(3),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_what_is_malformed_is_not_cached(command: Any) -> None:
    assert refusal(running("r1", limits=Limits(value_bytes=50)), command) == "bad_command"


def test_a_snapshot_holds_the_cache_in_its_order() -> None:
    state = running("r1")
    for number, key in enumerate("abc"):
        done(state, caches(key, bytes(100), f"{number}/fit"))
    done(state, caches("a", bytes(100), "3/fit", source=StepSource("r1", "0/fit")))
    reader = Reader()
    for piece in Frozen(state).pieces(150):
        reader.feed(piece)
    assert list(reader.state().cache) == ["b", "c", "a"]
    assert summary(reader.state()) == summary(state)


_some = st.tuples(st.sampled_from("abcd"), st.integers(0, 6), st.booleans())


@given(st.lists(_some, max_size=40))
def test_whatever_is_cached_the_limits_hold_and_what_was_used_last_is_there(asked: list[tuple[str, int, bool]]) -> None:
    state = running("r1", limits=Limits(cached_steps=3, cache_bytes=10))
    for number, (key, size, is_hit) in enumerate(asked):
        known = state.cache.get(key)
        hit = is_hit and known is not None
        value = known.value if hit and known is not None else bytes(size)
        done(state, caches(key, value, f"{number}/s", source=StepSource("r1", "0/s") if hit else None))
        assert list(state.cache)[-1] == key
        assert len(state.cache) <= 3
        assert sum(one.size for one in state.cache.values()) <= 10

"""What runs keep and how it goes: accounts, eviction by number and by size, deletion, ids that are used again. Examples; see `test_properties`."""

from __future__ import annotations

import msgspec
import pytest

from raftoral_nb.core.apply import apply
from raftoral_nb.core.blob_refs import BlobRef, encode_reference
from raftoral_nb.core.commands import (
    CancelRun,
    ContinueRun,
    DeleteRun,
    EndRun,
    SendSignal,
    SetCheckpoint,
    SetRetention,
    StartChild,
    StartRun,
)
from raftoral_nb.core.events import (
    BlobsDropped,
    CheckpointSet,
    CommandRefused,
    RetentionSet,
    RunDeleted,
    RunEvicted,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowStarted,
)
from raftoral_nb.core.records import Failure, Step
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.state import Retention, State
from raftoral_nb.core.validation import Limits
from tests.core.commands import checkpoint, done, end, live_blobs, refusal, running, start


def blob(digest: str, size: int = 1000) -> bytes:
    return encode_reference(BlobRef(digest, size))


def child(
    run_id: str = "cache/1", *, parent: str = "r1", step_id: str = "0/fit", detached: bool = False, again: bool = True
) -> StartChild:
    step = Step(step_id, "child", b"c", None, 1, 1)
    return StartChild(
        parent, step, 1, run_id, "order", 1, b"x", detached, format=RECORD_FORMAT, again=again and not detached
    )


def refused_as(state: State, command: object) -> str:
    (event,) = apply(state, command, 9)  # type: ignore[arg-type]
    assert isinstance(event, CommandRefused)
    return event.reason


# --- accounts


def test_a_run_knows_the_bytes_that_it_keeps() -> None:
    state = running("r1")
    run = state.runs["r1"]
    assert run.kept_bytes == len(b"in")
    done(state, checkpoint("0/a", b"12345"))
    done(state, SendSignal("r1", "s1", "go", b"123"))
    failure = Failure("ValueError", "no such card", "line 1", b"pickled")
    done(state, SetCheckpoint("r1", Step("1/b", "compute", None, failure, 1, 1)))
    texts = len("ValueError") + len("no such card") + len("line 1") + len(b"pickled")
    assert run.kept_bytes == 2 + 5 + 3 + texts
    done(state, end("r1", b"done"))
    assert run.kept_bytes == state.finished_bytes == 2 + 5 + 3 + texts + 4


def test_a_blob_counts_with_its_size_once_for_each_run_that_refers_to_it() -> None:
    state = running("r1", "r2")
    for run_id in ("r1", "r2"):
        done(state, checkpoint("0/a", blob("d"), run_id=run_id))
        done(state, checkpoint("1/a", blob("d"), run_id=run_id))
        assert state.runs[run_id].kept_bytes == 2 + 2 * len(blob("d")) + 1000
        assert state.runs[run_id].blobs == {"d": 1000}
    assert live_blobs(state) == {"d"}


def test_what_only_looks_like_a_reference_is_a_value() -> None:
    state = running("r1")
    done(state, checkpoint("0/a", b"\x00 no reference"))
    assert (state.runs["r1"].kept_bytes, state.runs["r1"].blobs) == (2 + 14, {})


def test_blobs_are_told_when_the_last_run_that_refers_to_them_goes() -> None:
    state = running("r1", "r2", limits=Limits(runs_kept=1))
    done(state, checkpoint("0/a", blob("shared"), run_id="r1"))
    done(state, checkpoint("1/a", blob("own"), run_id="r1"))
    done(state, checkpoint("0/a", blob("shared"), run_id="r2"))
    done(state, end("r1"))
    assert done(state, end("r2", blob("result")))[1:] == (RunEvicted("r1"), BlobsDropped(("own",)))
    assert live_blobs(state) == {"shared", "result"}
    assert done(state, DeleteRun("r2", 1)) == (RunDeleted("r2"), BlobsDropped(("shared", "result")))
    assert live_blobs(state) == set()


def test_a_parent_that_was_told_its_childs_result_keeps_the_childs_blob() -> None:
    state = running("r1")
    done(state, child())
    done(state, end("cache/1", blob("result")))
    assert done(state, DeleteRun("cache/1", 1)) == (RunDeleted("cache/1"),)
    assert live_blobs(state) == {"result"}
    done(state, end("r1"))
    assert done(state, DeleteRun("r1", 1))[1:] == (BlobsDropped(("result",)),)


def test_a_run_that_begins_anew_lets_go_of_the_blobs_of_its_past_but_for_messages_that_it_takes_along() -> None:
    state = running("r1")
    done(state, checkpoint("0/a", blob("old")))
    done(state, SendSignal("r1", "s1", "had", blob("had")))
    done(state, SendSignal("r1", "s2", "left", blob("left")))
    events = done(state, ContinueRun("r1", 1, 1, 1, blob("new"), had=2, left=(2,)))
    assert isinstance(events[0], WorkflowContinued)
    assert events[1:] == (BlobsDropped(("old", "had")),)
    assert state.runs["r1"].blobs == {"new": 1000, "left": 1000}
    assert live_blobs(state) == {"new", "left"}


# --- what goes


def test_the_oldest_runs_go_when_all_are_too_large_together_and_the_last_one_stays() -> None:
    state = running("r1", "r2", "r3")
    assert done(state, SetRetention(None, 2500)) == (RetentionSet(1000, 2500),)
    for run_id in ("r1", "r2"):
        done(state, end(run_id, blob(run_id)))
    assert done(state, end("r3", blob("r3", 5000)))[1:] == (
        RunEvicted("r1", "keep_bytes"),
        BlobsDropped(("r1",)),
        RunEvicted("r2", "keep_bytes"),
        BlobsDropped(("r2",)),
    )
    assert list(state.finished) == ["r3"]
    assert state.finished_bytes == state.runs["r3"].kept_bytes > 2500


def test_what_is_kept_can_be_changed_and_what_is_not_given_stays() -> None:
    state = running("r1", "r2", "r3")
    for run_id in ("r1", "r2", "r3"):
        done(state, end(run_id))
    assert state.keeps == Retention(1000, 1_000_000_000)
    assert done(state, SetRetention(2)) == (RetentionSet(2, 1_000_000_000), RunEvicted("r1"))
    assert done(state, SetRetention(None, 10)) == (RetentionSet(2, 10), RunEvicted("r2", "keep_bytes"))
    assert done(state, SetRetention(2, 10)) == ()
    assert list(state.runs) == ["r3"]


@pytest.mark.parametrize(
    "command",
    [
        SetRetention(),
        SetRetention(0),
        SetRetention(100_001),
        SetRetention(True),
        SetRetention("1"),  # type: ignore[arg-type]
        SetRetention(None, 0),
        SetRetention(1, 2**63),
        SetRetention(1, 1.5),  # type: ignore[arg-type]
        DeleteRun("r1", 0),
        DeleteRun("", 1),
        DeleteRun("r1", 1, float("nan")),
    ],
)
def test_what_makes_no_sense_is_malformed(command: object) -> None:
    assert refusal(running("r1"), command) == "bad_command"


def test_of_very_many_runs_a_limited_number_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from raftoral_nb.core import retention

    monkeypatch.setattr(retention, "MAX_EVICTED_AT_ONCE", 2)
    names = [f"r{number}" for number in range(6)]
    state = running(*names)
    for run_id in names[:5]:
        done(state, end(run_id))
    assert done(state, SetRetention(1))[1:] == (RunEvicted("r0"), RunEvicted("r1"))
    assert done(state, end("r5"))[1:] == (RunEvicted("r2"), RunEvicted("r3"))


def test_only_a_run_that_has_ended_is_deleted() -> None:
    state = running("r1")
    assert refusal(state, DeleteRun("r1", 1)) == "run_unfinished"
    assert refused_as(state, DeleteRun("r1", 1)) == "run 'r1' has not ended (running): cancel or terminate it first"
    assert refusal(state, DeleteRun("never", 1)) == "unknown_run"
    done(state, end("r1"))
    assert refusal(state, DeleteRun("r1", 2)) == "stale_generation"
    assert done(state, DeleteRun("r1", 1)) == (RunDeleted("r1"),)
    assert refused_as(state, DeleteRun("r1", 1)) == "run 'r1' was deleted"
    assert refused_as(state, CancelRun("r1")) == "run 'r1' was deleted"


# --- ids that were used before


def test_the_id_of_a_deleted_run_is_free_and_its_next_run_begins_in_the_next_generation() -> None:
    state = running("r1")
    done(state, end("r1"))
    done(state, DeleteRun("r1", 1))
    assert done(state, start("r1")) == (WorkflowStarted("r1", "order", 1),)
    assert (state.runs["r1"].generation, state.runs["r1"].first_generation) == (2, 2)
    assert refusal(state, checkpoint("0/late")) == "stale_generation"
    assert refusal(state, end("r1", b"late")) == "stale_generation"
    assert refusal(state, StartRun("r1", "order", 1, b"other", format=RECORD_FORMAT)) == "run_conflict"
    assert done(state, start("r1")) == ()
    assert done(state, EndRun("r1", 1, 1, b"new", None, generation=2)) == (WorkflowCompleted("r1", b"new"),)
    assert refusal(state, DeleteRun("r1", 1)) == "stale_generation"


def test_a_start_from_outside_of_an_evicted_run_stays_refused_and_names_the_options() -> None:
    state = running("r1", "r2", limits=Limits(runs_kept=1))
    done(state, end("r1"))
    done(state, end("r2"))
    assert refusal(state, start("r1")) == "run_evicted"
    assert "keep_runs=1, keep_bytes=1000000000" in refused_as(state, start("r1"))


def test_a_child_that_is_waited_for_runs_again_after_it_was_evicted() -> None:
    state = running("r1", "r2", limits=Limits(runs_kept=1))
    done(state, child())
    done(state, end("cache/1"))
    done(state, end("r2"))
    assert "cache/1" in state.evicted
    events = done(state, child(step_id="1/fit"))
    assert isinstance(events[0], CheckpointSet)
    assert events[0].step.failure is None
    assert events[1:] == (WorkflowStarted("cache/1", "order", 1, "r1"),)
    assert state.runs["cache/1"].generation == 2
    assert "cache/1" not in state.evicted


@pytest.mark.parametrize("command", [child(step_id="1/fit", detached=True), child(step_id="1/fit", again=False)])
def test_a_detached_child_and_one_of_an_earlier_versions_log_stay_refused_once_they_are_evicted(
    command: StartChild,
) -> None:
    state = running("r1", "r2", limits=Limits(runs_kept=1))
    done(state, child())
    done(state, end("cache/1"))
    done(state, end("r2"))
    (recorded,) = done(state, command)
    assert recorded.step.failure.type_name == "run_evicted"


def test_a_child_that_is_asked_for_again_is_evicted_later() -> None:
    state = running("r1", "r2", "r3", limits=Limits(runs_kept=2))
    done(state, child())
    done(state, end("cache/1"))
    done(state, end("r2"))
    done(state, child(step_id="1/fit"))
    assert done(state, end("r3"))[1:] == (RunEvicted("r2"),)
    assert list(state.finished) == ["cache/1", "r3"]


def test_what_was_evicted_or_deleted_is_remembered_up_to_a_horizon() -> None:
    names = [f"r{number}" for number in range(4)]
    state = running(*names, limits=msgspec.structs.replace(Limits(), evicted_run_ids=2))
    for run_id in names:
        done(state, end(run_id))
        done(state, DeleteRun(run_id, 1))
    assert dict(state.deleted) == {"r2": 1, "r3": 1}
    assert done(state, start("r0")) == (WorkflowStarted("r0", "order", 1),)
    assert state.runs["r0"].generation == 1

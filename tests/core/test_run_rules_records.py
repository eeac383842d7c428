"""The run's time, timers, notes of what was taken, and runs that tell others: the rules, one by one."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from raftoral_nb.core.apply import apply
from raftoral_nb.core.commands import (
    CancelRun,
    ContinueRun,
    EndRun,
    FireTimers,
    NoteTaken,
    PauseRun,
    SaveStepState,
    SendSignal,
    SetCheckpoint,
    StartChild,
    StartRun,
    Takeover,
    TellRun,
)
from raftoral_nb.core.events import CancelRequested, CheckpointSet, MessageSent, RunResumed, TimerFired
from raftoral_nb.core.records import CancelRecord, Failure, Message, Operation, Step, TimersFired
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.validation import Limits
from raftoral_nb.limits import MAX_NAME_CHARS, MAX_REASON_CHARS
from tests.core.commands import checkpoint, definition, done, end, refusal, running, start


def fire(due: float = 5.0, at: float | None = None, **more: Any) -> FireTimers:
    at = due if at is None else at
    version, generation, taken = more.get("version", 0), more.get("generation", 1), more.get("taken", 0)
    return FireTimers("r1", due, at, more.get("node", 1), more.get("epoch", 1), version, generation, taken)


def tell(operation: Operation = "signal", target: str = "r2", step_id: str = "0/tell", **more: Any) -> TellRun:
    step = Step(step_id, operation, b"told", None, more.get("node", 1), more.get("epoch", 1), more.get("at", 0.0))
    name, value = ("go", b"v") if operation == "signal" else ("why", b"")
    version, generation = more.get("version", 0), more.get("generation", 1)
    return TellRun("r1", step, target, more.get("signal_id", "s1"), name, value, version, generation)


def changed(command: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(command, **changes)


# --- time


def test_the_time_of_a_run_begins_with_its_start_and_is_that_of_its_last_record() -> None:
    state = running()
    done(state, start("r1", 10.0))
    run = state.runs["r1"]
    assert (run.start_time, run.begun_at, run.time) == (10.0, 10.0, 10.0)
    done(state, checkpoint(at=12.0))
    assert (run.start_time, run.begun_at, run.time) == (10.0, 10.0, 12.0)


def test_time_never_goes_back_whatever_the_clocks_of_those_say_who_record() -> None:
    state = running()
    done(state, start("r1", 10.0))
    (recorded,) = done(state, checkpoint(at=3.0))
    (sent,) = done(state, SendSignal("r1", "s1", "go", b"", at=4.0))
    done(state, checkpoint("1/late", at=20.0))
    (fired,) = done(state, fire(15.0, 16.0))
    (asked,) = done(state, CancelRun("r1", "why", 5.0))
    run = state.runs["r1"]
    assert [record.at for record in run.records] == [10.0, 10.0, 20.0, 20.0, 20.0]
    assert run.records[0] == recorded.step == run.by_id["0/charge"]
    assert run.records[1] == sent.message
    assert (fired.timers.due, fired.timers.at, asked.at, run.time) == (15.0, 20.0, 20.0, 20.0)


def test_a_child_starts_at_the_time_of_its_parent() -> None:
    state = running()
    done(state, start("r1", 10.0))
    step = Step("0/c", "child", b"c", None, 1, 1, 3.0)
    done(state, StartChild("r1", step, 1, "c", "order", None, b"in", False, format=RECORD_FORMAT))
    assert (state.runs["c"].start_time, state.runs["c"].time) == (10.0, 10.0)


def test_a_run_that_begins_anew_does_so_at_its_time_or_later() -> None:
    for at, begun in ((3.0, 10.0), (11.0, 11.0)):
        state = running()
        done(state, start("r1", 10.0))
        (event,) = done(state, ContinueRun("r1", 1, 1, 1, b"", at))
        run = state.runs["r1"]
        assert (event.at, run.begun_at, run.time, run.start_time) == (begun, begun, begun, 10.0)


# --- timers


def test_timers_that_are_due_fire_as_one_record() -> None:
    state = running("r1")
    record = TimersFired(5.0, 7.0, 1, 1)
    assert done(state, fire(5.0, 7.0)) == (TimerFired("r1", record),)
    run = state.runs["r1"]
    assert (run.records, run.time, run.fired_until, run.steps) == ([record], 7.0, 7.0, ())


@pytest.mark.parametrize("due", [5.0, 6.0, 7.0, 1.0])
def test_what_has_fired_does_not_fire_again(due: float) -> None:
    state = running("r1")
    done(state, fire(5.0, 7.0))
    assert refusal(state, fire(due, 9.0)) == "already_recorded"
    done(state, fire(7.5, 9.0))


def test_what_was_due_before_the_time_of_another_record_fires_all_the_same() -> None:
    state = running("r1")
    done(state, checkpoint(at=8.0))
    (event,) = done(state, fire(5.0))
    assert event.timers.at == 8.0
    assert refusal(state, fire(8.0)) == "already_recorded", "it fired too: it was due by then"


def test_timers_that_fired_before_a_run_began_anew_do_not_keep_later_ones_from_firing() -> None:
    state = running("r1")
    done(state, fire(5.0, 7.0))
    done(state, ContinueRun("r1", 1, 1, 1, b"", 6.0))
    done(state, fire(7.5, generation=2))


RECORDING: list[Any] = [
    fire(),
    tell(),
    NoteTaken("r1", 1, 1, 1),
    SaveStepState("r1", "0/s", 1, b"", 1, 1),
    checkpoint(),
    end(),
]


@pytest.mark.parametrize("command", RECORDING, ids=lambda command: type(command).__name__)
def test_only_the_acting_node_records_for_an_unfinished_run_its_version_and_its_generation(command: Any) -> None:
    def other(**changes: Any) -> Any:
        if hasattr(command, "step"):
            inner = {name: changes.pop(name) for name in ("node", "epoch") if name in changes}
            changes["step"] = msgspec.structs.replace(command.step, **inner)
        return msgspec.structs.replace(command, **changes)

    state = running("r1", "r2")
    assert refusal(state, other(node=2)) == "stale_epoch"
    assert refusal(state, other(epoch=2)) == "stale_epoch"
    assert refusal(state, other(version=2)) == "stale_version"
    assert refusal(state, other(generation=2)) == "stale_generation"
    assert refusal(state, other(run_id="r9")) == "unknown_run"
    done(state, Takeover(2, 2))
    assert refusal(state, command) == "stale_epoch"
    done(state, other(node=2, epoch=2, version=1))
    done(state, EndRun("r1", 2, 2, b"", None)) if not isinstance(command, EndRun) else None
    assert refusal(state, other(node=2, epoch=2)) == "run_ended"


# --- what was taken


def test_a_note_of_what_was_taken_makes_room_and_is_no_record() -> None:
    state = running("r1", limits=Limits(unreceived_signals=1))
    done(state, SendSignal("r1", "s1", "go", b""))
    assert refusal(state, SendSignal("r1", "s2", "go", b"")) == "too_many_signals"
    assert done(state, NoteTaken("r1", 1, 1, 1)) == ()
    assert len(state.runs["r1"].records) == 1
    done(state, SendSignal("r1", "s2", "go", b""))


def test_what_was_taken_only_rises_and_is_at_most_what_came() -> None:
    state = running("r1")
    for number in range(3):
        done(state, SendSignal("r1", f"s{number}", "go", b""))
    for said, taken in ((1, 1), (0, 1), (2, 2), (7, 3)):
        done(state, NoteTaken("r1", said, 1, 1))
        assert (state.runs["r1"].received, state.runs["r1"].taken) == (3, taken)


def child() -> StartChild:
    step = Step("0/c", "child", b"c", None, 1, 1)
    return StartChild("r1", step, 1, "c", "order", None, b"", False, format=RECORD_FORMAT)


@pytest.mark.parametrize(
    "command",
    [checkpoint(), fire(), tell(), tell("cancel"), tell(target="r9"), child(), changed(child(), workflow="none")],
    ids=repr,
)
def test_whatever_the_acting_node_records_says_what_was_taken(command: Any) -> None:
    state = running("r1", "r2")
    done(state, SendSignal("r1", "s0", "go", b""))
    done(state, changed(command, taken=1))
    assert state.runs["r1"].taken == 1


# --- telling others


def test_a_signal_to_another_run_is_sent_with_the_step_that_stands_for_it() -> None:
    state = running("r1", "r2")
    recorded, sent = done(state, tell(at=4.0))
    message = Message("s1", "signal", "go", b"v", None, 4.0)
    assert (recorded, sent) == (CheckpointSet("r1", tell(at=4.0).step), MessageSent("r2", message))
    assert state.runs["r2"].records == [message]
    assert refusal(state, tell()) == "already_recorded"


def test_a_run_may_signal_itself() -> None:
    state = running("r1")
    done(state, tell(target="r1"))
    assert [type(record) for record in state.runs["r1"].records] == [Step, Message]


def test_a_signal_that_was_sent_before_under_its_id_is_recorded_and_not_sent_again() -> None:
    state = running("r1", "r2")
    done(state, tell())
    assert len(done(state, tell(step_id="1/tell"))) == 1
    assert len(state.runs["r2"].records) == 1


@pytest.mark.parametrize(("target", "why"), [("r9", "unknown_run"), ("r2", "run_ended"), ("r3", "too_many_signals")])
def test_a_signal_that_cannot_be_sent_is_recorded_as_that(target: str, why: str) -> None:
    state = running("r1", "r2", "r3", limits=Limits(unreceived_signals=1))
    done(state, end("r2"))
    done(state, SendSignal("r3", "s0", "go", b""))
    (event,) = done(state, tell(target=target))
    assert (event.step.value, event.step.failure.type_name) == (None, why)
    assert event.step == state.runs["r1"].by_id["0/tell"]


def test_a_request_that_another_run_end_is_made_with_the_step_that_stands_for_it() -> None:
    state = running("r1", "r2")
    done(state, PauseRun("r2"))
    recorded, resumed, asked = done(state, tell("cancel", at=4.0))
    assert recorded.step.value == b"told"
    assert (resumed, asked) == (RunResumed("r2"), CancelRequested("r2", "why", 4.0))
    assert state.runs["r2"].records == [CancelRecord("why", 4.0)]
    assert len(done(state, tell("cancel", step_id="1/tell"))) == 1, "it was asked before"


def test_a_request_to_a_run_that_has_ended_or_is_unknown_is_recorded_as_that() -> None:
    state = running("r1", "r2")
    done(state, end("r2"))
    (event,) = done(state, tell("cancel"))
    assert event.step.failure.type_name == "run_ended"
    (event,) = done(state, tell("cancel", "r9", "1/tell"))
    assert event.step.failure == Failure("unknown_run", "no run 'r9' is known")


# --- other operations than those of this format


@pytest.mark.parametrize("operation", ["receive", "join", "sleep", "now", "race"])
def test_steps_that_only_earlier_versions_recorded_are_refused_for_runs_of_today(operation: Any) -> None:
    state = running("r1")
    assert refusal(state, SetCheckpoint("r1", Step("0/a", operation, b"", None, 1, 1))) == "bad_command"


# --- malformed commands


RENEWAL = ContinueRun("r1", 1, 1, 1, b"", 0.0, 0, 3, (1, 3))
NO_NUMBERS: tuple[Any, ...] = (-1, True, 1.0, "1", None, 2**63)

MALFORMED = [
    *(changed(fire(), due=bad) for bad in (math.nan, math.inf, -math.inf, 5, "5", None)),
    *(changed(fire(), at=bad) for bad in (math.nan, math.inf, 4.9, 6, None)),
    *(
        changed(command, **{name: bad})
        for command, names in (
            (fire(), ("node", "epoch", "version", "generation", "taken")),
            (NoteTaken("r1", 1, 1, 1), ("node", "epoch", "version", "generation", "taken")),
            (tell(), ("version", "generation", "taken")),
            (checkpoint(), ("version", "generation", "taken")),
            (child(), ("parent_version", "generation", "taken", "format")),
            (RENEWAL, ("had", "version", "generation", "node", "epoch")),
            (start(), ("format", "version")),
        )
        for name in names
        for bad in NO_NUMBERS
        if name != "epoch" or bad != -1  # which is the number of an assignment
    ),
    *(changed(fire(), **{name: 0}) for name in ("node", "epoch", "generation")),
    *(changed(start(), format=bad) for bad in (0,)),
    *(changed(command, run_id=bad) for command in (fire(), tell(), NoteTaken("r1", 1, 1, 1)) for bad in ("", None, 3)),
    *(changed(tell(), target=bad) for bad in ("", None, "r" * (MAX_NAME_CHARS + 1))),
    *(changed(tell(), signal_id=bad) for bad in ("", None, "\nr2", "s" * (MAX_NAME_CHARS + 1))),
    *(changed(tell(), name=bad) for bad in ("", None, "n" * (MAX_NAME_CHARS + 1))),
    *(changed(tell("cancel"), name=bad) for bad in (None, "n" * (MAX_REASON_CHARS + 1))),
    *(changed(tell(), value=bad) for bad in (None, "text", b"x" * 21)),
    *(changed(tell(), step=bad) for bad in (None, checkpoint().step, Step("0/t", "signal", None, None, 1, 1))),
    changed(tell(), step=Step("0/t", "signal", None, Failure("E", ""), 1, 1)),
    *(changed(RENEWAL, left=bad) for bad in (None, [1], (0,), (1, 1), (3, 1), (4,), (True,), ("s1",), (1.0,))),
    *(changed(RENEWAL, cancelled=bad) for bad in (None, 1)),
]


@pytest.mark.parametrize("command", MALFORMED, ids=repr)
def test_a_malformed_command_is_refused(command: Any) -> None:
    assert refusal(running("r1", "r2", limits=Limits(value_bytes=20)), command) == "bad_command"


def test_commands_in_logs_of_earlier_versions_are_read_as_of_the_first_format() -> None:
    state = running()
    old = msgspec.msgpack.decode(msgspec.msgpack.encode(["start", "r1", "order", 1, b"in", 2.5]), type=StartRun)
    done(state, old)
    assert state.runs["r1"].format == 1
    assert not any(apply(state, old, 9))
    assert state.definitions["order", 1] == definition()

"""Commands and states that the examples of the core begin with."""

from __future__ import annotations

from typing import Any

from raftoral_nb.core.apply import Applied, apply, apply_entry
from raftoral_nb.core.commands import (
    Command,
    EndRun,
    Entry,
    Proposal,
    RegisterWorkflow,
    Rejected,
    SetCheckpoint,
    StartRun,
    Takeover,
)
from raftoral_nb.core.events import CommandRefused
from raftoral_nb.core.records import Definition, Failure, ProposalId, Step
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.state import State, summary
from raftoral_nb.core.validation import Limits

FAILURE = Failure("ValueError", "no such card")


def definition(fingerprint: str = "f1", version: int = 1, code: bytes = b"code") -> Definition:
    return Definition("order", version, fingerprint, "digest", code, {"cell 1": "async def order(): ..."})


def checkpoint(
    step_id: str = "0/charge",
    value: bytes | None = b"1",
    *,
    run_id: str = "r1",
    node: int = 1,
    epoch: int = 1,
    **more: Any,
) -> SetCheckpoint:
    step = Step(step_id, "compute", value, more.get("failure"), node, epoch, more.get("at", 0.0))
    return SetCheckpoint(run_id, step, 0, more.get("generation", 1), more.get("taken", 0))


def start(run_id: str = "r1", at: float = 0.0) -> StartRun:
    return StartRun(run_id, "order", 1, b"in", at, format=RECORD_FORMAT)


def end(run_id: str = "r1", result: bytes | None = b"done", failure: Failure | None = None, epoch: int = 1) -> EndRun:
    return EndRun(run_id, epoch, 1, result, failure)


def running(*run_ids: str, limits: Limits | None = None) -> State:
    """Node 1 acts in term 1, `order` version 1 is registered, and the runs are started."""
    state = State(limits or Limits())
    commands: list[Command] = [Takeover(1, 1), RegisterWorkflow(definition())]
    commands += [start(run_id) for run_id in run_ids]
    for command in commands:
        done(state, command)
    return state


def done(state: State, command: Command, index: int = 9) -> tuple[Any, ...]:
    """Apply a command that must be accepted."""
    events = apply(state, command, index)
    assert not any(isinstance(event, CommandRefused) for event in events), events
    return events


def refusal(state: State, command: Any) -> str:
    """Apply a command that must be refused and change nothing; its code."""
    before = summary(state)
    (event,) = apply(state, command, 9)
    assert isinstance(event, CommandRefused)
    assert event.reason
    assert summary(state) == before
    return event.code


def propose(state: State, index: int, client: str, number: int, command: Command) -> Applied:
    (applied,) = apply_entry(state, index, Entry((Proposal(ProposalId(client, number), command),)))
    return applied


def code(applied: Applied) -> str:
    assert isinstance(applied.answer, Rejected)
    return applied.answer.code


def live_blobs(state: State) -> set[str]:
    """The digests of the blobs that runs of a state refer to."""
    return set(state.blob_runs)

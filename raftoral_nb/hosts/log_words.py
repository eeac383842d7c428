"""A node's log for readers: its entries in words, and which of them are committed. Runs on the consensus loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..core.commands import (
    AssignRun,
    BindStep,
    CacheStep,
    CancelRun,
    ChangeMembers,
    ClearCache,
    ContinueRun,
    DeleteRun,
    EndRun,
    FireTimers,
    MoveRun,
    NoteTaken,
    OfferNode,
    PauseRun,
    RegisterWorkflow,
    ReserveNumber,
    ResumeRun,
    SaveStepState,
    SendSignal,
    SetCheckpoint,
    SetRetention,
    SetValueLimit,
    StartChild,
    StartRun,
    Takeover,
    TellRun,
    TerminateRun,
    WithdrawNode,
)
from ..core.labels import offer_words
from ..core.statistics import LogEntry
from ..raft.journal import proposals_in


def entries(tail: Iterable[tuple[bytes, int, int]], commit: int) -> tuple[LogEntry, ...]:
    """Return entries of a log in words: of each, in the log's order, its bytes, index and term. `commit` is the last committed index."""
    return tuple(
        LogEntry(
            index=index,
            term=term,
            committed=index <= commit,
            commands=tuple(command_words(proposal.command) for proposal in proposals_in(data)),
        )
        for data, index, term in tail
    )


_DONE_TO_RUNS: Final[dict[type, str]] = {
    StartRun: "start",
    EndRun: "end",
    ContinueRun: "begin anew:",
    MoveRun: "move",
    SendSignal: "signal to",
    CancelRun: "cancel",
    PauseRun: "pause",
    ResumeRun: "resume",
    TerminateRun: "terminate",
    DeleteRun: "delete",
}
"""The words for what a command does to the run that it names."""


def command_words(command: Any) -> str:
    """Return a command in a few words; one that nobody has found words for, by its name."""
    match command:
        case Takeover(node=node):
            return f"takeover by node {node}"
        case ChangeMembers(node=node, change=change):
            return f"{change} node {node}"
        case ReserveNumber(node=node):
            return f"reserve number {node}"
        case RegisterWorkflow(definition=definition):
            return f"register {definition.workflow}, version {definition.version}"
        case OfferNode(node=node, runs=runs, labels=labels):
            return f"node {node} offers to do {offer_words(runs, labels)}"
        case WithdrawNode(node=node):
            return f"node {node} does no steps any more"
        case AssignRun(run_id=run_id, node=node):
            return f"{run_id}: to {f'node {node}' if node else 'another node'}"
        case BindStep(run_id=run_id, step_ids=step_ids, where=where):
            return f"{run_id}: step {step_ids[-1]} to a node with label {where}"
        case SetRetention(keep_runs=runs, keep_bytes=size):
            kept = {"keep_runs": runs, "keep_bytes": size}
            return ", ".join(f"{option}={number}" for option, number in kept.items() if number is not None)
        case SetValueLimit(max_value_bytes=size):
            return f"max_value_bytes={size}"
        case SetCheckpoint(run_id=run_id, step=step):
            return f"{run_id}: step {step.step_id}"
        case CacheStep(run_id=run_id, step=step):
            how = "to be cached" if step.cached_from is None else f"cached from {step.cached_from}"
            return f"{run_id}: step {step.step_id}, {how}"
        case ClearCache(name=name):
            return "clear the cache of steps" if name is None else f"clear the cache of steps {name}"
        case StartChild(run_id=run_id, step=step, child_id=child_id):
            return f"{run_id}: step {step.step_id} starts {child_id}"
        case FireTimers(run_id=run_id):
            return f"{run_id}: timers fired"
        case NoteTaken(run_id=run_id, taken=taken):
            return f"{run_id}: {taken} messages received so far"
        case SaveStepState(run_id=run_id, step_id=step_id, number=number):
            return f"{run_id}: step {step_id} saves its state, number {number}"
        case TellRun(run_id=run_id, step=step, target=target):
            told = f"sends signal {command.name} to" if step.operation == "signal" else "asks to end"
            return f"{run_id}: step {step.step_id} {told} {target}"
    verb = _DONE_TO_RUNS.get(type(command))
    return type(command).__name__ if verb is None else f"{verb} {command.run_id}"

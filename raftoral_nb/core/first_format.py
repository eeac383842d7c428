"""Runs of the first format, as logs and snapshots of earlier versions hold them: what `run_rules` does otherwise for them.

Nothing executes such a run any more, and nothing records steps of it. But its log is still applied, and must mean what it meant, on a node
that reads it as on one whose snapshot stands for it. So `Run.records` is here what the snapshots of that format held: the steps, and
behind them the messages that wait. A step took a message, and got its value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from .records import EarlierOperation, Message, Record, Step

if TYPE_CHECKING:
    from .run_record import Run

OPERATIONS: Final[frozenset[str]] = frozenset(get_args(EarlierOperation))
"""The operations that only runs of this format have."""

# Lists are replaced, not changed: a snapshot that is being written may hold them.


def append(run: Run, record: Any) -> Any:
    """Add a step or a message to a run; return it, its time as it was proposed. Anything else was no record."""
    if isinstance(record, Step):
        run.records = [*run.by_id.values(), record, *_messages(run)]
    elif isinstance(record, Message):
        run.records = [*run.records, record]
    return record


def waits(run: Run, message_id: str) -> bool:
    """Return whether a run is of this format, and such a message waits for it."""
    return run.format == 1 and any(message.message_id == message_id for message in _messages(run))


def taking(run: Run, step: Step) -> Step | None:
    """Return a step with what the message holds that it takes, if it takes one; None if no such message waits."""
    if step.operation not in ("receive", "join") or step.message_id is None:
        return step
    for message in _messages(run):
        if message.message_id == step.message_id:
            run.records = [record for record in run.records if record is not message]
            run.received -= message.kind != "child"
            return msgspec.structs.replace(step, value=message.value, failure=message.failure)
    return None


def close(run: Run) -> None:
    """Drop the messages that wait: the run has ended."""
    run.records, run.received = tuple(run.by_id.values()), 0


def _messages(run: Run) -> list[Message]:
    records: list[Record] | tuple[Record, ...] = run.records
    return [record for record in records[len(run.by_id) :] if isinstance(record, Message)]

"""The part of the replicated state about one run. Part of `state`, and changed by `run_rules` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from .records import Definition, Failure, NodeId, Record, RunId, Step, StepId, StepState
from .statistics import UNFINISHED, RunStatus

if TYPE_CHECKING:
    from .commands import StartRun

RECORD_FORMAT: Final = 2
"""The format of a run's records: 1 had a record for each operation, found by its place in the code; 2 is replayed in the order of the log."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """Something that was done to a run, for its history. `at` is Unix seconds."""

    at: float
    change: Literal["asked to end", "paused", "resumed", "began anew"]
    reason: str = ""


class Binding(msgspec.Struct, frozen=True, gc=False):
    """What a step is bound to: a label, and the node that has it and does the step; 0 as long as none has it."""

    where: str
    node: NodeId
    number: int
    """As that of an assignment: negative, and named by what the node records of the step."""
    group: StepId
    """The step that it stands for: steps of one group go to one node."""


class Run(msgspec.Struct):
    """One execution of a workflow, and all that was recorded of it."""

    run_id: RunId
    # Invariant: set when the run starts and replaced by `MoveRun` alone, not when its version is registered anew.
    definition: Definition
    input: bytes
    started_at: int
    """The log index of the entry that started it."""
    # Invariant: only appended to, in the order of the log, while the run is unfinished; when it begins anew, those messages of it that
    # nobody took, and a request to cancel that its code did not get. Of the first format: see `first_format`. When it has ended a tuple: the garbage collector does not walk through a tuple of records, and a state holds
    # hundreds of thousands.
    records: list[Record] | tuple[Record, ...] = msgspec.field(default_factory=list)
    # Invariant: the steps in `records`, by their step_id, each once, in the same order.
    by_id: dict[StepId, Step] = msgspec.field(default_factory=dict)
    # Invariant: leaves `UNFINISHED` once. Then exactly one of `result` and `failure` is set; before, neither.
    status: RunStatus = "running"
    result: bytes | None = None
    failure: Failure | None = None
    # Invariant: only rises, by one each time the run begins anew.
    generation: int = 1
    # Invariant: the generation that it was started in: above 1 if another run had its run_id before, and was deleted or evicted.
    first_generation: int = 1
    # Invariant: the bytes that its input, records, result and failure keep, those of a blob once. See `retention`.
    kept_bytes: int = 0
    # Invariant: the blobs that those refer to, by digest, with their sizes in bytes.
    blobs: dict[str, int] = msgspec.field(default_factory=dict)
    start_time: float = 0.0
    """Unix seconds, by the clock of the node that asked for it."""
    end_time: float | None = None
    """Unix seconds, by the clock of the node that recorded the end."""
    time: float = 0.0
    """The run's time: that of its last record, or of its start (Unix seconds). Only rises."""
    begun_at: float = 0.0
    """The run's time when its present generation began."""
    # Invariant: the `at` of the last `TimersFired`; what is due up to it has fired. Only rises.
    fired_until: float = 0.0
    # Invariant: the signals and updates in `records`.
    received: int = 0
    # Invariant: at most `received`; what the acting node said last. Which messages wait is known to executions alone.
    taken: int = 0
    # Invariant: at most `Limits.signal_ids`, the latest that were sent.
    signal_ids: dict[str, None] = msgspec.field(default_factory=dict)
    # Invariant: set exactly if the records hold a request to cancel. (Of the first format: once set, stays set.)
    cancel_reason: str | None = None
    parent: RunId | None = None
    """The run that started it."""
    # Invariant: unfinished runs; the value says whether they end with this one (False: detached, or started by another).
    children: dict[RunId, bool] = msgspec.field(default_factory=dict)
    watchers: dict[RunId, int] = msgspec.field(default_factory=dict)
    """Runs that are told of its end, with the generation of them that asked."""
    # Invariant: at most `MAX_RUN_CHANGES_KEPT`, the latest.
    changes: list[Change] = msgspec.field(default_factory=list)
    digest: str = ""
    """The canonical digest of the input that it was started with; "" if none was given."""

    start_id: str = ""
    """The name of the start that made it, if its run_id was chosen for that start; else "".

    Known to a repetition of that start alone."""

    format: int = 1
    """The format of its records; runs of an earlier one than `RECORD_FORMAT` are not executed."""

    owner: NodeId = 0
    """The node that does its steps; 0: the leader. Once it has ended, the one that did last. See `ownership`."""
    # Invariant: 0 or negative; another one each time it is assigned, or its owner offers itself anew.
    assigned: int = 0

    # Invariant: of steps that are not in `records`; none once the run has ended.
    bound: dict[StepId, Binding] = msgspec.field(default_factory=dict)

    # Invariant: of steps that are not in `records`, at most `Limits.step_states`; none once the run has ended.
    step_states: dict[StepId, StepState] = msgspec.field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """Messages that were sent and, as far as the acting node said, not taken yet. None wait for a run that has ended."""
        return self.received - self.taken if self.unfinished else 0

    @property
    def missing_label(self) -> str | None:
        """The label that one of its steps waits for, as no node has it; None if none does. From any thread."""
        return next((one.where for one in tuple(self.bound.values()) if not one.node), None)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in `records`, in the order of the log. A copy."""
        return tuple(self.by_id.values())

    @property
    def unfinished(self) -> bool:
        """True if it has not ended (a paused one has not)."""
        return self.status in UNFINISHED

    def differs_from(self, command: StartRun) -> str | None:
        """Return how a request to start a run differs from this one, which is known by that id; None if it does not."""
        known = self.definition
        if known.workflow != command.workflow:
            return f"another workflow: {known.workflow!r}, not {command.workflow!r}"
        if known.version != command.version:
            return f"another version of {known.workflow!r}: {known.version}, not {command.version}"
        # Equal values may have other bytes. Without digests, as in logs of earlier versions, the bytes are all there is.
        alike = self.input == command.input or (self.digest != "" and self.digest == command.digest)
        if alike or self.generation > self.first_generation:
            return None
        return "another input (workflow and version are the same)"

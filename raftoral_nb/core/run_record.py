"""The part of the replicated state about one run. Part of `state`, and changed by `run_rules` alone."""

from __future__ import annotations

from typing import Literal

import msgspec

from .records import Definition, Failure, Message, RunId, Step, StepId
from .statistics import UNFINISHED, RunStatus


class Change(msgspec.Struct, frozen=True, gc=False):
    """Something that was done to a run, for its history. `at` is Unix seconds."""

    at: float
    change: Literal["asked to end", "paused", "resumed", "began anew"]
    reason: str = ""


class Run(msgspec.Struct):
    """One execution of a workflow, and all that was recorded of it."""

    run_id: RunId
    # Invariant: set when the run starts and replaced by `MoveRun` alone, not when its version is registered anew.
    definition: Definition
    input: bytes
    started_at: int
    """The log index of the entry that started it."""
    # Invariant: only appended to, in the order of the log, while the run is unfinished; emptied when it begins anew. When it has
    # ended a tuple: the garbage collector does not walk through a tuple of records, and a state holds hundreds of thousands.
    steps: list[Step] | tuple[Step, ...] = msgspec.field(default_factory=list)
    # Invariant: the same steps as in `steps`, by their step_id, each once.
    by_id: dict[StepId, Step] = msgspec.field(default_factory=dict)
    # Invariant: leaves `UNFINISHED` once. Then exactly one of `result` and `failure` is set; before, neither.
    status: RunStatus = "running"
    result: bytes | None = None
    failure: Failure | None = None
    # Invariant: only rises, by one each time the run begins anew.
    generation: int = 1
    start_time: float = 0.0
    """Unix seconds, by the clock of the node that asked for it."""
    end_time: float | None = None
    """Unix seconds, by the clock of the node that recorded the end."""
    # Invariant: sent and not taken, in the order of the log; emptied when the run ends.
    waiting: dict[str, Message] = msgspec.field(default_factory=dict)
    # Invariant: at most `Limits.signal_ids`, the latest that were sent.
    signal_ids: dict[str, None] = msgspec.field(default_factory=dict)
    # Invariant: once set, stays set, also when the run begins anew.
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

    @property
    def unfinished(self) -> bool:
        """True if it has not ended (a paused one has not)."""
        return self.status in UNFINISHED

"""Events that result from applied commands, and the union of all events of a cluster."""

from __future__ import annotations

from typing import Literal

import msgspec

from .cluster_events import (
    CampaignAsked,
    ClusterRecovered,
    EffectStarted,
    ExecutionStopped,
    MessageTaken,
    NetworkChanged,
    NodeBlocked,
    NodeChanged,
    RecoveryProgress,
    RoleChanged,
    RunHeld,
    ScenarioChanged,
    SnapshotInstalled,
    StepProgress,
    StepRetrying,
    StorageFailed,
    TransferAsked,
    UnauthenticatedConnectionsRefused,
    ValueHeld,
)
from .records import Failure, Message, NodeId, RunId, Step, StepId, TimersFired


class EpochChanged(msgspec.Struct, frozen=True, gc=False):
    """`node` may act from here on (until a later epoch), having taken over in `term`."""

    node: NodeId
    term: int


class MembersChanged(msgspec.Struct, frozen=True, gc=False):
    """The voting members changed."""

    members: tuple[NodeId, ...]


class NumberReserved(msgspec.Struct, frozen=True, gc=False):
    """A number was taken for a node that is to join."""

    node: NodeId


class WorkflowRegistered(msgspec.Struct, frozen=True, gc=False):
    """A definition was added, or replaced under the same version."""

    workflow: str
    version: int
    replaced: bool


class WorkflowStarted(msgspec.Struct, frozen=True, gc=False):
    """A run was accepted; every node begins to execute it."""

    run_id: RunId
    workflow: str
    version: int
    parent: RunId | None = None
    """The run that started it, if one did."""


class CheckpointSet(msgspec.Struct, frozen=True, gc=False):
    """A step of a run was recorded."""

    run_id: RunId
    step: Step


class StepStateSaved(msgspec.Struct, frozen=True, gc=False):
    """The function of a running step saved its state (`current_step().checkpoint(...)`), for the next attempt at it."""

    run_id: RunId
    step_id: StepId
    number: int
    """Counts from 1 what was saved of this step; some numbers may be left out."""
    size: int
    """Of the encoded value, in bytes."""


class CacheCleared(msgspec.Struct, frozen=True, gc=False):
    """The cache of steps was cleared, of what functions of that name computed, or (None) of everything."""

    name: str | None
    dropped: int
    """Results that were in it."""


class TimerFired(msgspec.Struct, frozen=True, gc=False):
    """Timers of a run fired: all that were due."""

    run_id: RunId
    timers: TimersFired


class WorkflowCompleted(msgspec.Struct, frozen=True, gc=False):
    """A run ended with a result (encoded)."""

    run_id: RunId
    result: bytes


class WorkflowFailed(msgspec.Struct, frozen=True, gc=False):
    """A run ended with a failure."""

    run_id: RunId
    failure: Failure


class RunMoved(msgspec.Struct, frozen=True, gc=False):
    """A run continues with another version of its workflow.

    Every node executes it from the top, with the records it had.
    """

    run_id: RunId
    version: int
    steps: int
    """The number of records that it had."""


class WorkflowDropped(msgspec.Struct, frozen=True, gc=False):
    """An old version of a workflow that no unfinished run uses was dropped, to keep memory bounded."""

    workflow: str
    version: int


class WorkflowCancelled(msgspec.Struct, frozen=True, gc=False):
    """A run ended because it was asked to, after whatever cleanup its code did."""

    run_id: RunId
    failure: Failure


class WorkflowTerminated(msgspec.Struct, frozen=True, gc=False):
    """A run was ended at once, without cleanup."""

    run_id: RunId
    failure: Failure


class WorkflowContinued(msgspec.Struct, frozen=True, gc=False):
    """A run began anew with another input; `generation` counts from 1, which is the first."""

    run_id: RunId
    generation: int
    input: bytes
    at: float = 0.0
    """The run's time then (Unix seconds)."""
    carried: int = 0
    """How many records it begins with: messages that nobody had taken, and a request to cancel."""


class MessageSent(msgspec.Struct, frozen=True, gc=False):
    """A message waits for a run from here on: a signal, an update, or the end of one of its children."""

    run_id: RunId
    message: Message


class RunEvicted(msgspec.Struct, frozen=True, gc=False):
    """A finished run's records were dropped, to keep memory bounded. `option` says which bound it was."""

    run_id: RunId
    option: Literal["keep_runs", "keep_bytes"] = "keep_runs"


class RunDeleted(msgspec.Struct, frozen=True, gc=False):
    """A finished run's records were dropped, because somebody asked for that. Its `run_id` is free again."""

    run_id: RunId


class BlobsDropped(msgspec.Struct, frozen=True, gc=False):
    """No run refers to these blobs any more: the runs that did were evicted or deleted, or began anew.

    An entry of the log that comes later may refer to one of them again: who removes blobs keeps those that were stored a moment ago.
    """

    digests: tuple[str, ...]


class NodeOffered(msgspec.Struct, frozen=True, gc=False):
    """A node offered itself: to own runs (`runs`), and to do steps that are bound to one of its labels."""

    node: NodeId
    runs: bool
    labels: tuple[str, ...]
    token: str
    """Of this start of the node."""


class NodeWithdrawn(msgspec.Struct, frozen=True, gc=False):
    """A node does no steps any more, as it is gone or held: its runs go to others."""

    node: NodeId


class RunAssigned(msgspec.Struct, frozen=True, gc=False):
    """A run has an owner from here on, which does its steps; 0: it has none, and the leader does them."""

    run_id: RunId
    node: NodeId
    number: int
    """Of the assignment; negative. The owner's records name it."""
    token: str
    """Of the start of the node that is meant."""


class StepBound(msgspec.Struct, frozen=True, gc=False):
    """A step is bound to a node from here on, which has the label `where`; 0: no node has it, and the step waits for one."""

    run_id: RunId
    step_id: StepId
    where: str
    node: NodeId
    number: int
    """As of an assignment."""
    token: str


class RetentionSet(msgspec.Struct, frozen=True, gc=False):
    """From here on so many finished runs are kept, and so many bytes of them."""

    keep_runs: int
    keep_bytes: int


class ValueLimitSet(msgspec.Struct, frozen=True, gc=False):
    """From here on values of up to so many encoded bytes are kept. Runs that are held by a larger one go on if it fits now."""

    max_value_bytes: int


class CommandRefused(msgspec.Struct, frozen=True, gc=False):
    """A command changed nothing; `code` is stable, `reason` is text."""

    code: str
    reason: str


class CancelRequested(msgspec.Struct, frozen=True, gc=False):
    """A run was asked to end. It ends as cancelled unless its code decides otherwise."""

    run_id: str
    reason: str
    at: float = 0.0
    """The run's time of its record (Unix seconds)."""


class RunPaused(msgspec.Struct, frozen=True, gc=False):
    """No new step of the run begins from here on."""

    run_id: str


class RunResumed(msgspec.Struct, frozen=True, gc=False):
    """The run continues."""

    run_id: str


StateEvent = (
    EpochChanged
    | MembersChanged
    | NumberReserved
    | WorkflowRegistered
    | WorkflowStarted
    | CheckpointSet
    | StepStateSaved
    | CacheCleared
    | TimerFired
    | WorkflowCompleted
    | WorkflowFailed
    | RunMoved
    | WorkflowDropped
    | WorkflowCancelled
    | WorkflowTerminated
    | WorkflowContinued
    | MessageSent
    | CancelRequested
    | RunPaused
    | RunResumed
    | RunEvicted
    | RunDeleted
    | BlobsDropped
    | NodeOffered
    | NodeWithdrawn
    | RunAssigned
    | StepBound
    | RetentionSet
    | ValueLimitSet
    | CommandRefused
)


ClusterEvent = (
    StateEvent
    | NodeChanged
    | NetworkChanged
    | TransferAsked
    | CampaignAsked
    | ScenarioChanged
    | RoleChanged
    | SnapshotInstalled
    | StorageFailed
    | UnauthenticatedConnectionsRefused
    | RecoveryProgress
    | ClusterRecovered
    | EffectStarted
    | MessageTaken
    | StepRetrying
    | StepProgress
    | NodeBlocked
    | ValueHeld
    | ExecutionStopped
    | RunHeld
)

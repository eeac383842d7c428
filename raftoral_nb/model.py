"""The words everything else is written in: identifiers, limits, commands, records and events.

All of it is frozen data (`msgspec.Struct`), without behaviour, I/O, clocks or threads, and `gc=False`: made of values that were
there before, it cannot be part of a cycle, and the garbage collector need not walk through hundreds of thousands of them. Commands are what a node
proposes; records are what the replicated state keeps; events are what applying a command says happened.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from .cluster_events import CampaignAsked as CampaignAsked
from .cluster_events import ClusterRecovered as ClusterRecovered
from .cluster_events import EffectStarted as EffectStarted
from .cluster_events import ExecutionStopped as ExecutionStopped
from .cluster_events import LinkDelay as LinkDelay
from .cluster_events import NetworkChanged as NetworkChanged
from .cluster_events import NodeBlocked as NodeBlocked
from .cluster_events import NodeChanged as NodeChanged
from .cluster_events import OutputLine as OutputLine
from .cluster_events import RecoveryProgress as RecoveryProgress
from .cluster_events import RoleChanged as RoleChanged
from .cluster_events import RunHeld as RunHeld
from .cluster_events import ScenarioChanged as ScenarioChanged
from .cluster_events import SnapshotInstalled as SnapshotInstalled
from .cluster_events import StepProgress as StepProgress
from .cluster_events import StepRetrying as StepRetrying
from .cluster_events import StorageFailed as StorageFailed
from .cluster_events import StrangersRefused as StrangersRefused
from .cluster_events import TransferAsked as TransferAsked
from .control import CancelRequested as CancelRequested
from .control import CancelRun as CancelRun
from .control import PauseRun as PauseRun
from .control import ResumeRun as ResumeRun
from .control import RunPaused as RunPaused
from .control import RunResumed as RunResumed
from .control import SendSignal as SendSignal
from .control import TerminateRun as TerminateRun
from .differences import Difference as Difference
from .outcomes import Committed as Committed
from .outcomes import Outcome as Outcome
from .outcomes import Rejected as Rejected
from .outcomes import Unknown as Unknown

# --- Identifiers ---------------------------------------------------------------------------------------------------

NodeId = int
"""Nodes are numbered 1, 2, 3 ..."""

RunId = str
StepId = str
"""Branch path, ordinal within the branch, and key: `0/charge`, or `2.1.0/fit` inside branch 1 of operation 2."""


class ProposalId(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Names one proposal for ever: retries carry the same id, so that it is applied at most once.

    `client` names one incarnation of one node and starts with the log index it was born at (`"{birth}.{node}.{nonce}"`);
    `number` counts that client's proposals from 1.
    """

    client: str
    number: int

    @property
    def birth(self) -> int:
        """The applied index at which the client was made (entries)."""
        return int(self.client.partition(".")[0])


# --- Records -------------------------------------------------------------------------------------------------------

Operation = Literal[
    "compute",
    "intent",
    "var",
    "set",
    "update",
    "now",
    "sleep",
    "wake",
    "deadline",
    "expiry",
    "race",
    "group",
    "patched",
    "due",
    "receive",
    "answer",
    "child",
    "join",
]
"""What kind of step was recorded. A replay that asks for another kind than the recorded one has diverged."""


class Failure(msgspec.Struct, frozen=True, gc=False):
    """An exception as data: readable everywhere, even where the exception itself does not unpickle.

    `exception` holds the encoded exception, as far as it came back from its pickle on the node that raised it; None if its class did not.
    `traceback` is text, engine frames left out.
    """

    type_name: str
    message: str
    traceback: str = ""
    exception: bytes | None = None

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


class Message(msgspec.Struct, frozen=True, gc=False):
    """What waits for a run until a step takes it: a signal, an update (which wants an answer), or the end of a child run.

    Of a child's end, `name` is the child's run_id, and a failure may stand in place of the value.
    """

    message_id: str
    kind: Literal["signal", "update", "child"]
    name: str
    value: bytes | None
    failure: Failure | None = None
    at: float = 0.0
    """When it was sent (Unix seconds, the sender's clock)."""


class Step(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One recorded step (a checkpoint). Exactly one of `value` and `failure` is set."""

    step_id: StepId
    operation: Operation
    value: bytes | None
    failure: Failure | None
    node: NodeId
    epoch: int
    at: float = 0.0
    """When it was proposed (Unix seconds, the clock of `node`). To be shown; decides nothing."""
    message_id: str | None = None
    """The message that this step took, or the update that it answered."""
    cancelled: bool = False
    """Whether the request to cancel the run interrupted it; then `failure` says so."""

    @property
    def key(self) -> str:
        """The name the workflow gave the step."""
        return self.step_id.partition("/")[2]


class Definition(msgspec.Struct, frozen=True, gc=False):
    """A registered workflow: its code, and the text of its source for tracebacks after a restart.

    `fingerprint` decides whether a re-run cell changed anything (normalised source and captured values); `digest` is
    the digest of `code` and guards its transport. `sources` maps a code file name (a notebook cell) to its text.
    """

    workflow: str
    version: int
    fingerprint: str
    digest: str
    code: bytes
    sources: dict[str, str]
    made_with: dict[str, str] = {}
    """The versions of Python (`python`) and of the packages that the code refers to, where it was registered."""
    arithmetic: dict[str, str] | UnsetType = UNSET
    """The decimal context and numpy's error state where it was registered, as far as they differ from the usual."""


# --- Commands ------------------------------------------------------------------------------------------------------


class Takeover(msgspec.Struct, frozen=True, gc=False, tag="takeover", array_like=True):
    """A new leader's claim to act in `term`; accepted if the term is greater than the current epoch's."""

    node: NodeId
    term: int


class ChangeMembers(msgspec.Struct, frozen=True, gc=False, tag="members", array_like=True):
    """Adds a node to the members that count for majorities, or takes one out; one node at a time."""

    node: NodeId
    change: Literal["add", "remove"]


class ReserveNumber(msgspec.Struct, frozen=True, gc=False, tag="reserve", array_like=True):
    """Takes the number of a node that is to join, for its proposer alone: refused if a node has or had it, or another took it."""

    node: NodeId


class RegisterWorkflow(msgspec.Struct, frozen=True, gc=False, tag="register", array_like=True):
    """Adds or replaces a workflow definition."""

    definition: Definition


class StartRun(msgspec.Struct, frozen=True, gc=False, tag="start", array_like=True):
    """Starts a run, once per `run_id`."""

    run_id: RunId
    workflow: str
    version: int
    input: bytes
    at: float = 0.0
    digest: str = ""
    """The canonical digest of the input, by which an equal one is known; "" if there is none."""


class SetCheckpoint(msgspec.Struct, frozen=True, gc=False, tag="checkpoint", array_like=True):
    """Records a step's result; the first record of a step wins, and only the current epoch may record.

    Of a step that takes a message the value is that of the message, whatever was proposed. A record of an earlier
    `generation` of the run is refused.
    """

    run_id: RunId
    step: Step
    version: int = 0
    """The version of the workflow that asked for it; 0 if any may."""
    generation: int = 1


class StartChild(msgspec.Struct, frozen=True, gc=False, tag="child", array_like=True):
    """Records a step and starts the child run that it stands for, or records why it cannot be started.

    `version` None means the latest one. A child that is `detached` is neither cancelled with its parent nor waited for.
    """

    run_id: RunId
    step: Step
    generation: int
    child_id: RunId
    workflow: str
    version: int | None
    input: bytes
    detached: bool
    parent_version: int = 0
    """As of a checkpoint."""
    digest: str = ""
    """Of the input, as of a run that is started."""


class EndRun(msgspec.Struct, frozen=True, gc=False, tag="end", array_like=True):
    """Records a run's result or failure; the first wins, and only the current epoch may record."""

    run_id: RunId
    epoch: int
    node: NodeId
    result: bytes | None
    failure: Failure | None
    version: int = 0
    """As of a checkpoint."""
    cancelled: bool = False
    """Whether the failure is that the run was cancelled."""
    generation: int = 1
    at: float = 0.0


class ContinueRun(msgspec.Struct, frozen=True, gc=False, tag="continue", array_like=True):
    """Ends a run's execution and begins it anew with another input: the next `generation`, without steps."""

    run_id: RunId
    epoch: int
    node: NodeId
    generation: int
    """The one that ends."""
    input: bytes
    at: float = 0.0
    version: int = 0
    """As of a checkpoint."""


class MoveRun(msgspec.Struct, frozen=True, gc=False, tag="move", array_like=True):
    """Has an unfinished run go on with another version; only if it has still `steps` steps, those that were replayed."""

    run_id: RunId
    version: int
    steps: int
    generation: int = 1


Command = (
    Takeover
    | ChangeMembers
    | ReserveNumber
    | RegisterWorkflow
    | StartRun
    | SetCheckpoint
    | StartChild
    | EndRun
    | ContinueRun
    | MoveRun
    | SendSignal
    | CancelRun
    | PauseRun
    | ResumeRun
    | TerminateRun
)


class Proposal(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A command with the id under which it is retried and answered. `id` is None only for a `Takeover`."""

    id: ProposalId | None
    command: Command


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one Raft entry carries: proposals that waited together, applied in order.

    `members`, if given, are the nodes that count for majorities from this entry on: on every node as soon as the entry is in
    its log, committed or not (Ongaro's dissertation, 2014, section 4.1). Only a leader decides that, when it appends it.
    """

    proposals: tuple[Proposal, ...]
    members: tuple[NodeId, ...] | None = None


# --- Events of apply -----------------------------------------------------------------------------------------------


class EpochChanged(msgspec.Struct, frozen=True, gc=False):
    """`node` may act from here on (until a later epoch), having taken over in `term`."""

    node: NodeId
    term: int


class MembersChanged(msgspec.Struct, frozen=True, gc=False):
    """The nodes that count for majorities became others."""

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


class WorkflowCompleted(msgspec.Struct, frozen=True, gc=False):
    """A run ended with a result (encoded)."""

    run_id: RunId
    result: bytes


class WorkflowFailed(msgspec.Struct, frozen=True, gc=False):
    """A run ended with a failure."""

    run_id: RunId
    failure: Failure


class RunMoved(msgspec.Struct, frozen=True, gc=False):
    """A run goes on with another version of its workflow: every node executes it from the top, with the steps it had."""

    run_id: RunId
    version: int
    steps: int


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


class MessageSent(msgspec.Struct, frozen=True, gc=False):
    """A message waits for a run from here on: a signal, an update, or the end of one of its children."""

    run_id: RunId
    message: Message


class RunEvicted(msgspec.Struct, frozen=True, gc=False):
    """A finished run's records were dropped, to keep memory bounded."""

    run_id: RunId


class CommandRefused(msgspec.Struct, frozen=True, gc=False):
    """A command changed nothing; `code` is stable, `reason` is for people."""

    code: str
    reason: str


StateEvent = (
    EpochChanged
    | MembersChanged
    | NumberReserved
    | WorkflowRegistered
    | WorkflowStarted
    | CheckpointSet
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
    | StrangersRefused
    | RecoveryProgress
    | ClusterRecovered
    | EffectStarted
    | StepRetrying
    | StepProgress
    | NodeBlocked
    | ExecutionStopped
    | RunHeld
)

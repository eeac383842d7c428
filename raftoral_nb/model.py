"""The words everything else is written in: identifiers, limits, commands, records and events.

All of it is frozen data (`msgspec.Struct`), without behaviour, I/O, clocks or threads, and `gc=False`: made of values that were
there before, it cannot be part of a cycle, and the garbage collector need not walk through hundreds of thousands of them. Commands are what a node
proposes; records are what the replicated state keeps; events are what applying a command says happened.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .differences import Difference as Difference  # noqa: PLC0414 - it is part of the model

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
]
"""What kind of step was recorded. A replay that asks for another kind than the recorded one has diverged."""


class Failure(msgspec.Struct, frozen=True, gc=False):
    """An exception as data: readable everywhere, even where the exception itself does not unpickle.

    `exception` holds the encoded exception when it survived a round trip on the node that raised it, else None.
    `traceback` is text, engine frames left out.
    """

    type_name: str
    message: str
    traceback: str = ""
    exception: bytes | None = None

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


class Step(msgspec.Struct, frozen=True, gc=False):
    """One recorded step (a checkpoint). Exactly one of `value` and `failure` is set."""

    step_id: StepId
    operation: Operation
    value: bytes | None
    failure: Failure | None
    node: NodeId
    epoch: int

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


# --- Commands ------------------------------------------------------------------------------------------------------


class Takeover(msgspec.Struct, frozen=True, gc=False, tag="takeover", array_like=True):
    """A new leader's claim to act in `term`; accepted if the term is greater than the current epoch's."""

    node: NodeId
    term: int


class ChangeMembers(msgspec.Struct, frozen=True, gc=False, tag="members", array_like=True):
    """Adds a node to the members that count for majorities, or takes one out; one node at a time."""

    node: NodeId
    change: Literal["add", "remove"]


class RegisterWorkflow(msgspec.Struct, frozen=True, gc=False, tag="register", array_like=True):
    """Adds or replaces a workflow definition."""

    definition: Definition


class StartRun(msgspec.Struct, frozen=True, gc=False, tag="start", array_like=True):
    """Starts a run, once per `run_id`."""

    run_id: RunId
    workflow: str
    version: int
    input: bytes


class SetCheckpoint(msgspec.Struct, frozen=True, gc=False, tag="checkpoint", array_like=True):
    """Records a step's result; the first record of a step wins, and only the current epoch may record."""

    run_id: RunId
    step: Step
    version: int = 0
    """The version of the workflow that asked for it; 0 if any may."""


class EndRun(msgspec.Struct, frozen=True, gc=False, tag="end", array_like=True):
    """Records a run's result or failure; the first wins, and only the current epoch may record."""

    run_id: RunId
    epoch: int
    node: NodeId
    result: bytes | None
    failure: Failure | None
    version: int = 0
    """As of a checkpoint."""


class MoveRun(msgspec.Struct, frozen=True, gc=False, tag="move", array_like=True):
    """Has an unfinished run go on with another version; only if it has still `steps` steps, those that were replayed."""

    run_id: RunId
    version: int
    steps: int


Command = Takeover | ChangeMembers | RegisterWorkflow | StartRun | SetCheckpoint | EndRun | MoveRun


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


# --- Answers to a proposal -----------------------------------------------------------------------------------------


class Committed(msgspec.Struct, frozen=True, gc=False, tag="committed"):
    """The command was applied. `index` is the log index of its entry."""

    index: int


class Rejected(msgspec.Struct, frozen=True, gc=False, tag="rejected"):
    """The command was certainly not carried out, and `reason` says why."""

    reason: str
    code: str = "refused"


class Unknown(msgspec.Struct, frozen=True, gc=False, tag="unknown"):
    """The deadline came first: the command may still commit later. Retrying under the same id is safe."""

    reason: str


Outcome = Committed | Rejected | Unknown

# --- Events of apply -----------------------------------------------------------------------------------------------


class EpochChanged(msgspec.Struct, frozen=True, gc=False):
    """`node` may act from here on (until a later epoch), having taken over in `term`."""

    node: NodeId
    term: int


class MembersChanged(msgspec.Struct, frozen=True, gc=False):
    """The nodes that count for majorities became others."""

    members: tuple[NodeId, ...]


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
    | WorkflowRegistered
    | WorkflowStarted
    | CheckpointSet
    | WorkflowCompleted
    | WorkflowFailed
    | RunMoved
    | WorkflowDropped
    | RunEvicted
    | CommandRefused
)

# --- Events of the cluster (what no log entry says) -----------------------------------------------------------------


class LinkDelay(msgspec.Struct, frozen=True, gc=False):
    """How much longer the way over a link takes, each way: `seconds`, give or take up to `jitter` seconds."""

    seconds: float
    jitter: float = 0.0


class NodeChanged(msgspec.Struct, frozen=True, gc=False):
    """Something was done to a node, or befell it."""

    node: NodeId
    change: Literal["started", "killed", "restarted", "paused", "resumed", "held", "released", "removed", "stopped"]


class NetworkChanged(msgspec.Struct, frozen=True, gc=False):
    """Something was done to links between nodes. `links` are those it was done to; one that is cut one way is (from, to).

    `groups` is set when the network was partitioned, `node` when all links of one node were meant, `delay` when they were
    slowed.
    """

    change: Literal["cut", "cut one way", "isolated", "partitioned", "slowed", "healed"]
    links: tuple[tuple[NodeId, NodeId], ...]
    groups: tuple[tuple[NodeId, ...], ...] = ()
    node: NodeId | None = None
    delay: LinkDelay | None = None


class TransferAsked(msgspec.Struct, frozen=True, gc=False):
    """The leader `source` was asked to hand leadership to `target`. Whether it happened is told by `EpochChanged`."""

    source: NodeId
    target: NodeId


class CampaignAsked(msgspec.Struct, frozen=True, gc=False):
    """Nodes were told to campaign in the same moment, without waiting for their election timeouts."""

    nodes: tuple[NodeId, ...]


class ScenarioChanged(msgspec.Struct, frozen=True, gc=False):
    """What a scenario comes to: it began, acted (`text` is what it did), said something, or ended (`text` says why)."""

    scenario: str
    change: Literal["started", "acted", "noted", "completed", "stopped", "failed"]
    text: str = ""


class RoleChanged(msgspec.Struct, frozen=True, gc=False):
    """A node's Raft role changed."""

    node: NodeId
    role: Literal["leader", "follower", "candidate"]
    term: int


class SnapshotInstalled(msgspec.Struct, frozen=True, gc=False):
    """A node that was too far behind for the log took over the state of the leader, as it was at `index`."""

    node: NodeId
    index: int


class StorageFailed(msgspec.Struct, frozen=True, gc=False):
    """A node's disk did not take what was to be stored, and the node stepped aside; it tries again by itself."""

    node: NodeId
    reason: str


class ClusterRecovered(msgspec.Struct, frozen=True, gc=False):
    """What a cluster found in its data directory: unfinished runs go on, recorded steps and cells need not be done again."""

    runs: int
    unfinished: int
    steps: int
    workflows: int
    seconds: float


class EffectStarted(msgspec.Struct, frozen=True, gc=False):
    """The acting leader began to run a step's function."""

    node: NodeId
    run_id: RunId
    step_id: StepId


class StepRetrying(msgspec.Struct, frozen=True, gc=False):
    """An attempt at a step failed; the acting leader waits `seconds` and tries again. `attempt` counts from 1."""

    node: NodeId
    run_id: RunId
    step_id: StepId
    attempt: int
    failure: str
    seconds: float


class StepProgress(msgspec.Struct, frozen=True, gc=False):
    """A step that is running says how far it has come: `fraction` is from 0 to 1."""

    node: NodeId
    run_id: RunId
    step_id: StepId
    fraction: float
    text: str


class NodeBlocked(msgspec.Struct, frozen=True, gc=False):
    """A workflow has kept its node's thread busy for over a second without awaiting anything."""

    node: NodeId
    run_id: RunId
    where: str


class ExecutionStopped(msgspec.Struct, frozen=True, gc=False):
    """One node's execution of a run ended otherwise than the run itself did."""

    node: NodeId
    run_id: RunId
    status: Literal["diverged", "superseded"]
    reason: str
    difference: Difference | None = None
    """Of one that diverged."""


class RunHeld(msgspec.Struct, frozen=True, gc=False):
    """Every living node has diverged from a run: it stands still until it is moved to a version that fits its record."""

    run_id: RunId
    difference: Difference


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
    | ClusterRecovered
    | EffectStarted
    | StepRetrying
    | StepProgress
    | NodeBlocked
    | ExecutionStopped
    | RunHeld
)


class OutputLine(msgspec.Struct, frozen=True, gc=False):
    """A line that a workflow printed or logged, or that the engine says about its execution. `time` is Unix seconds."""

    time: float
    node: NodeId
    run_id: RunId
    stream: Literal["stdout", "stderr", "log", "engine"]
    text: str

"""Commands that a node proposes: how they are packed into entries, and how a proposal ends.

Every command that a user asks for says when it was proposed (`at`, Unix seconds by the proposer's wall clock): data to
show and to search by, which decides nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .records import Definition, Failure, NodeId, ProposalId, RunId, Step, StepId


class Takeover(msgspec.Struct, frozen=True, gc=False, tag="takeover", array_like=True):
    """A new leader's claim to act in `term`; accepted if the term is greater than the current epoch's."""

    node: NodeId
    term: int


class ChangeMembers(msgspec.Struct, frozen=True, gc=False, tag="members", array_like=True):
    """The command to add a voting member, or to remove one; one node at a time."""

    node: NodeId
    change: Literal["add", "remove"]
    blobs_to: int = 0
    """The index up to which a majority of `counted` has all large values that the log refers to. A leader does not make the change if a
    later entry refers to some."""
    counted: tuple[NodeId, ...] = ()
    """The members after the change. A leader does not make it if there would be others; empty: nobody was counted."""


class ReserveNumber(msgspec.Struct, frozen=True, gc=False, tag="reserve", array_like=True):
    """The command to reserve the number of a node that is to join, for its proposer alone.

    It is refused if a node has or had it, or another took it.
    """

    node: NodeId


class RegisterWorkflow(msgspec.Struct, frozen=True, gc=False, tag="register", array_like=True):
    """The command to add or replace a workflow definition."""

    definition: Definition


class StartRun(msgspec.Struct, frozen=True, gc=False, tag="start", array_like=True):
    """The command to start a run, once per `run_id`."""

    run_id: RunId
    workflow: str
    version: int
    input: bytes
    at: float = 0.0
    digest: str = ""
    """The canonical digest of the input, by which an equal one is known; "" if there is none."""
    format: int = 1
    """The format of the run's records, `RECORD_FORMAT`; commands of earlier versions do not say so."""
    start_id: str = ""
    """The name of this start, no other start's, where the `run_id` was chosen for it: a run that another start made is not meant, and
    the command is refused. "" where the `run_id` was given: the run of that id is meant, whoever started it."""


class SetCheckpoint(msgspec.Struct, frozen=True, gc=False, tag="checkpoint", array_like=True):
    """The command to record a step's result; the first record of a step wins, and only the current epoch may record.

    A record of an earlier `generation` of the run is refused.
    """

    run_id: RunId
    step: Step
    version: int = 0
    """The version of the workflow that asked for it; 0 if any may."""
    generation: int = 1
    taken: int = 0
    """How many messages the execution had taken, in this generation."""


class FireTimers(msgspec.Struct, frozen=True, gc=False, tag="timers", array_like=True):
    """The command to fire all timers of a run that are due by `at`; `due` is the earliest due time (both Unix seconds).

    Refused if what was due then has fired already. Only the current epoch may record.
    """

    run_id: RunId
    due: float
    at: float
    node: NodeId
    epoch: int
    version: int = 0
    """As of a checkpoint."""
    generation: int = 1
    taken: int = 0


class NoteTaken(msgspec.Struct, frozen=True, gc=False, tag="taken", array_like=True):
    """The command to note how many messages a run has taken, where it takes many and records nothing else. No record of the run's."""

    run_id: RunId
    taken: int
    node: NodeId
    epoch: int
    version: int = 0
    generation: int = 1


class SaveStepState(msgspec.Struct, frozen=True, gc=False, tag="state", array_like=True):
    """The command to save the state of a step whose function is running, for the next attempt. No record of the run's.

    Only the current epoch may save, and only while the step is not recorded. A later one replaces an earlier one: `number` rises,
    and what is older than what is saved is refused.
    """

    run_id: RunId
    step_id: StepId
    number: int
    value: bytes
    node: NodeId
    epoch: int
    version: int = 0
    """As of a checkpoint."""
    generation: int = 1
    at: float = 0.0


class CacheStep(msgspec.Struct, frozen=True, gc=False, tag="cached", array_like=True):
    """The command to record a step as `SetCheckpoint` does, and to note it in the cache of steps.

    A step that says where its value is `cached_from` was found there, and counts as a hit; any other is put into the cache. If it cannot be
    recorded, the cache stays as it is.
    """

    run_id: RunId
    step: Step
    key: str
    name: str
    inputs: str
    """As of a `CachedStep`."""
    version: int = 0
    """As of a checkpoint."""
    generation: int = 1
    taken: int = 0


class ClearCache(msgspec.Struct, frozen=True, gc=False, tag="clear-cache", array_like=True):
    """The command to drop what is in the cache of steps: all of it, or what functions of one name computed."""

    name: str | None = None


class TellRun(msgspec.Struct, frozen=True, gc=False, tag="tell", array_like=True):
    """The command to record a step and do what it stands for: send a signal to another run, or ask it to end.

    The step's operation says which ("signal" or "cancel"). What cannot be done is recorded as the step's failure.
    """

    run_id: RunId
    step: Step
    target: RunId
    signal_id: str
    name: str
    """Of the signal; of a request to end, the reason."""
    value: bytes
    """Of the signal; of a request to end, empty."""
    version: int = 0
    """As of a checkpoint."""
    generation: int = 1
    taken: int = 0


class StartChild(msgspec.Struct, frozen=True, gc=False, tag="child", array_like=True):
    """The command to record a step and start the child run that it stands for, or record why it cannot be started.

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
    format: int = 1
    """As of a run that is started."""
    taken: int = 0
    again: bool = False
    """True if a child that was evicted is started again; one that is there, and has ended, is evicted later then. See `retention`."""


class EndRun(msgspec.Struct, frozen=True, gc=False, tag="end", array_like=True):
    """The command to record a run's result or failure; the first wins, and only the current epoch may record."""

    run_id: RunId
    epoch: int
    node: NodeId
    result: bytes | None
    failure: Failure | None
    version: int = 0
    """As of a checkpoint."""
    cancelled: bool = False
    """True if the failure is that the run was cancelled."""
    generation: int = 1
    at: float = 0.0


class ContinueRun(msgspec.Struct, frozen=True, gc=False, tag="continue", array_like=True):
    """The command to end a run's execution and begin it anew with another input: the next `generation`, without steps.

    Messages that nobody took go along: those of `left`, and those that came behind the first `had`. Signals and updates are numbered
    from 1 in the run's records: ids may repeat, once they are forgotten.
    """

    run_id: RunId
    epoch: int
    node: NodeId
    generation: int
    """The one that ends."""
    input: bytes
    at: float = 0.0
    version: int = 0
    """As of a checkpoint."""
    had: int = 0
    """How many of the run's signals and updates had had their turn."""
    left: tuple[int, ...] = ()
    """The numbers of those in the mailbox then, ascending."""
    cancelled: bool = False
    """True if the code got the request to cancel the run; one that it did not get goes along."""


class MoveRun(msgspec.Struct, frozen=True, gc=False, tag="move", array_like=True):
    """The command to continue an unfinished run with another version.

    It applies only if the run still has `steps` records, those that were replayed.
    """

    run_id: RunId
    version: int
    steps: int
    generation: int = 1


class SendSignal(msgspec.Struct, frozen=True, gc=False, tag="signal", array_like=True):
    """The command to send a message to a run, once per `signal_id`; with `update`, one that asks for an answer."""

    run_id: str
    signal_id: str
    name: str
    value: bytes
    update: bool = False
    at: float = 0.0


class CancelRun(msgspec.Struct, frozen=True, gc=False, tag="cancel", array_like=True):
    """The command to ask a run to end: its main task is cancelled, once, and it may clean up.

    Its attached children are asked too.
    """

    run_id: str
    reason: str = ""
    at: float = 0.0


class PauseRun(msgspec.Struct, frozen=True, gc=False, tag="pause", array_like=True):
    """The command to let no new step of a run begin, until it is resumed."""

    run_id: str
    at: float = 0.0


class ResumeRun(msgspec.Struct, frozen=True, gc=False, tag="resume", array_like=True):
    """The command to end a run's pause."""

    run_id: str
    at: float = 0.0


class TerminateRun(msgspec.Struct, frozen=True, gc=False, tag="terminate", array_like=True):
    """The command to end a run at once, without cleanup; its attached children too."""

    run_id: str
    reason: str = ""
    at: float = 0.0


class DeleteRun(msgspec.Struct, frozen=True, gc=False, tag="delete", array_like=True):
    """The command to drop what is recorded of a run that has ended. Its `run_id` is free again then.

    A run that is in another `generation` is not meant: another has the id by now.
    """

    run_id: str
    generation: int
    at: float = 0.0


class OfferNode(msgspec.Struct, frozen=True, gc=False, tag="offer", array_like=True):
    """The command by which a node offers itself: to own runs, and to do steps that are bound to one of its labels.

    Each start of a node has a `token` of its own, so that nothing of before is taken for it.
    """

    node: NodeId
    token: str
    runs: bool
    """Whether it takes runs; if not, only steps that are bound to its labels."""
    labels: tuple[str, ...] = ()
    at: float = 0.0


class WithdrawNode(msgspec.Struct, frozen=True, gc=False, tag="withdraw", array_like=True):
    """The command to give what a node does to others. An offer of that node under another `token` is not meant."""

    node: NodeId
    token: str
    at: float = 0.0


class AssignRun(msgspec.Struct, frozen=True, gc=False, tag="assign", array_like=True):
    """The command to give a run to another owner; 0: to any other, one after the other of all there are.

    A run whose assignment is not `number` any more stays where it is (0: whichever it has).
    """

    run_id: RunId
    node: NodeId = 0
    number: int = 0
    at: float = 0.0


class BindStep(msgspec.Struct, frozen=True, gc=False, tag="bind", array_like=True):
    """The command to bind an open step of a run to a node that has a label. Only whoever may record for the run binds its steps."""

    run_id: RunId
    step_ids: tuple[StepId, ...]
    """Of the step, behind that of its intent if it has one: both go to the same node."""
    where: str
    """The label."""
    node: NodeId
    epoch: int
    version: int = 0
    """As of a checkpoint."""
    generation: int = 1
    at: float = 0.0


class SetRetention(msgspec.Struct, frozen=True, gc=False, tag="retention", array_like=True):
    """The command to keep so many finished runs, and so many bytes of them; None: as many as before."""

    keep_runs: int | None = None
    keep_bytes: int | None = None


class SetValueLimit(msgspec.Struct, frozen=True, gc=False, tag="value_limit", array_like=True):
    """The command to keep values of up to so many encoded bytes."""

    max_value_bytes: int


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


Command = (
    Takeover
    | ChangeMembers
    | ReserveNumber
    | RegisterWorkflow
    | StartRun
    | SetCheckpoint
    | FireTimers
    | NoteTaken
    | SaveStepState
    | CacheStep
    | ClearCache
    | TellRun
    | StartChild
    | EndRun
    | ContinueRun
    | MoveRun
    | SendSignal
    | CancelRun
    | PauseRun
    | ResumeRun
    | TerminateRun
    | DeleteRun
    | OfferNode
    | WithdrawNode
    | AssignRun
    | BindStep
    | SetRetention
    | SetValueLimit
)


class WithBlobs(msgspec.Struct, frozen=True, gc=False, tag="blobs", array_like=True):
    """A command that refers to large values, which a majority of `members` has stored.

    It is refused, with the code `members_changed`, where the voting members are others. Stands nowhere but in a `Proposal`.
    """

    command: Command
    members: tuple[NodeId, ...]


class Proposal(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A command with the id under which it is retried and answered. `id` is None only for a `Takeover`."""

    id: ProposalId | None
    carried: Command | WithBlobs
    """The command, as it stands in the log."""

    @property
    def command(self) -> Command:
        """The command, without what was counted for its large values."""
        carried = self.carried
        return carried.command if isinstance(carried, WithBlobs) else carried


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The contents of one Raft entry: proposals that waited together, applied in order.

    `members`, if given, are the voting members from this entry on: on every node as soon as the entry is in
    its log, committed or not (Ongaro's dissertation, 2014, section 4.1). Only a leader decides that, when it appends it.
    """

    proposals: tuple[Proposal, ...]
    members: tuple[NodeId, ...] | None = None

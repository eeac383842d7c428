"""Frozen snapshots of a running cluster: what `Cluster.statistics()` returns, and what every view is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from .cluster_events import LinkDelay
from .records import CancelRecord, Difference, Message, MoveRecord, NodeId, Record, RunId, Step, StepId

Role = Literal["leader", "follower", "candidate", "dead"]
RunStatus = Literal["running", "paused", "completed", "failed", "cancelled", "terminated"]
UNFINISHED: Final = frozenset({"running", "paused"})
"""The statuses of a run that has not ended."""
ExecutionStatus = Literal[
    "running", "completed", "failed", "cancelled", "terminated", "continued", "diverged", "unreadable", "superseded"
]
"""The status of a node's execution of a run.

"continued": the run began anew, and another execution of it with it. "diverged": it did not do what is recorded. "unreadable": the
code, or a value that is recorded, does not unpickle on this node.
"""
STUCK: Final = frozenset({"diverged", "unreadable"})
"""The statuses of an execution that cannot continue, while its run does on other nodes."""


MAX_WAITS_TOLD: Final = 16
"""Branches of one execution of which is told what they wait for: the first ones."""
MAX_QUEUE_TOLD: Final = 8
"""Records of one catch-up queue that are told one by one: the next ones."""


class StepActivity(msgspec.Struct, frozen=True, kw_only=True):
    """A step whose function a node runs now, or is about to try again."""

    step_id: StepId
    attempt: int
    """The number of this attempt, from 1."""
    fraction: float | None
    """The progress that the function reported, from 0 to 1; None if it reported none."""
    text: str
    failure: str | None = None
    """How the attempt before failed; between two attempts, how the one did that `attempt` counts. None if none failed."""
    again_at: float | None = None
    """Between two attempts: the time when the next one begins (Unix seconds, the node's clock). None while one runs."""


class RecordMark(msgspec.Struct, frozen=True, gc=False):
    """A record of a run, as it is named to people.

    `kind` is a step's operation, or `signal arrived`, `update arrived`, `child ended`, `timers fired`, `cancel requested`, `moved`.
    `name` is the step_id, the message's name, the child's run_id, the reason, or the version; "" for timers.
    """

    kind: str
    name: str


_MESSAGES: Final = {"signal": "signal arrived", "update": "update arrived", "child": "child ended"}


def record_mark(record: Record) -> RecordMark:
    """Return the name of a record."""
    match record:
        case Step():
            return RecordMark(record.operation, record.step_id)
        case Message():
            return RecordMark(_MESSAGES[record.kind], record.name)
        case CancelRecord():
            return RecordMark("cancel requested", record.reason)
        case MoveRecord():
            return RecordMark("moved", f"version {record.version}")
        case _:
            return RecordMark("timers fired", "")


class BranchWait(msgspec.Struct, frozen=True, kw_only=True):
    """What one branch (task) of an execution waits for."""

    branch: str
    """The branch's path, such as `2.1.` or `t1.`; empty for the workflow itself."""
    name: str
    """The name of its task, where the workflow gave one; else empty."""
    kind: Literal["step", "signal", "update", "child", "time", "tasks", "other"]
    """`tasks`: other branches of the run. `other`: something that only they can bring about (a lock, a queue, a future)."""
    what: str
    """The step_id, the names of the messages (`'yes' or 'no'`), the child's run_id, the paths of branches, or what it awaits (`Lock.acquire`)."""
    operation: str = ""
    """Of a step."""
    label: str = ""
    """That of the nodes that may do the step, if it names one (`where=`)."""
    until: float | None = None
    """When that is over: the end of a sleep, or the timeout of anything else (Unix seconds of the run's time); None if not known."""


class ExecutionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of one node's execution of one run."""

    status: ExecutionStatus
    step: int
    """Recorded steps this node has consumed."""
    last_step_id: StepId | None
    """The step consumed last."""
    catch_up_queue: int
    """Records (steps, messages, timers, ...) that have not had their turn here yet."""
    effects_run: int
    """Step functions this node itself ran in this run (its present incarnation)."""
    activities: tuple[StepActivity, ...] = ()
    """The steps whose functions it runs now."""
    problem: str | None = None
    """The reason why this node stopped executing the run before the run ended; None if it did not."""
    had: int = 0
    """Records that have had their turn here: the number of the last turn."""
    turn: RecordMark | None = None
    """The record whose turn was the last; None before the first."""
    queue: tuple[RecordMark, ...] = ()
    """The first records of the catch-up queue (at most `MAX_QUEUE_TOLD`), next one first. Told by `Cluster.look`, with what follows."""
    waits: tuple[BranchWait, ...] = ()
    """What its branches wait for (the first `MAX_WAITS_TOLD` of them), while it runs."""
    in_turn: bool = False
    """True while its code is running: what it waits for is about to change."""
    more_waits: int = 0
    """Branches besides."""
    stuck: bool = False
    """True if nothing but a request to cancel can wake it: it waits for no step, message, child or time, and has not ended."""
    held_value: str | None = None
    """The reason why this node, which acts, holds a value of the run and does not record it now, and what to do; None if it holds none."""


class LinkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The link from a node to another, as it is made to be and as the node knows it."""

    up: bool
    """True if there is a connection; a cut is noticed only after a while."""
    cut: bool
    """True if messages from this node to the other are dropped."""
    cut_back: bool
    """True if messages from the other node to this one are dropped."""
    delay: LinkDelay | None
    """The delay added to messages on their way there; None if there is none."""
    sent: Mapping[str, int] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    """Messages sent there since the later of the two nodes started, by kind (`append`, `vote`, ...), those that were lost among them."""


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of one node's log, as text: what `Node.entries` returns."""

    index: int
    term: int
    """The term of the leader that made it. Two entries of the same index and term are the same entry."""
    committed: bool
    """True if this node knows it to be committed; another leader may still replace an entry that is not."""
    commands: tuple[str, ...]
    """The commands in it; none for an entry that only consensus itself needs, and for the one that a snapshot stands
    for.
    """


class NodeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One node. A dead node keeps its last term and log length (they are in its journal); the rest is zero."""

    node: NodeId
    role: Role
    paused: bool
    held: bool
    acting: bool
    """True if this node holds the epoch and Raft still reports it leader in that term."""
    term: int
    epoch: int
    """The term of the last `Takeover` this node applied; 0 before the first."""
    commit_index: int
    applied_index: int
    log_length: int
    """Entries of the log, with those that a snapshot stands for: the index of the last one."""
    snapshot_index: int = 0
    """The last entry that this node's snapshot stands for; 0 if it has none."""
    entries_behind: int
    """The leader's commit index minus this node's applied index (entries); 0 when there is no leader."""
    blocked: str | None
    """The place where a workflow blocks this node's thread now (`cell:line in function`), else None."""
    incarnation: int
    """Counts the node's starts, from 1."""
    storage_error: str | None = None
    """The reason why the node's disk refuses writes, else None. The node is stopped until the disk works; it retries by
    itself.
    """
    problem: str | None = None
    """The reason why this handle cannot reach a node in another process that may still run, or follow its events; it
    continues to try. Else None.
    """
    effects_run: int
    runs: Mapping[RunId, ExecutionStatistics]
    links: Mapping[NodeId, LinkStatistics] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    """The links to every other node, also of and to dead ones."""
    voted_for: NodeId | None = None
    """The node that got this node's vote in its present term."""
    silence: float | None = None
    """Seconds since this node, running and no leader, last heard from a leader; None if it leads or knows of none."""
    election_timer: float | None = None
    """Seconds until this node asks for votes if it continues to hear nothing; None while it waits for no such time."""


class CodePlace(msgspec.Struct, frozen=True, kw_only=True):
    """The place in the user's code where one branch of a node's execution waits."""

    branch: str
    """The branch's path, such as `2.1.`; empty for the workflow itself."""
    function: str
    file: str
    """As people know it: `cell` or `cell [3]` for cells of a notebook, otherwise the file's name."""
    line: int
    """Counted from 1, in the whole file or cell."""
    own: bool
    """True if that is the file that the workflow itself is in."""


class RunCode(msgspec.Struct, frozen=True, kw_only=True):
    """The code that a run executes, and where the nodes are in it. A moment's look: by the time it is read they may be further on."""

    workflow: str
    version: int
    file: str
    """As people know it; empty, with no lines, if no living node has begun to execute the run."""
    first_line: int
    """Of the function, counted from 1 in its file or cell."""
    lines: tuple[str, ...]
    """Of the function, without what ends them; the first `MAX_CODE_LINES` of `raftoral_nb.hosts.code_positions`."""
    places: Mapping[NodeId, tuple[CodePlace, ...]]
    """By node: a place for each branch that runs, the workflow's own first; none where the execution has ended."""
    more: Mapping[NodeId, int] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    """By node: how many branches run besides, for which no place is given."""


class RunStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as the most advanced living node knows it."""

    run_id: RunId
    workflow: str
    version: int
    status: RunStatus
    steps: int
    """Steps recorded."""
    failure: str | None
    records: int = 0
    """Records, the steps among them."""
    held: Difference | None = None
    """The reason why the run is stuck: on every living node its code differs from the record. None if it is not stuck.
    """
    parent: RunId | None = None
    """The run that started it as its child, if one did."""
    owner: NodeId | None = None
    """The node that does its steps, or did last; None if the leader does."""
    held_value: str | None = None
    """The reason why the run waits with a value that is not kept now, and what to do about it: nothing is lost. None if it does not."""
    waiting: int = 0
    """Messages (signals, updates) that were sent to it and that it has not received yet, as far as the acting node has said."""
    missing_label: str | None = None
    """The label that one of its steps waits for, as no node has it; None if none does."""

    @property
    def why_held(self) -> str | None:
        """The reason why the run stands still, of `held` or `held_value`; None if it does not."""
        return self.held_value if self.held is None else self.held.reason


class ClusterStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One consistent look at the whole cluster. Counters count since the cluster was started."""

    name: str
    running: bool
    leader: NodeId | None
    """The acting node, or None."""
    term: int
    epoch: int
    nodes: Mapping[NodeId, NodeStatistics]
    runs: Mapping[RunId, RunStatistics]
    workflows: Mapping[str, tuple[int, ...]]
    """Registered versions by workflow name, ascending."""
    commands: int
    """Commands applied (by the most advanced node)."""
    entries: int
    """Log entries applied that carried commands."""
    checkpoints: int
    effects_run: int
    leader_changes: int
    """Epochs granted to another node than the one before."""
    refused_frames: int
    """Network frames that were not authentic, too long, or malformed."""
    dropped_strangers: int = 0
    """Connections that were closed because they never proved the cluster's key: silent, slow, torn off, or crowded out."""
    events: int
    """Events published so far: grows whenever anything here changed through an event."""


class RetentionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept of runs that have ended, and how much there is: what `Cluster.retention` returns."""

    keep_runs: int
    """The most finished runs that are kept."""
    keep_bytes: int
    """The most bytes of finished runs that are kept, but for the last one, which always is."""
    runs: int
    """Finished runs whose records are held."""
    bytes: int
    """What they keep: their inputs, recorded values, results and failures, with what is kept beside the log, in bytes."""
    evicted: int
    """Older runs that were evicted; the latest `MAX_EVICTED_RUN_IDS` are remembered."""


class LoggedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command in a log entry, as text. `kind` is the command's tag (`takeover`, `checkpoint`, ...)."""

    kind: str
    text: str
    run_id: RunId | None
    """The run it is about, if it is about one."""
    step_id: StepId | None
    """The step it records, if it records one."""


class LoggedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A log entry, as text. Two entries with the same index and term are the same, in whichever log."""

    index: int
    term: int
    kind: str
    """The kind of its first command; `empty` if it has none, `large` if it was too large to be looked into."""
    size: int
    """Bytes."""
    count: int
    """Commands it carries; 0 where that is not known."""
    commands: tuple[LoggedCommand, ...]
    """The first of them."""


class LogTail(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one node's log. Entries above the node's commit index may yet be replaced by others."""

    first_index: int
    """Of the first entry that the log holds; those before it are in a snapshot."""
    last_index: int
    entries: tuple[LoggedEntry, ...]
    """The last ones, ascending."""


class RecordTail(msgspec.Struct, frozen=True, kw_only=True):
    """The latest records of a run: its steps, and what came to it otherwise, in the order of the log."""

    first: int
    """The number of records before these."""
    records: tuple[Record, ...]


class ClusterLook(msgspec.Struct, frozen=True, kw_only=True):
    """The data that a view is drawn from: bounded, and consistent.

    `statistics` has the runs that are shown, and no others.
    """

    time: float
    """The time when it was taken (Unix seconds)."""
    statistics: ClusterStatistics
    election_timeout: float
    """The longest silence after which a follower asks for votes (seconds)."""
    logs: Mapping[NodeId, LogTail]
    """Also of dead nodes: their journals are kept."""
    records: Mapping[RunId, RecordTail]
    omitted: Mapping[RunStatus, int]
    """Runs that are not shown, by status."""

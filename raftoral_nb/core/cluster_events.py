"""Cluster events that no log entry records, and the output of workflows. `events` names them all."""

from __future__ import annotations

from typing import Literal

import msgspec

from .records import Difference


class LinkDelay(msgspec.Struct, frozen=True, gc=False):
    """The delay added to a link, in each direction: `seconds`, give or take up to `jitter` seconds."""

    seconds: float
    jitter: float = 0.0


class NodeChanged(msgspec.Struct, frozen=True, gc=False):
    """Something was done to a node, or befell it."""

    node: int
    change: Literal["started", "killed", "restarted", "paused", "resumed", "held", "released", "removed", "stopped"]


class NetworkChanged(msgspec.Struct, frozen=True, gc=False):
    """Something was done to links between nodes. `links` are those it was done to; one that is cut one way is (from, to).

    `groups` is set when the network was partitioned, `node` when all links of one node were meant, `delay` when they were
    slowed.
    """

    change: Literal["cut", "cut one way", "isolated", "partitioned", "slowed", "healed"]
    links: tuple[tuple[int, int], ...]
    groups: tuple[tuple[int, ...], ...] = ()
    node: int | None = None
    delay: LinkDelay | None = None


class TransferAsked(msgspec.Struct, frozen=True, gc=False):
    """The leader `source` was asked to hand leadership to `target`. Whether it happened is told by `EpochChanged`."""

    source: int
    target: int


class CampaignAsked(msgspec.Struct, frozen=True, gc=False):
    """Nodes were told to campaign in the same moment, without waiting for their election timeouts."""

    nodes: tuple[int, ...]


class ScenarioChanged(msgspec.Struct, frozen=True, gc=False):
    """A turn in a scenario: it began, acted (`text` is what it did), said something, or ended (`text` says why)."""

    scenario: str
    change: Literal["started", "acted", "noted", "completed", "stopped", "failed"]
    text: str = ""


class RoleChanged(msgspec.Struct, frozen=True, gc=False):
    """A node's Raft role changed."""

    node: int
    role: Literal["leader", "follower", "candidate"]
    term: int


class SnapshotInstalled(msgspec.Struct, frozen=True, gc=False):
    """A node that was too far behind for the log took over the state of the leader, as it was at `index`."""

    node: int
    index: int


class StorageFailed(msgspec.Struct, frozen=True, gc=False):
    """A node's disk did not take what was to be stored, and the node stepped aside; it tries again by itself."""

    node: int
    reason: str


class UnauthenticatedConnectionsRefused(msgspec.Struct, frozen=True, gc=False):
    """An unauthenticated peer connected to a node: it did not prove the cluster's key, or sent what is not authentic.

    `count` connections were closed for it since the last such event; the last of them was to `node`, and `reason` is its.
    """

    node: int
    count: int
    reason: str


class RecoveryProgress(msgspec.Struct, frozen=True, gc=False):
    """The progress of a cluster that recovers from a data directory: about `fraction`, from 0 to 1.

    Told if it lasts a moment.
    """

    fraction: float
    text: str


class ClusterRecovered(msgspec.Struct, frozen=True, gc=False):
    """The contents of a recovered data directory.

    Unfinished runs continue, recorded steps and cells need not be done again.
    """

    runs: int
    unfinished: int
    steps: int
    workflows: int
    seconds: float


class EffectStarted(msgspec.Struct, frozen=True, gc=False):
    """The acting leader began to run a step's function."""

    node: int
    run_id: str
    step_id: str


class MessageTaken(msgspec.Struct, frozen=True, gc=False):
    """The workflow took a signal or an update: `receive` returned it, or the handler of its name began. Told by the node that acts.

    After a change of leader in that very moment it may not be told, or twice.
    """

    node: int
    run_id: str
    message_id: str


class StepRetrying(msgspec.Struct, frozen=True, gc=False):
    """An attempt at a step failed; the acting leader waits `seconds` and tries again. `attempt` counts from 1."""

    node: int
    run_id: str
    step_id: str
    attempt: int
    failure: str
    seconds: float


class StepProgress(msgspec.Struct, frozen=True, gc=False):
    """A step that is running says how far it has come: `fraction` is from 0 to 1."""

    node: int
    run_id: str
    step_id: str
    fraction: float
    text: str


class NodeBlocked(msgspec.Struct, frozen=True, gc=False):
    """A workflow has kept its node's thread busy for over a second without awaiting anything."""

    node: int
    run_id: str
    where: str


class ValueHeld(msgspec.Struct, frozen=True, gc=False):
    """A run waits with a value that the cluster does not keep now: its node holds it, and nothing is lost. `reason` says what to do."""

    node: int
    run_id: str
    reason: str


class ExecutionStopped(msgspec.Struct, frozen=True, gc=False):
    """One node's execution of a run ended otherwise than the run itself did."""

    node: int
    run_id: str
    status: Literal["diverged", "unreadable", "superseded"]
    reason: str
    difference: Difference | None = None
    """Of one that diverged, or could not read what is recorded."""


class RunHeld(msgspec.Struct, frozen=True, gc=False):
    """No living node can continue a run (each diverged, or cannot read it).

    It is stuck until it is moved to a version that fits.
    """

    run_id: str
    difference: Difference


class OutputLine(msgspec.Struct, frozen=True, gc=False):
    """A line that a workflow printed or logged, or that the engine says about its execution. `time` is Unix seconds."""

    time: float
    node: int
    run_id: str
    stream: Literal["stdout", "stderr", "log", "engine"]
    text: str

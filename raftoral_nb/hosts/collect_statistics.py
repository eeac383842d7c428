"""The making of the frozen snapshots of `statistics` from a cluster. Runs on the consensus loop, or after the cluster stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from msgspec import structs

from ..core.records import NodeId, RunId
from ..core.run_record import Run
from ..core.state import State
from ..core.statistics import (
    MAX_QUEUE_TOLD,
    ClusterStatistics,
    ExecutionStatistics,
    LinkStatistics,
    NodeStatistics,
    RunStatistics,
    record_mark,
)
from ..errors import ClusterError
from ..raft.journal import MemoryJournal
from ..threads.loop_thread import LoopThread
from ..transport.network import Network

if TYPE_CHECKING:
    from ..node.incarnation import Incarnation
    from .base import ClusterBackend


def deadline(seconds: float) -> Callable[[], float]:
    """Return a function that says how many seconds are left, never less than a little."""
    end = time.monotonic() + seconds
    return lambda: max(0.05, end - time.monotonic())


def workflows(state: State) -> Mapping[str, tuple[int, ...]]:
    """Return the registered versions of each workflow, ascending."""
    versions: dict[str, list[int]] = {}
    for name, version in tuple(state.definitions):
        versions.setdefault(name, []).append(version)
    return MappingProxyType({name: tuple(sorted(found)) for name, found in versions.items()})


def statistics(host: ClusterBackend, *, running: bool, only: Collection[RunId] | None = None) -> ClusterStatistics:
    """Return a snapshot of the whole cluster, with all of its runs or `only` these."""
    head = host.head()
    leader = host.leader
    leading = host.incarnation(leader) if leader is not None else None
    commit_index = leading.commit_index if leading is not None else 0
    nodes = {number: host.node_statistics(number, commit_index, only) for number in host.numbers}
    values = {
        run_id: one.held_value
        for node in nodes.values()
        for run_id, one in node.runs.items()
        if one.held_value is not None
    }
    return ClusterStatistics(
        name=host.name,
        running=running,
        leader=leader,
        term=max(node.term for node in nodes.values()),
        epoch=head.epoch.term,
        nodes=MappingProxyType(nodes),
        runs=MappingProxyType(
            {
                run_id: _run(host, run, values.get(run_id))
                for run_id, run in tuple(head.runs.items())
                if only is None or run_id in only
            }
        ),
        workflows=workflows(head),
        commands=head.commands,
        entries=head.entries,
        checkpoints=head.checkpoints,
        effects_run=host.counters.effects_run,
        leader_changes=host.counters.leader_changes,
        refused_frames=host.network.refused_frames if host.network is not None else 0,
        dropped_strangers=host.network.dropped_unauthenticated if host.network is not None else 0,
        events=host.observers.published,
    )


class HoldingBackend(Protocol):
    """A backend that can be asked what its nodes hold back."""

    @property
    def thread(self) -> LoopThread:
        """The thread of the consensus loop."""
        ...

    @property
    def numbers(self) -> tuple[NodeId, ...]:
        """The numbers of the nodes."""
        ...

    def refresh(self, only: Collection[RunId] | None, entries: int) -> None:
        """Have the nodes looked at, if they are in other processes. Waits."""
        ...

    def node_statistics(self, number: NodeId, commit_index: int, only: Collection[RunId] | None) -> NodeStatistics:
        """Return the statistics of one node."""
        ...


def held_value(host: HoldingBackend, run_id: RunId) -> str | None:
    """Return why a run waits with a value that is not kept now, as the node that acts for it has it; None if it does not. Waits."""
    with contextlib.suppress(ClusterError):  # stopped meanwhile
        host.refresh((run_id,), 0)

    def look() -> str | None:
        looks = (host.node_statistics(number, 0, (run_id,)).runs.get(run_id) for number in host.numbers)
        return next((look.held_value for look in looks if look is not None and look.held_value is not None), None)

    return host.thread.call(look) if host.thread.alive else look()


def _run(host: ClusterBackend, run: Run, held_value: str | None) -> RunStatistics:
    return RunStatistics(
        run_id=run.run_id,
        workflow=run.definition.workflow,
        version=run.definition.version,
        status=run.status,
        steps=len(run.by_id),
        records=len(run.records),
        failure=None if run.failure is None else str(run.failure),
        held=host.held(run.run_id) if run.unfinished else None,
        held_value=held_value if run.unfinished else None,
        parent=run.parent,
        owner=run.owner or None,
        waiting=run.waiting,
        missing_label=run.missing_label,
    )


def dead(
    number: NodeId,
    *,
    term: int,
    log_length: int,
    snapshot_index: int,
    incarnation: int,
    storage_error: str | None,
    links: Mapping[NodeId, LinkStatistics],
    voted_for: NodeId | None,
) -> NodeStatistics:
    """Return the statistics of a dead node, of which only what its journal kept is known."""
    return NodeStatistics(
        node=number,
        role="dead",
        paused=False,
        held=False,
        acting=False,
        term=term,
        epoch=0,
        commit_index=0,
        applied_index=0,
        log_length=log_length,
        snapshot_index=snapshot_index,
        entries_behind=0,
        blocked=None,
        incarnation=incarnation,
        storage_error=storage_error,
        effects_run=0,
        runs=MappingProxyType({}),
        links=links,
        voted_for=voted_for,
    )


def node(
    number: NodeId,
    incarnation: Incarnation | None,
    journal: MemoryJournal,
    *,
    starts: int,
    storage_error: str | None,
    links: Callable[[frozenset[NodeId]], Mapping[NodeId, LinkStatistics]],
    commit_index: int,
    only: Collection[RunId] | None,
) -> NodeStatistics:
    """Return the statistics of one node of this process: running as `incarnation`, or stopped.

    `starts` is how often it was started, `commit_index` is the leader's, and `links` makes its links, given the peers it is connected to.
    """
    if incarnation is None:
        return dead(
            number,
            term=journal.getCurrentTerm(),
            log_length=journal.last_index,
            snapshot_index=journal.snapshot_index,
            incarnation=starts,
            storage_error=storage_error,
            links=links(frozenset()),
            voted_for=_vote(journal),
        )
    member, raft = incarnation.member, incarnation.member.replica.raft
    return NodeStatistics(
        node=number,
        role=member.replica.role,
        paused=member.paused,
        held=incarnation.held,
        acting=member.acting_term is not None and not member.paused,
        term=raft.term,
        epoch=member.state.epoch.term,
        commit_index=raft.commit_index,
        applied_index=raft.applied_index,
        log_length=member.log_length,
        snapshot_index=journal.snapshot_index,
        entries_behind=max(0, commit_index - raft.applied_index),
        blocked=incarnation.executor.blocked,
        incarnation=starts,
        effects_run=incarnation.executor.effects_run,
        runs=MappingProxyType(_executions(incarnation, only)),
        links=links(member.connected_peers),
        voted_for=_vote(journal),
        silence=member.silence,
        election_timer=member.election_timer,
    )


def _vote(journal: MemoryJournal) -> NodeId | None:
    vote = journal.getVotedForNodeId()
    return None if vote is None else int(vote)


def links_of(
    network: Network | None, number: NodeId, peers: Collection[NodeId], connected: frozenset[NodeId]
) -> Mapping[NodeId, LinkStatistics]:
    """Return the links of one node to its peers."""
    if network is None:
        return MappingProxyType({})
    return MappingProxyType(
        {
            peer: LinkStatistics(
                up=peer in connected,
                cut=network.is_cut(number, peer),
                cut_back=network.is_cut(peer, number),
                delay=network.delay(number, peer),
                sent=MappingProxyType(network.traffic.sent(number, peer)),
            )
            for peer in peers
            if peer != number
        }
    )


def _executions(incarnation: Incarnation, only: Collection[RunId] | None) -> dict[str, ExecutionStatistics]:
    """Executions with their catch-up queues, counted against what this node has applied, delivered to them or not.

    With what they wait for, if it is asked of certain runs.
    """
    whole = only is not None
    found: dict[str, ExecutionStatistics] = {}
    for run_id, run in incarnation.member.state.runs.items():
        if only is not None and run_id not in only:
            continue
        executing = incarnation.executor.execution(run_id)
        if executing is None:  # on its way to the node's thread
            now = ExecutionStatistics(status="running", step=0, last_step_id=None, catch_up_queue=0, effects_run=0)
            had = 0
        else:
            now = executing.statistics(whole=whole)
            had = now.had if executing.generation == run.generation else 0
        queue = max(0, len(run.records) - had)
        told = tuple(map(record_mark, run.records[had : had + MAX_QUEUE_TOLD])) if whole and queue else ()
        found[run_id] = structs.replace(now, catch_up_queue=queue, queue=told, stuck=now.stuck and not queue)
    return found

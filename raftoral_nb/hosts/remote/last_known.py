"""The last known status of nodes, and the watch for processes that have ended."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Collection, Sequence
from pathlib import Path
from types import MappingProxyType

from msgspec import structs

from ...core.records import NodeId, RunId
from ...core.statistics import LinkStatistics, LogEntry, NodeStatistics, RunCode
from ...discovery.process_identity import Process
from ...errors import StorageError
from ...raft.journal import proposals_in
from ...storage.codec import Codec
from ...storage.data_directory import read_manifest, read_node
from .. import collect_statistics
from ..log_words import command_words
from .remote_links import RemoteLinks


def dead_statistics(
    number: NodeId, known: NodeStatistics | None, starts: int, numbers: Sequence[NodeId], links: RemoteLinks
) -> NodeStatistics:
    """Return the statistics of a dead node: what was known of its log when it was looked at last."""
    return collect_statistics.dead(
        number,
        term=0 if known is None else known.term,
        log_length=0 if known is None else known.log_length,
        snapshot_index=0 if known is None else known.snapshot_index,
        incarnation=starts,
        storage_error=None if known is None else known.storage_error,
        links=_links(number, None, numbers, links),
        voted_for=None if known is None else known.voted_for,
    )


def alive_statistics(
    known: NodeStatistics,
    commit_index: int,
    only: Collection[RunId] | None,
    numbers: Sequence[NodeId],
    links: RemoteLinks,
) -> NodeStatistics:
    """Return the statistics of a node as it sees itself, beside a leader that has committed up to `commit_index`."""
    runs = {run_id: one for run_id, one in known.runs.items() if only is None or run_id in only}
    return structs.replace(
        known,
        entries_behind=max(0, commit_index - known.applied_index),
        runs=MappingProxyType(runs),
        links=_links(known.node, known, numbers, links),
    )


def _links(
    number: NodeId, known: NodeStatistics | None, numbers: Sequence[NodeId], links: RemoteLinks
) -> MappingProxyType[NodeId, LinkStatistics]:
    found = {}
    for peer in numbers:
        if peer != number:
            said = None if known is None else known.links.get(peer)
            found[peer] = LinkStatistics(
                up=said is not None and said.up,
                cut=links.is_cut(number, peer),
                cut_back=links.is_cut(peer, number),
                delay=links.delay(number, peer),
                sent=MappingProxyType({}) if said is None else said.sent,
            )
    return MappingProxyType(found)


def merged_code(workflow: str, version: int, told: Sequence[RunCode]) -> RunCode:
    """Return the code of a run, as several nodes tell it, each where it is itself."""
    nowhere = RunCode(workflow=workflow, version=version, file="", first_line=0, lines=(), places={})
    whole = next((one for one in told if one.lines), nowhere)
    return structs.replace(
        whole,
        places=MappingProxyType({node: places for one in told for node, places in sorted(one.places.items())}),
        more=MappingProxyType({node: more for one in told for node, more in sorted(one.more.items())}),
    )


def stored_entries(path: Path, number: NodeId, last: int, codec: Codec | None = None) -> tuple[LogEntry, ...]:
    """Return the last entries of a dead node's log, read from the disk; nothing if they are not on a disk here."""
    try:
        manifest = read_manifest(path)
        if manifest is None or number not in manifest.nodes:
            return ()
        recovered, _ = read_node(path, manifest, number, codec)
    except StorageError:
        return ()
    return tuple(
        LogEntry(
            index=index,
            term=term,
            committed=index <= recovered.contents.commit,
            commands=tuple(command_words(proposal.command) for proposal in proposals_in(data)),
        )
        for data, index, term in recovered.contents.entries[-last:]
    )


def wait_gone(process: Process, timeout: float) -> bool:
    """Wait until a process of this host that is not our child has ended; False if it has not within `timeout` seconds.

    Where the system has no way to wait for it, it is only looked at. One of another host counts as gone: nothing is known of it.
    """
    if process.host != Process.own().host or process.gone:
        return True
    opened = getattr(os, "pidfd_open", None)
    if opened is not None:
        with contextlib.suppress(OSError):
            descriptor = opened(process.pid)
            try:
                select.select([descriptor], [], [], timeout)
            finally:
                os.close(descriptor)
    return process.gone

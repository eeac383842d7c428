"""The data of a view, in one look: statistics, the tails of the logs, and the latest records of the runs that are shown.

All of it is bounded, however long the cluster runs and however many runs it has. Runs on the consensus loop, or after the
cluster stopped.
"""

from __future__ import annotations

import time
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ..core.commands import Command
from ..core.records import RunId
from ..core.run_record import Run
from ..core.statistics import ClusterLook, LoggedCommand, LoggedEntry, RecordTail
from ..raft.journal import LogEntry, proposals_in
from . import collect_statistics
from .log_words import command_words

if TYPE_CHECKING:
    from .base import ClusterBackend

MAX_COMMANDS_LOOKED_AT: Final = 4
"""Commands of one log entry that are told one by one; of the others the number is."""

MAX_ENTRY_BYTES_LOOKED_INTO: Final = 256 * 1024
"""Size of a log entry, in bytes, up to which it is decoded for a look: decoding takes the consensus loop's time."""


class Looker:
    """Looks at one cluster, again and again. What an entry holds is found out once: index and term name it for ever."""

    def __init__(self, host: ClusterBackend) -> None:
        self._host = host
        self._described = Described()

    def shown(self, runs: int) -> frozenset[RunId]:
        """Return the runs that a look at so many would show. From any thread."""
        return frozenset(_chosen(tuple(self._host.head().runs.values()), runs))

    def look(self, *, running: bool, runs: int, entries: int, records: int) -> ClusterLook:
        """See `Cluster.look`."""
        host = self._host
        head = host.head()
        shown = _chosen(tuple(head.runs.values()), runs)
        statistics = collect_statistics.statistics(host, running=running, only=frozenset(shown))
        self._described.begin()
        return ClusterLook(
            time=time.time(),
            statistics=statistics,
            election_timeout=host.timing.election_max,
            logs=MappingProxyType({number: host.tail(number, entries, self._described.of) for number in host.numbers}),
            records=MappingProxyType({run_id: _tail(run, records) for run_id, run in shown.items()}),
            omitted=MappingProxyType(
                dict(Counter(run.status for run_id, run in tuple(head.runs.items()) if run_id not in shown))
            ),
        )


def _tail(run: Run, most: int) -> RecordTail:
    first = max(0, len(run.records) - most)
    return RecordTail(first=first, records=tuple(run.records[first:]))


class Described:
    """Remembers what the entries of the last look hold: index and term name an entry for ever."""

    def __init__(self) -> None:
        # Invariant: the entries of this look and of the one before, and no others.
        self._known: dict[tuple[int, int], LoggedEntry] = {}
        self._before: dict[tuple[int, int], LoggedEntry] = {}

    def begin(self) -> None:
        """Another look begins."""
        self._before, self._known = self._known, {}

    def of(self, entry: LogEntry) -> LoggedEntry:
        """Return what an entry holds."""
        _, index, term = entry
        name = (index, term)
        found = self._known.get(name) or self._before.get(name) or described(entry)
        self._known[name] = found
        return found


def _chosen(runs: tuple[Run, ...], most: int) -> dict[RunId, Run]:
    """Return all if they fit; else the unfinished and the latest finished ones, in the order they were started."""
    if len(runs) > most:
        latest_first = sorted(enumerate(runs), key=lambda pair: (not pair[1].unfinished, -pair[0]))
        runs = tuple(run for _, run in sorted(latest_first[:most], key=lambda pair: pair[0]))
    return {run.run_id: run for run in runs}


def described(entry: LogEntry) -> LoggedEntry:
    """Return what a log entry holds, in a few words. Of one that is very large only the size is told."""
    data, index, term = entry
    size = len(data)
    if size > MAX_ENTRY_BYTES_LOOKED_INTO:
        return LoggedEntry(index=index, term=term, kind="large", size=size, count=0, commands=())
    proposals = proposals_in(data)
    commands = tuple(_command(proposal.command) for proposal in proposals[:MAX_COMMANDS_LOOKED_AT])
    kind = commands[0].kind if commands else "empty"
    return LoggedEntry(index=index, term=term, kind=kind, size=size, count=len(proposals), commands=commands)


def _command(command: Command) -> LoggedCommand:
    """Return one command in words. One that has none is shown by its name."""
    step = getattr(command, "step", None)
    return LoggedCommand(
        kind=str(type(command).__struct_config__.tag),
        text=command_words(command),
        run_id=getattr(command, "run_id", None),
        step_id=None if step is None else step.step_id,
    )

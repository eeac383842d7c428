"""What a view is drawn from, in one look: statistics, the tails of the logs, and the latest steps of the runs that are shown.

All of it is bounded, however long the cluster runs and however many runs it has. Runs on the consensus loop, or after the
cluster stopped.
"""

from __future__ import annotations

import time
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from . import collect
from .log_entries import command_words
from .model import Command, RunId
from .raft.journal import LogEntry, MemoryJournal, proposals_in
from .state import Run
from .statistics import ClusterLook, LoggedCommand, LoggedEntry, LogTail, StepTail

if TYPE_CHECKING:
    from .host import Host

MAX_COMMANDS_LOOKED_AT: Final = 4
"""Commands of one log entry that are told one by one; of the others the number is."""

MAX_ENTRY_BYTES_LOOKED_INTO: Final = 256 * 1024
"""Size of a log entry, in bytes, up to which it is decoded for a look: decoding takes the consensus loop's time."""


class Looker:
    """Looks at one cluster, again and again. What an entry holds is found out once: index and term name it for ever."""

    def __init__(self, host: Host) -> None:
        self._host = host
        # Invariant: the entries of the last look, and no others.
        self._known: dict[tuple[int, int], LoggedEntry] = {}

    def look(self, *, running: bool, runs: int, entries: int, steps: int) -> ClusterLook:
        """See `Cluster.look`."""
        host = self._host
        head = host.head()
        shown = _chosen(tuple(head.runs.values()), runs)
        statistics = collect.statistics(host, running=running, only=frozenset(shown))
        known, self._known = self._known, {}
        return ClusterLook(
            time=time.time(),
            statistics=statistics,
            election_timeout=host.timing.election_max,
            logs=MappingProxyType(
                {number: self._tail(host.journals.of(number), entries, known) for number in host.numbers}
            ),
            steps=MappingProxyType(
                {
                    run_id: StepTail(first=max(0, len(run.steps) - steps), steps=tuple(run.steps[-steps:]))
                    for run_id, run in shown.items()
                }
            ),
            omitted=MappingProxyType(
                dict(Counter(run.status for run_id, run in tuple(head.runs.items()) if run_id not in shown))
            ),
        )

    def _tail(self, journal: MemoryJournal, most: int, known: dict[tuple[int, int], LoggedEntry]) -> LogTail:
        found = []
        for data, index, term in journal.tail(most):
            entry = self._known.get((index, term)) or known.get((index, term)) or described((data, index, term))
            self._known[index, term] = entry
            found.append(entry)
        return LogTail(first_index=journal.first_index, last_index=journal.last_index, entries=tuple(found))


def _chosen(runs: tuple[Run, ...], most: int) -> dict[RunId, Run]:
    """All if they fit; else the unfinished and the latest finished ones, in the order they were started."""
    if len(runs) > most:
        latest_first = sorted(enumerate(runs), key=lambda pair: (not pair[1].unfinished, -pair[0]))
        runs = tuple(run for _, run in sorted(latest_first[:most], key=lambda pair: pair[0]))
    return {run.run_id: run for run in runs}


def described(entry: LogEntry) -> LoggedEntry:
    """What a log entry holds, in a few words. Of one that is very large only the size is told."""
    data, index, term = entry
    size = len(data)
    if size > MAX_ENTRY_BYTES_LOOKED_INTO:
        return LoggedEntry(index=index, term=term, kind="large", size=size, count=0, commands=())
    proposals = proposals_in(data)
    commands = tuple(_command(proposal.command) for proposal in proposals[:MAX_COMMANDS_LOOKED_AT])
    kind = commands[0].kind if commands else "empty"
    return LoggedEntry(index=index, term=term, kind=kind, size=size, count=len(proposals), commands=commands)


def _command(command: Command) -> LoggedCommand:
    """One command. One that has no words is told by its name: a view shows it all the same."""
    step = getattr(command, "step", None)
    return LoggedCommand(
        kind=str(type(command).__struct_config__.tag),
        text=command_words(command),
        run_id=getattr(command, "run_id", None),
        step_id=None if step is None else step.step_id,
    )

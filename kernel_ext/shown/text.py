"""The plain-text form of everything shown: for terminals, screen readers, and comparing notebooks. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Final

from . import tables
from .events import event_words
from .words import counted, node_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftoral_nb.core.cluster_events import OutputLine
    from raftoral_nb.core.events import ClusterEvent
    from raftoral_nb.core.statistics import ClusterStatistics

    from .tables import Table

MAX_EVENT_CHARS: Final = 1000
"""Characters of one event: what a failure's message may be is up to its class."""

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_STREAM: Final = {"stdout": "", "stderr": "[stderr] ", "log": "[log] ", "engine": "[engine] "}


def one_line(text: str, most: int) -> str:
    """The text on one line of at most `most` printable characters: nothing in it moves a terminal's cursor."""
    line = _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def table_text(table: Table) -> str:
    """The table in columns, without its caption."""
    rows = [table.header, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]

    def line(row: tuple[str, ...]) -> str:
        cells = (
            cell.rjust(width) if column in table.numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join(line(row) for row in rows)


def cluster_text(statistics: ClusterStatistics) -> str:
    """The whole cluster: its nodes, its runs, its counters."""
    parts = [tables.cluster_line(statistics), table_text(tables.nodes_table(statistics))]
    if statistics.runs:
        parts.append(table_text(tables.runs_table(statistics)))
    if notes := tables.notes(statistics):
        parts.append("\n".join(notes))
    parts.append(f"{tables.workflow_line(statistics)}\n{tables.counter_line(statistics)}")
    return "\n\n".join(parts)


def started_text(nodes: Sequence[int]) -> str:
    """The sentence about a cluster that has just started: the same each time, so it does not say who leads."""
    if len(nodes) == 1:
        return "cluster of 1 node (1): running"
    return f"cluster of {counted(len(nodes), 'node')} ({node_list(nodes)}): running, with a leader"


def clock(time: float) -> str:
    """A Unix time as local time of day with milliseconds."""
    return datetime.fromtimestamp(time, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def log_text(lines: Sequence[OutputLine], *, times: bool = False, omitted: int = 0) -> str:
    """Output lines by run and node, each in its order; with `times`, in the order they were written instead.

    Grouped, it is the same text whichever node came first.
    """
    if not lines:
        return "nothing printed or logged"
    first = [f"(the last {counted(len(lines), 'line')}; {omitted} before them: use --last)"] if omitted else []
    if times:
        ordered = sorted(lines, key=lambda line: line.time)
        shown = [f"{clock(line.time)}  {line.run_id}, node {line.node}: {_output(line)}" for line in ordered]
        return "\n".join(first + shown)
    order = {run_id: place for place, run_id in enumerate(dict.fromkeys(line.run_id for line in lines))}
    grouped = sorted(lines, key=lambda line: (order[line.run_id], line.node))
    for (run_id, node), group in groupby(grouped, key=lambda line: (line.run_id, line.node)):
        first.append(f"{run_id}, node {node}")
        first += [f"  {_output(line)}" for line in group]
    return "\n".join(first)


def _output(line: OutputLine) -> str:
    return f"{_STREAM[line.stream]}{line.text}".replace("\n", "\n    ").rstrip()


def events_text(history: Sequence[tuple[float, ClusterEvent]], *, times: bool = False, omitted: int = 0) -> str:
    """Events (Unix time, event) as one line each."""
    if not history:
        return "no events yet"
    lines = [f"(the last {counted(len(history), 'event')}; {omitted} before: use --last)"] if omitted else []
    for time, event in history:
        words = one_line(event_words(event), MAX_EVENT_CHARS)
        lines.append(f"{clock(time)}  {words}" if times else words)
    return "\n".join(lines)

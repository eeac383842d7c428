"""The sides of the suite: this build at its levels, a build of an earlier revision, and what people would pick instead."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

BEFORE: Final = "699a9ac"
"""The newest revision before executions and driver were made fast: what is compared with if nothing else is said."""

_NOTHING = "nothing; it ends with the process"
_LEVELS: Final = {
    "memory": _NOTHING,
    "process": "nothing; it is written before a majority acknowledges, and outlives the process, not the machine",
    "disk": "each group of records, on each node, before that node acknowledges it",
}

_UNSYNCED = "nothing; files are written"

Place = Literal["here", "before", "dbos", "restate", "prefect", "files"]


@dataclass(frozen=True)
class Side:
    """One side: where it runs, what runs there, how it is set up, and what it has synced to disk when a step counts as done."""

    name: str
    place: Place
    module: str
    options: dict[str, Any]
    syncs: str = field(compare=False)


def _own() -> Iterable[Side]:
    for level, syncs in _LEVELS.items():
        for nodes in (3, 1):
            options = {"level": level, "nodes": nodes}
            yield Side(f"{level}-{nodes}", "here", "benchmarks.own", options, syncs)
            yield Side(f"before-{level}-{nodes}", "before", "benchmarks.own", options, syncs)


_RESTATE = "each group of records (`fdatasync` of the log server's RocksDB log)"

SIDES: Final[Sequence[Side]] = (
    *sorted(_own(), key=lambda side: side.place, reverse=True),
    Side("restate-1", "restate", "benchmarks.peers.restate_peer", {"nodes": 1}, _RESTATE),
    Side("restate-3", "restate", "benchmarks.peers.restate_peer", {"nodes": 3}, f"{_RESTATE}, on two of three nodes"),
    Side(
        "dbos-sqlite",
        "dbos",
        "benchmarks.peers.dbos_peer",
        {"database": "sqlite", "connections": 20},
        "each step's transaction (SQLite's rollback journal, `synchronous=FULL`: journal, database and folder)",
    ),
    Side(
        "dbos-postgres",
        "dbos",
        "benchmarks.peers.dbos_peer",
        {"database": "postgres", "connections": 100},
        "each step's transaction (PostgreSQL's log, `synchronous_commit=on`; commits at the same time share a sync)",
    ),
    Side(
        "prefect",
        "prefect",
        "benchmarks.peers.prefect_peer",
        {},
        "nothing; results are files that are written, states follow in SQLite",
    ),
    Side("pysyncobj-3", "here", "benchmarks.peers.pysyncobj_peer", {"nodes": 3}, _NOTHING),
    Side("pysyncobj-1", "here", "benchmarks.peers.pysyncobj_peer", {"nodes": 1}, _NOTHING),
    Side("pysyncobj-plain-3", "here", "benchmarks.peers.pysyncobj_peer", {"nodes": 3, "plain": True}, _NOTHING),
    Side("joblib", "here", "benchmarks.peers.pool_peer", {"of": "joblib"}, _NOTHING),
    Side("process-pool", "here", "benchmarks.peers.pool_peer", {"of": "pool"}, _NOTHING),
    Side("parquet", "files", "benchmarks.peers.file_peer", {"of": "parquet"}, _UNSYNCED),
    Side("pickle", "files", "benchmarks.peers.file_peer", {"of": "pickle"}, _UNSYNCED),
)
"""All sides, in the order in which they take turns. `pysyncobj-plain` has the library's own settings, the others the best for it."""

GROUPS: Final = {
    "own": ("memory-*", "process-*", "disk-*"),
    "before": ("before-*",),
    "peers": ("restate-*", "dbos-*", "pysyncobj-*", "joblib", "process-pool", "parquet", "pickle"),
    "all": ("*",),
}
"""Short names of several sides. Prefect is no part of `peers`: it must be asked for, as it takes half a minute for a case."""


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether one of the patterns fits."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def chosen(words: Iterable[str]) -> list[Side]:
    """Return the sides that names, patterns and groups mean. Raises `ValueError` for a word that means none."""
    patterns: list[str] = []
    for word in words:
        more = GROUPS.get(word, (word,))
        if not any(matches(side.name, more) for side in SIDES):
            known = ", ".join((*GROUPS, *(side.name for side in SIDES)))
            raise ValueError(f"there is no side {word!r}; there are {known}, and patterns such as restate-*")
        patterns += more
    return [side for side in SIDES if matches(side.name, patterns)]

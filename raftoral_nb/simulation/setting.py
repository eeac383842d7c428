"""The decisions of a seed beyond the plan: the nodes' clocks, the kind of their disks, how they elect, and when they compact."""

from __future__ import annotations

from typing import Self

import msgspec

from .. import limits
from ..core.records import NodeId
from ..raft.compaction import Compaction
from ..raft.timing import Timing
from .dice import SeededDice
from .disk import Store, disk_store, whole_store
from .effects import LABEL
from .faults import Plan
from .invariants import Checker
from .paths import Paths, paths_of


class Setting(msgspec.Struct, frozen=True):
    """All that is decided before a simulation begins. Nothing of it changes."""

    seed: int
    plan: Plan
    without: str | None
    """The rule of the guard that is missing; `hazards.ALL`: all of it."""
    writes_disks: bool
    """True if the nodes write what they keep to simulated disks, in place of keeping it whole."""
    rates: dict[NodeId, float]
    """The rates of the founders' clocks; nodes that join later have a clock that is right."""
    timing: Timing
    compaction: Compaction
    blob_bytes: int
    """The size (bytes) up to which values are in the log; of some seeds it is small, and many values are blobs."""
    takes_runs: bool
    """True if runs have owners, and some steps are bound to a label."""
    paths: Paths
    """The way that messages take. Without a rule of the guard they pass the guard: it is that rule's absence which is to be seen."""

    @classmethod
    def of(cls, seed: int, planned: Plan, *, without: str | None, paths: Paths | None = None) -> Self:
        """Return what `seed` decides for a plan."""
        conditions = planned.conditions
        default = Timing()
        clocks, compaction = SeededDice(seed, "clocks"), SeededDice(seed, "compaction")
        return cls(
            seed=seed,
            plan=planned,
            without=without,
            paths=paths or ("guarded" if without is not None else paths_of(seed)),
            blob_bytes=SeededDice(seed, "blobs").pick([limits.BLOB_BYTES] * 4 + [300, 100, 16]),
            takes_runs=SeededDice(seed, "run owners").happens(0.4),
            writes_disks=SeededDice(seed, "store").happens(0.6),
            rates={
                number: 1.0 + conditions.clock_spread * clocks.between(-1, 1) for number in range(1, planned.nodes + 1)
            },
            timing=Timing(
                heartbeat=conditions.pace * conditions.beat * default.heartbeat,
                election_min=conditions.pace * default.election_min,
                election_max=conditions.pace * default.election_max,
            ),
            # From a snapshot every few entries, in many pieces, to hardly any.
            compaction=Compaction(
                log_bytes=round(1000 * 2.0 ** compaction.between(0, 7)),
                kept_bytes=round(200 * 2.0 ** compaction.between(0, 7)),
                piece_bytes=round(100 * 2.0 ** compaction.between(0, 7)),
            ),
        )

    @property
    def founders(self) -> tuple[NodeId, ...]:
        """The nodes that the cluster begins with."""
        return tuple(self.rates)

    def labels_of(self, number: NodeId) -> tuple[str, ...]:
        """Return the labels of a node. One founder has none, if there will always be another who has."""
        moves = any(fault.kind in ("join", "leave", "replacement") for fault in self.plan.faults)
        lacks = len(self.founders) >= 3 and not moves and number == 1
        return (LABEL,) if self.takes_runs and not lacks else ()

    def store(self, number: NodeId, checker: Checker) -> Store:
        """Return a new disk for a node; what it loses is told to the checker."""
        make = disk_store if self.writes_disks else whole_store
        return make(number, checker, SeededDice(self.seed, "disk", number))

"""The results of simulations, for people: the table of many seeds, and the readable history of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .faults import KINDS, described
from .final_checks import ASKED_AGAIN, CARRIED, COMPARED, FAILED, HUNG, INSTALLED, REASSIGNED, RECEIVED
from .invariants import DELETED
from .paths import paths_of
from .result import Result


class Tally:
    """The sum of the results of many seeds."""

    def __init__(self) -> None:
        self.seeds = 0
        self.seconds = 0.0
        self.acknowledged = 0
        self.runs = 0
        self.leaders = 0
        self.with_losses = 0
        self.lost_records = 0
        self.torn_records = 0
        self.slowest_recovery = 0.0
        self.slowest_leader = 0.0
        self.faults = dict.fromkeys((kind for kind in KINDS if kind != "burst"), 0)
        self.did: Counter[str] = Counter()
        self.by_schedule: dict[tuple[str, int], int] = {}
        self.failed: list[Result] = []

    def add(self, result: Result) -> None:
        """Count one more."""
        self.seeds += 1
        self.seconds += result.seconds
        self.acknowledged += result.acknowledged
        self.runs += result.runs
        self.leaders += result.leaders
        self.with_losses += bool(result.plan.lost)
        self.lost_records += result.lost_records
        self.torn_records += result.torn_records
        self.slowest_recovery = max(self.slowest_recovery, result.recovery)
        self.slowest_leader = max(self.slowest_leader, result.leader_recovery)
        for kind, count in result.faults.items():
            self.faults[kind] += count
        self.did.update(result.did)
        key = (result.plan.schedule, result.plan.nodes)
        self.by_schedule[key] = self.by_schedule.get(key, 0) + 1
        if result.violations:
            # Of a failure the histories are not kept: its seed gives them again.
            self.failed.append(result)

    @property
    def noticed(self) -> int:
        """Seeds in which more went wrong than a deletion that was made good in time."""
        return sum(any(violation.invariant != DELETED for violation in result.violations) for result in self.failed)

    def __str__(self) -> str:
        count = max(1, self.seeds)
        total = sum(self.faults.values())
        schedules = sorted({schedule for schedule, _ in self.by_schedule})
        rows = [
            ("seeds", f"{self.seeds:,}", ""),
            ("simulated time", f"{self.seconds / 3600:,.1f} h", f"{self.seconds / count:.0f} s a seed"),
            ("commands acknowledged", f"{self.acknowledged:,}", f"{self.acknowledged / count:.0f} a seed"),
            ("runs finished", f"{self.runs:,}", f"{self.runs / count:.0f} a seed"),
            ("terms with a leader", f"{self.leaders:,}", f"{self.leaders / count:.0f} a seed"),
            ("longest wait for a leader", f"{self.slowest_leader:.1f} s", "after everything was healed"),
            ("longest recovery", f"{self.slowest_recovery:.1f} s", "until all runs were finished and all queues empty"),
            ("faults", f"{total:,}", f"{total / count:.0f} a seed"),
            *((f"  {kind}", f"{number:,}", "") for kind, number in self.faults.items()),
            *(
                (what, f"{self.did[what]:,}", "")
                for what in (HUNG, FAILED, ASKED_AGAIN, REASSIGNED, INSTALLED, COMPARED, RECEIVED, CARRIED)
            ),
            ("seeds that lose a minority", f"{self.with_losses:,}", "for good"),
            ("unsynced records lost, torn", f"{self.lost_records:,}, {self.torn_records:,}", ""),
            *(
                (
                    f"schedule {schedule}",
                    f"{sum(n for (name, _), n in self.by_schedule.items() if name == schedule):,}",
                    ", ".join(
                        f"{number:,} with {nodes} nodes"
                        for (name, nodes), number in sorted(self.by_schedule.items())
                        if name == schedule
                    ),
                )
                for schedule in schedules
            ),
            ("seeds with violations", f"{len(self.failed):,}", f"{100 * len(self.failed) / count:.1f} %"),
        ]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def violations(result: Result, mutant: str | None = None) -> str:
    """Return what a seed violated, one a line, and how to see it again; `mutant` is the safeguard taken out."""
    planned = result.plan
    again = f"raftoral-nb simulate --seed {result.seed} --nodes {planned.nodes} --schedule {planned.schedule!r} --trace"
    if result.paths != paths_of(result.seed) and result.without is None:
        again += f" --paths {result.paths}"
    if result.without is not None:
        again += f" --without-guard {result.without}"
    if mutant is not None:
        again += f" --mutant {mutant!r}"
    lines = [f"seed {result.seed} ({planned.schedule}, {planned.nodes} nodes): {again}"]
    lines += [f"    {violation}" for violation in result.violations[:5]]
    if len(result.violations) > 5:
        lines.append(f"    and {len(result.violations) - 5} more")
    return "\n".join(lines)


def trace(result: Result) -> str:
    """Return the readable history of one seed: what was planned, what happened, what came of it."""
    return "\n".join(_trace(result))


def _trace(result: Result) -> Iterable[str]:
    planned = result.plan
    conditions = planned.conditions
    yield f"seed {result.seed}: schedule {planned.schedule!r}, {planned.nodes} nodes, digest {result.digest}"
    yield (
        f"messages take {1000 * conditions.quickest:.1f} to {1000 * conditions.slowest:.1f} ms, clocks are up to "
        f"{100 * conditions.clock_spread:.1f} % off, calls between threads take up to {1000 * conditions.lag:.1f} ms, "
        f"elections take {conditions.pace:g} times the default, heartbeats {conditions.pace * conditions.beat:g} times, records are proposed again after "
        f"{conditions.patience:.3g} s"
    )
    yield f"messages take the {result.paths} path" + ("s" if result.paths == "mixed" else "")
    if planned.lost:
        yield f"{len(planned.lost)} of the nodes stay down after the healing"
    yield f"{len(planned.faults)} faults planned:"
    yield described(planned.faults)
    yield "what happened (virtual seconds, node, what):"
    lines = [
        (time, f"{time:10.4f}  {f'node {node}' if node else '      '}  {what:<12} {details}".rstrip())
        for time, node, what, details in result.history
    ]
    lines += [
        (violation.time, f"{violation.time:10.4f}  VIOLATION     {violation.invariant}: {violation.text}")
        for violation in result.violations
    ]
    yield from (line for _, line in sorted(lines, key=lambda line: line[0]))
    yield (
        f"{result.seconds:.1f} virtual seconds, {sum(result.faults.values())} faults, {result.acknowledged} commands "
        f"acknowledged, {result.runs} runs finished, all well {result.recovery:.1f} s after the healing: "
        f"{len(result.violations) or 'no'} violations"
    )

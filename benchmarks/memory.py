"""The memory of a cluster that runs for long: resident memory over hundreds of thousands of checkpoints.

Three nodes in one process over TCP, default settings. Runs of a few dozen steps follow one another, some at a time. What fills
up first is warm-up: finished runs until as many are kept as may be, then the log until every node has cut it twice behind a
snapshot of that many runs. From there on memory must be flat; what still grows is the list of run_ids that stay refused (up to
`MAX_EVICTED_RUN_IDS`, about 0.2 kB each on each node). Prints a table and draws the curve.

    python benchmarks/memory.py --checkpoints 200000 --svg docs/memory.svg
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec
from curve import Line, draw

from raftoral_nb import Cluster, WorkflowContext, WorkflowRun, workflow
from raftoral_nb.limits import MAX_EVENTS_KEPT, MAX_RUNS_KEPT

MEGA = 1_000_000

FLAT = 0.03
"""Memory counts as flat if a straight line through what was measured after warm-up rises by no more than this share of it."""


class Job(msgspec.Struct, frozen=True):
    """The input of a run: how many steps, and how many bytes each records."""

    steps: int
    size: int


@workflow(version=1)
async def diary(ctx: WorkflowContext, job: Job) -> int:
    """Set a replicated variable again and again; each is a checkpoint."""
    variable = await ctx.var("page", page(-1, job.size))
    for number in range(job.steps - 1):
        await variable.set(page(number, job.size))
    return job.steps


def page(number: int, size: int) -> bytes:
    """Return so many bytes, unlike those of another number."""
    return b"%d" % number + bytes(max(0, size - 8))


class Sample(msgspec.Struct, frozen=True):
    """The memory held at one moment. Sizes in bytes; of the three nodes, log and snapshot are sums."""

    checkpoints: int
    seconds: float
    resident: int
    log_entries: int
    log_bytes: int
    snapshot_bytes: int
    snapshots: int
    """The number made by the node that has made the fewest."""
    snapshots_full: int
    """The same, counted from when as many runs are kept as may be."""
    runs_kept: int
    run_ids_refused: int

    @property
    def warm(self) -> bool:
        """True if everything that is kept up to a limit has reached that limit."""
        return self.snapshots_full >= 2 and self.checkpoints >= MAX_EVENTS_KEPT


def resident() -> int:
    """Return the bytes of this process that are in memory (Linux; elsewhere the most there ever were)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class Sampler:
    """A sampler of a cluster, which counts the snapshots that each node has made."""

    def __init__(self, cluster: Cluster) -> None:
        self._host = cluster._host
        self._begun = time.monotonic()
        self._seen = dict.fromkeys(self._host.numbers, (0, 0))
        self._full: dict[int, int] = {}

    def __call__(self) -> Sample:
        """Return what is held now."""
        journals = {number: self._host.journals.of(number) for number in self._host.numbers}
        state = self._host.head()
        for number, journal in journals.items():
            count, last = self._seen[number]
            if journal.snapshot is not None and journal.snapshot.index > last:
                self._seen[number] = (count + 1, journal.snapshot.index)
        counts = {number: count for number, (count, _) in self._seen.items()}
        if not self._full and len(state.finished) >= MAX_RUNS_KEPT:
            self._full = counts
        return Sample(
            checkpoints=state.checkpoints,
            seconds=time.monotonic() - self._begun,
            resident=resident(),
            log_entries=sum(map(len, journals.values())),
            log_bytes=sum(len(entry[0]) for journal in journals.values() for entry in tuple(journal._entries)),
            snapshot_bytes=sum(journal.snapshot.size for journal in journals.values() if journal.snapshot is not None),
            snapshots=min(counts.values()),
            snapshots_full=min(counts[number] - before for number, before in self._full.items()) if self._full else 0,
            runs_kept=len(state.finished),
            run_ids_refused=len(state.evicted),
        )


def measure(options: argparse.Namespace) -> list[Sample]:
    """Return samples, one every `options.every` checkpoints or so."""
    samples: list[Sample] = []
    job = Job(options.steps, options.size)
    with Cluster(3, proposal_timeout=60.0) as cluster:
        look = Sampler(cluster)
        cluster.register_workflow(diary)
        samples.append(look())
        going: deque[WorkflowRun[int]] = deque()
        started = 0
        while started < options.checkpoints or going:
            while started < options.checkpoints and len(going) < options.at_once:
                going.append(cluster.start_workflow(diary, job))
                started += options.steps
            going.popleft().wait_for_completion(600)
            sample = look()
            if sample.checkpoints - samples[-1].checkpoints >= options.every or not going:
                samples.append(sample)
                if sys.stderr.isatty():
                    print(f"\r\x1b[K{sample.checkpoints:,} checkpoints", end="", file=sys.stderr, flush=True)
    return samples


def slope(samples: Sequence[Sample]) -> float:
    """Return the bytes of resident memory per checkpoint: the line that fits the samples best (least squares)."""
    xs = [one.checkpoints for one in samples]
    ys = [one.resident for one in samples]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def print_table(samples: Sequence[Sample], every: int) -> None:
    """Print a row for every `every` checkpoints."""
    print(
        "checkpoints   seconds   resident MB   log entries   log MB   snapshots MB   snapshots   runs kept   ids refused"
    )
    due = 0
    for one in samples:
        if one.checkpoints >= due or one is samples[-1]:
            due = one.checkpoints - one.checkpoints % every + every
            print(
                f"{one.checkpoints:11,}{one.seconds:10.0f}{one.resident / MEGA:14.1f}{one.log_entries:14,}"
                f"{one.log_bytes / MEGA:9.1f}{one.snapshot_bytes / MEGA:15.1f}{one.snapshots:12}{one.runs_kept:12,}"
                f"{one.run_ids_refused:14,}"
            )


def verdict(samples: Sequence[Sample]) -> bool:
    """Print whether memory is flat after warm-up; True if it is."""
    warm = next((place for place, one in enumerate(samples) if one.warm), None)
    half = samples[-1].checkpoints / 2
    second = [one for one in samples if one.checkpoints >= half]
    if warm is None or len(samples) - warm < 10:
        print("Warm-up did not end early enough to say more: take more checkpoints.")
        return False
    after = samples[warm:]
    print(
        f"Warm-up ended at {after[0].checkpoints:,} checkpoints: {MAX_RUNS_KEPT:,} finished runs are kept, and since then every "
        "node has cut its log twice."
    )
    peaks = [max(one.resident for one in part) for part in (second[: len(second) // 2], second[len(second) // 2 :])]
    print(
        f"Second half: {slope(second):+.1f} bytes of resident memory per checkpoint; at most {peaks[0] / MEGA:.1f} MB in the third "
        f"quarter, {peaks[1] / MEGA:.1f} MB in the fourth."
    )
    rise = slope(after) * (after[-1].checkpoints - after[0].checkpoints)
    share = rise / (sum(one.resident for one in after) / len(after))
    flat = share <= FLAT
    print(f"After warm-up: {share:+.1%} over all; {'flat' if flat else 'NOT FLAT'} (up to {FLAT:.0%}).")
    return flat


def picture(samples: Sequence[Sample]) -> str:
    """Return the curve as SVG."""
    warm = next((one.checkpoints for one in samples if one.warm), None)

    def points(name: str) -> list[tuple[float, float]]:
        return [(one.checkpoints, getattr(one, name) / MEGA) for one in samples]

    return draw(
        "Memory of a cluster of three nodes",
        [
            Line("resident memory of the process", points("resident")),
            Line("log of all nodes", points("log_bytes")),
            Line("snapshots of all nodes", points("snapshot_bytes")),
        ],
        x_title="checkpoints",
        y_title="MB",
        mark=None if warm is None else (warm, "warm-up ends"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and draw; 0 unless memory was not flat and `--strict` was given."""
    parser = argparse.ArgumentParser(description="Resident memory of a cluster over many checkpoints.")
    parser.add_argument("--checkpoints", type=int, default=200_000, help="how many (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="checkpoints of a run (default: %(default)s)")
    parser.add_argument("--size", type=int, default=100, help="bytes of a value (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=8, help="runs at the same time (default: %(default)s)")
    parser.add_argument(
        "--every", type=int, default=1000, help="checkpoints between two samples (default: %(default)s)"
    )
    parser.add_argument("--svg", type=Path, help="where to draw the curve")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if memory is not flat")
    options = parser.parse_args(argv)
    print(
        f"CPython {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; 3 nodes over TCP, runs of "
        f"{options.steps} steps of {options.size} bytes, {options.at_once} at a time\n"
    )
    samples = measure(options)
    print_table(samples, max(1, options.checkpoints // 20))
    print()
    flat = verdict(samples)
    if options.svg is not None:
        options.svg.write_text(picture(samples))
    return 0 if flat or not options.strict else 1


if __name__ == "__main__":
    sys.exit(main())

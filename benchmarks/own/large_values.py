"""Large arrays: what it takes to record one, to hold it in memory, and to have it back after a restart.

A step returns an array of random bytes on one and on three nodes that sync to disk. In the same run the same array is written by
`pickle.dump`, and as raw bytes, to a file that is synced. These take turns; each is a process of its own, so that peaks of memory are
not each other's. The page cache is warm when a value is read again: what is told is work, not the speed of the disk.

    python -m benchmarks.own.large_values                 # 10 and 100 MB
    python -m benchmarks.own.large_values --megabytes 1000 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.measuring import peak_bytes, resident_bytes
from raftoral_nb import Cluster, WorkflowContext, workflow

from . import seen
from .shared import PATIENCE, SEEN, acting, chain
from .sizes import MEGA

RUN: Final = "large"
"""The `run_id` of the run that records the array."""
FILE: Final = "array.pickle"
PARTS: Final = ("files", "record", "restore")
"""Processes of one round, in their order: the last reads what those before it wrote."""


def at_hand() -> Any:
    """Return the array that was made before, so that making it is not measured."""
    mine: Any = sys.modules[SEEN]
    return mine.array


@workflow(version=1)
async def one_array(ctx: WorkflowContext, _: None) -> int:
    """Take one step that returns the array; keep how long it took."""
    begun = time.perf_counter()
    array = await ctx.compute("array", at_hand)
    sys.modules[SEEN].times[ctx.node] = [time.perf_counter() - begun]
    size: int = array.nbytes
    return size


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, in seconds, and what it returned."""
    begun = time.perf_counter()
    found = what()
    return time.perf_counter() - begun, found


def random_array(megabytes: int) -> Any:
    """Return an array of so many megabytes (of 1,000,000 bytes) that no compression makes smaller."""
    # Made without a copy, which would be the peak of what is measured afterwards.
    return np.random.default_rng().integers(0, 256, megabytes * MEGA, dtype=np.uint8)


def write(path: Path, put: Callable[[Any], Any]) -> float:
    """Return how long it took to write a new file and to sync it, in seconds."""
    begun = time.perf_counter()
    with path.open("wb") as file:
        put(file)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - begun


def files(megabytes: int, nodes: int, folder: Path) -> dict[str, float]:  # noqa: ARG001 - as the other parts
    """Write an array to files, in either order: the disk may still be busy with the first when the second begins."""
    array = random_array(megabytes)
    before = resident_bytes()
    found: dict[str, float] = {}
    ways: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("pickle", FILE, lambda file: pickle.dump(array, file, protocol=5)),
        ("raw", "array.raw", lambda file: file.write(array.data)),
    ]
    random.shuffle(ways)
    for name, file, put in ways:
        found[name] = write(folder / file, put)
    return found | {"files peak": max(0, peak_bytes() - before)}


def record(megabytes: int, nodes: int, folder: Path) -> dict[str, float]:
    """Record an array as the value of a step."""
    with Cluster(nodes, data_dir=folder / "data", durability="disk", proposal_timeout=60.0) as cluster:
        cluster.start_workflow(chain, 20).wait_for_completion(PATIENCE)
        seen.array = random_array(megabytes)
        before = resident_bytes()
        run = cluster.start_workflow(one_array, run_id=RUN)
        if run.wait_for_completion(PATIENCE) != megabytes * MEGA:
            raise RuntimeError("the array that was recorded is not the one that was given")
        for node in cluster.nodes.values():
            node.result(RUN, PATIENCE)
        (seconds,) = seen.times[acting(cluster)]
    return {"record": seconds, "record peak": max(0, peak_bytes() - before)}


def restore(megabytes: int, nodes: int, folder: Path) -> dict[str, float]:  # noqa: ARG001 - as the other parts
    """Have the array back: by a cluster that starts from the directory, and from the file."""
    before = resident_bytes()
    cluster = Cluster(data_dir=folder / "data", durability="disk")
    start, _ = timed(cluster.start)
    try:
        value, array = timed(lambda: cluster.run(RUN).value("array"))
        touch, total = timed(lambda: int(array.sum(dtype=np.uint64)))
        peak = max(0, peak_bytes() - before)
    finally:
        cluster.stop()
    if array.nbytes != megabytes * MEGA or total == 0:
        raise RuntimeError("the array that came back is not the one that was recorded")
    with (folder / FILE).open("rb") as file:
        load, other = timed(lambda: pickle.load(file))
    touch_loaded, _ = timed(lambda: int(other.sum(dtype=np.uint64)))
    return {
        "start": start,
        "value": value,
        "touched": value + touch,
        "load": load + touch_loaded,
        "restore peak": peak,
    }


def one_round(megabytes: int, nodes: int, scratch: Path | None) -> dict[str, float]:
    """Return what the processes of one round found: seconds, and bytes of peaks."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for part in PARTS:
            task = json.dumps([part, megabytes, nodes, folder])
            done = subprocess.run(
                [sys.executable, "-P", "-m", "benchmarks.own.large_values", "--part", task],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found |= json.loads(done.stdout.splitlines()[-1])
    return found


def be(task: str) -> None:
    """Do one part in this process, and say what it found."""
    part, megabytes, nodes, folder = json.loads(task)
    parts: dict[str, Callable[[int, int, Path], dict[str, float]]] = dict(
        zip(PARTS, (files, record, restore), strict=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the workflows look at clocks, and are warned of it
        found = parts[part](megabytes, nodes, Path(folder))
    print(json.dumps(found))


def told(megabytes: int, nodes: int, rounds: Sequence[dict[str, float]]) -> str:
    """Return a line of medians, and of ratios with what they were in the rounds."""

    def middle(name: str) -> float:
        return statistics.median(one[name] for one in rounds)

    def ratio(over: str, under: str) -> str:
        ratios = sorted(one[over] / one[under] for one in rounds)
        return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"

    size = megabytes * MEGA
    seconds = "".join(f"{middle(name) * 1e3:>10.1f}" for name in ("record", "pickle", "raw"))
    again = "".join(f"{middle(name) * 1e3:>10.1f}" for name in ("start", "value", "touched", "load"))
    peaks = "".join(f"{middle(name) / size:>9.2f}" for name in ("record peak", "files peak", "restore peak"))
    return (
        f"{megabytes:>6}{nodes:>6}{seconds}{ratio('record', 'pickle'):>24}{ratio('record', 'raw'):>24}{again}"
        f"{ratio('touched', 'load'):>24}{peaks}"
    )


HEAD: Final = (
    f"{'MB':>6}{'nodes':>6}{'record':>10}{'pickle':>10}{'raw':>10}{'record/pickle':>24}{'record/raw':>24}{'start':>10}{'value':>10}"
    f"{'touched':>10}{'load':>10}{'touched/load':>24}{'peak:rec':>9}{'files':>9}{'restore':>9}"
)
LEGEND: Final = """
record: a step that returns the array, until it is recorded; pickle, raw: written to a file and synced. start: the cluster, again, from its
directory; value: run.value(...) then; touched: with every byte read; load: pickle.load of the file, every byte read. Times in ms, ratios as
median (least-most) of the rounds; peaks of memory beyond what there was before, as multiples of the array's size."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What it takes to record large arrays, and to have them back.")
    parser.add_argument(
        "--megabytes", type=int, nargs="+", default=[10, 100], help="sizes (default: 10 100; up to 1000)"
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 3], help="numbers of nodes (default: 1 3)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--scratch", type=Path, help="a folder on the disk to measure; else that for temporary files")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        be(options.part)
        return 0
    print(f"CPython {sys.version.split()[0]}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n\n{HEAD}")
    for megabytes in options.megabytes:
        rounds: dict[int, list[dict[str, float]]] = {nodes: [] for nodes in options.nodes}
        for _ in range(options.rounds):
            for nodes, found in rounds.items():
                found.append(one_round(megabytes, nodes, options.scratch))
        for nodes, found in rounds.items():
            print(told(megabytes, nodes, found), flush=True)
    print(LEGEND)
    return 0


if __name__ == "__main__":
    sys.exit(main())

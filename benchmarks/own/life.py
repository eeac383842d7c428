"""Import, start and stop, and a cluster that has nothing to do."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.measuring import Found, Task, processor_seconds
from raftoral_nb import Cluster

from .shared import cluster_of, steps

IMPORT = """
import time
begun = time.perf_counter()
import raftoral_nb
raftoral_nb.Cluster, raftoral_nb.workflow
print("SECONDS", time.perf_counter() - begun)
"""

LOAD = """
import time
from IPython.core.interactiveshell import InteractiveShell
import ipykernel.ipkernel
shell = InteractiveShell.instance()
begun = time.perf_counter()
shell.run_line_magic("load_ext", "raftoral_nb")
print("SECONDS", time.perf_counter() - begun)
begun = time.perf_counter()
shell.run_line_magic("raftoral", "start --nodes 3;")
print("SECONDS", time.perf_counter() - begun)
shell.run_line_magic("raftoral", "stop;")
"""


def life(task: Task) -> Found:
    """Measure, each in a new process, `import`, `%load_ext` and the first start in a kernel; then start and stop."""
    series: dict[str, list[float]] = {name: [] for name in ("import", "load", "first start", "start", "stop")}
    for _ in range(task.numbers["times"]):
        series["import"] += _seconds(IMPORT)
        try:
            load, start = _seconds(LOAD)
            series["load"].append(load)
            series["first start"].append(start)
        except ModuleNotFoundError:  # this environment has no kernel
            pass
        cluster = Cluster(task.side["nodes"])
        begun = time.perf_counter()
        cluster.start()
        series["start"].append(time.perf_counter() - begun)
        cluster.start_workflow(steps, 1).wait_for_completion(60)
        begun = time.perf_counter()
        cluster.stop()
        series["stop"].append(time.perf_counter() - begun)
    return Found(len(series["start"]), {name: times for name, times in series.items() if times})


def _seconds(program: str) -> list[float]:
    """Run a program in a process of its own; returns what it has measured."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", program], capture_output=True, text=True, check=False
    )
    if "ModuleNotFoundError" in done.stderr:
        raise ModuleNotFoundError(done.stderr.splitlines()[-1])
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("SECONDS")]


def idle(task: Task) -> Found:
    """Measure the share of a processor that a cluster of five nodes takes while nothing happens."""
    with cluster_of(task, nodes=5) as cluster:
        cluster.start_workflow(steps, 20).wait_for_completion(60)
        time.sleep(task.numbers["settle"])  # what the run left to do is done
        before, begun = processor_seconds(), time.perf_counter()
        time.sleep(task.numbers["seconds"])
        return Found(0, figures={"idle": (processor_seconds() - before) / (time.perf_counter() - begun)})

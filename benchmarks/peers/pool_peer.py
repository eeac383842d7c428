"""What people use to spread functions over the cores: joblib with its loky workers, and the standard library's pool of processes.

They record nothing, and what ran is lost with the process. Both are asked as their documentation has it, with a worker for each core.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

from benchmarks.burning import burnt, numbers_of
from benchmarks.measuring import Found, Task, spent

Spread = Callable[[Sequence[tuple[int, int]]], int]


def measured(spread: Spread, given: Sequence[tuple[int, int]]) -> Found:
    """Measure it twice: the first time it starts its workers."""
    found, result = [], 0
    for _ in range(2):
        with spent([os.getpid()]) as stretch:
            result = spread(given)
        found.append(stretch)
    first, again = found
    return Found(
        result, figures={"again": again.seconds, "first": first.seconds, "processor": again.processor / len(given)}
    )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def joblib(given: Sequence[tuple[int, int]]) -> Found:
    """Measure joblib; its workers stay between two calls by themselves."""
    if importlib.util.find_spec("joblib") is None:
        return Found(absent="joblib is not installed here")
    from joblib import Parallel, delayed

    return measured(lambda these: sum(Parallel(n_jobs=cores())(delayed(burnt)(one) for one in these)), given)


def pool(given: Sequence[tuple[int, int]]) -> Found:
    """Measure `ProcessPoolExecutor`."""
    with ProcessPoolExecutor(cores()) as executor:
        return measured(lambda these: sum(executor.map(burnt, these)), given)


if __name__ == "__main__":
    task = Task.given()
    {"joblib": joblib, "pool": pool}[task.side["of"]](numbers_of(task.numbers)).say()

"""Which module measures which case, for this build and others of this project."""

from __future__ import annotations

import importlib
import warnings
from typing import Final, cast

from benchmarks.measuring import Found, Task

ROOMS: Final = {
    "step": "sequences",
    "one": "sequences",
    "batch": "sequences",
    "wide": "sequences",
    "starts": "sequences",
    "waiting": "waits",
    "values": "sizes",
    "long": "sizes",
    "late": "faults",
    "kills": "faults",
    "recovery": "recovering",
    "idle": "life",
    "life": "life",
    "command": "engine",
    "growth": "growth",
    "fan_out": "executing",
    "fan_small": "executing",
    "owners": "executing",
    "dask": "executing",
    "restore": "restoring",
}
"""The module of each case; the function in it has the name of the case."""

SAME: Final = {"wide": "batch", "fan_small": "fan_out"}
"""Cases that differ from another only in their numbers."""


def measure(task: Task) -> Found:
    """Measure a case in this process."""
    module = importlib.import_module(f"benchmarks.own.{ROOMS[task.case]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the workflows look at clocks, and are warned of it
        return cast("Found", getattr(module, SAME.get(task.case, task.case))(task))

"""Every test of a cluster leaves no thread, socket, file or task behind."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import Cluster, current_cluster
from tests.cluster import helpers

_FDS = Path("/proc/self/fd")


def _threads() -> set[threading.Thread]:
    # Trio keeps idle threads of its own for ten seconds, for whoever needs one next.
    return {thread for thread in threading.enumerate() if not thread.name.startswith("Trio")}


def _join(threads: set[threading.Thread]) -> list[str]:
    """The names of those that do not end. Nothing holds the others from here on: those of pools have pipes."""
    for thread in threads:
        thread.join(helpers.PATIENCE)
    return [thread.name for thread in threads if thread.is_alive()]


def _fds() -> Counter[str]:
    """What the open descriptors are: kinds of sockets and pipes, names of files."""
    if not _FDS.is_dir():
        return Counter()
    found: Counter[str] = Counter()
    for path in _FDS.iterdir():
        try:
            found[str(path.readlink()).partition(":")[0]] += 1
        except OSError:  # the one that listed the folder
            continue
    return found


def _tasks() -> set[Any]:
    known: Any = getattr(asyncio.tasks, "_all_tasks", None) or getattr(asyncio.tasks, "_scheduled_tasks", ())
    return {task for task in tuple(known) if not task.done()}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what was there before the test need not be looked through behind it
    threads, fds, tasks, streams = _threads(), _fds(), _tasks(), (sys.stdout, sys.stderr)
    yield
    helpers.forget_all()
    alive = _join(_threads() - threads)
    gc.collect()
    assert not alive, "threads are left"
    assert not _fds() - fds, "descriptors are left"
    assert not _tasks() - tasks, "tasks are left"
    assert (sys.stdout, sys.stderr) == streams, "the streams are still captured"
    assert current_cluster() is None, "a cluster still runs"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three nodes over TCP."""
    with Cluster(3) as one:
        yield one

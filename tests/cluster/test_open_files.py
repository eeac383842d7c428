"""A process that may open too few files says so before anything is begun, and nothing is left over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftoral_nb import Cluster, TooManyOpenFilesError, WorkflowContext
from raftoral_nb.hosts import open_files

resource = pytest.importorskip("resource", reason="this system has no limit of open files")

SCRIPT = """
import gc, os, resource, sys, tempfile, threading, warnings
from pathlib import Path
from raftoral_nb import Cluster, RaftoralError, TooManyOpenFilesError

warnings.simplefilter("error")
kind, limit = sys.argv[1], int(sys.argv[2])
folder = Path(tempfile.mkdtemp()) / "data"
options = {"tcp": {}, "memory": {"network": "memory"}, "data": {"data_dir": folder}, "processes": {"processes": True}}[kind]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

async def greet(ctx, name):
    return await ctx.compute("greet", "hello {}".format, name)

def opened():
    return set(os.listdir("/dev/fd"))

def tried(what, act):
    try:
        act()
        print(what, "done")
    except TooManyOpenFilesError as error:
        assert "ulimit -n" in str(error) and f"may have {limit}" in str(error), error
        print(what, "refused")

def use():
    with Cluster(3, **options) as cluster:
        assert cluster.start_workflow(greet, "you").wait_for_completion(60) == "hello you"
        print("ran")
        tried("add", cluster.add)
        cluster.kill("follower")
        tried("restart", lambda: cluster.restart("dead"))
        assert cluster.start_workflow(greet, "them").wait_for_completion(60) == "hello them"

before, threads = opened(), threading.active_count()
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
tried("start", use)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
gc.collect()
assert opened() == before, opened() - before
assert threading.active_count() == threads
assert kind != "data" or not folder.exists() or "ran" in Path(sys.argv[3]).read_text()
"""


def run(kind: str, limit: int, tmp_path: Path) -> list[str]:
    path = tmp_path / f"said-{kind}-{limit}"
    with path.open("w") as out:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, kind, str(limit), str(path)],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("kind", "too_few", "just_enough"),
    [
        ("memory", [10, 16, 20], 22),
        ("tcp", [10, 16, 24], 33),
        ("data", [12, 24, 36], 42),
        ("processes", [10, 16, 24], 40),
    ],
)
def test_too_few_files_are_told_at_the_start_and_enough_are_enough(
    kind: str, too_few: list[int], just_enough: int, tmp_path: Path
) -> None:
    for limit in too_few:
        assert run(kind, limit, tmp_path) == ["start refused"]
    said = run(kind, just_enough, tmp_path)
    assert said[0] == "ran"
    assert said[-1] == "start done"
    assert said[1] == ("add refused" if kind != "processes" else "add done")


async def greet(ctx: WorkflowContext, name: str) -> str:
    return await ctx.compute("greet", "hello {}".format, name)


def test_a_cluster_that_may_not_open_more_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(3) as cluster:
        monkeypatch.setattr(open_files, "_limit", lambda: 20)
        monkeypatch.setattr(open_files, "_opened", lambda limit: 18)
        with pytest.raises(TooManyOpenFilesError, match=r"node 4 needs about 16 more open files .* and 18 are open"):
            cluster.add()
        node = cluster.kill("follower")
        with pytest.raises(TooManyOpenFilesError, match=f"node {node} needs"):
            cluster.restart(node)
        assert cluster.start_workflow(greet, "you").wait_for_completion(30) == "hello you"
        monkeypatch.undo()
        cluster.restart(node)
        assert sorted(cluster.nodes) == [1, 2, 3]


def test_the_systems_own_complaint_is_told_as_ours() -> None:
    with (
        pytest.raises(TooManyOpenFilesError, match="it cannot be done: this process has too many open files"),
        open_files.told("it cannot be done"),
    ):
        raise OSError(24, "Too many open files")
    with pytest.raises(FileNotFoundError), open_files.told("it cannot be done"):
        raise FileNotFoundError(2, "No such file")

"""The key file of a cluster in this process: there while it runs, true, and gone with it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftoral_nb import Cluster
from raftoral_nb.discovery import key_file
from raftoral_nb.discovery.key_file import KeyFile
from tests.cluster.helpers import STEADFAST, engine, followers
from tests.cluster.intruder import network_of


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


def contents() -> list[KeyFile]:
    return [one.content for one in key_file.found() if one.content is not None]


def test_a_running_cluster_has_a_key_file_that_follows_its_nodes_and_ends_with_it(tmp_path: Path) -> None:
    with Cluster(2, name="lab", data_dir=tmp_path / "data", timing=STEADFAST) as cluster:
        (held,) = contents()
        assert (held.name, held.kind, held.data_dir) == ("lab", "kernel", str(tmp_path / "data"))
        assert held.key == engine(cluster).key
        assert [process.pid for process in held.processes] == [os.getpid()]
        assert sorted(held.nodes) == [1, 2]
        assert {place.address.rpartition(":")[0] for place in held.nodes.values()} == {"127.0.0.1"}
        follower = followers(cluster)[0]
        number = cluster.add()
        assert sorted(contents()[0].nodes) == [1, 2, number]
        cluster.kill(follower)
        cluster.restart(follower)
        ports = {int(place.address.rpartition(":")[2]) for place in contents()[0].nodes.values()}
        network = network_of(cluster)
        assert ports == {endpoint.address[1] for endpoint in network._endpoints.values()}
        cluster.remove(follower)
        assert sorted(contents()[0].nodes) == sorted({1, 2, number} - {follower})
        with Cluster(1, name="lab") as namesake:
            assert sorted(one.key for one in contents()) == sorted([engine(cluster).key, engine(namesake).key])
    assert contents() == []
    assert list(key_file.folder().iterdir()) == []


def test_a_cluster_that_cannot_be_reached_or_could_not_start_has_none() -> None:
    with Cluster(1, network="memory"):
        assert contents() == []
    with Cluster(1) as cluster:
        port = int(contents()[0].nodes[1].address.rpartition(":")[2])
        with pytest.raises(Exception, match="is taken"):
            Cluster(1, ports=[port]).start()
        assert len(contents()) == 1
        assert cluster.running


def test_without_a_safe_place_for_the_file_the_cluster_runs_and_keeps_its_key_to_itself(
    runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (runtime / "raftoral").mkdir(parents=True)
    (runtime / "raftoral").chmod(0o755)
    with caplog.at_level(logging.WARNING), Cluster(1) as cluster:
        cluster.restart(cluster.kill(1))
        assert list((runtime / "raftoral").iterdir()) == []
        assert "open to others" in str(cluster.unlisted)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "runs without a key file" in warning
    assert "open to others" in warning


CHILD = """
import os, sys
from raftoral_nb import Cluster; from raftoral_nb.discovery import key_file
cluster = Cluster(1, name="child").start()
if sys.argv[1] == "fork":
    if os.fork() == 0:
        sys.exit()  # runs what was registered for the end, in the child
    os.wait()
    assert len(key_file.found()) == 1, key_file.found()
elif sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("end", ["exit", "fork"])
def test_a_process_that_ends_without_stop_leaves_no_file(end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, end], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(key_file.folder().iterdir()) == []


def test_the_file_of_a_killed_process_is_cleared_away_by_the_next_start() -> None:
    killed = subprocess.run([sys.executable, "-c", CHILD, "killed"], capture_output=True, timeout=60, check=False)
    assert killed.returncode == -9
    assert [path.name for path in key_file.folder().iterdir()] == ["child.json"]
    with Cluster(1, name="next"):
        assert [path.name for path in key_file.folder().iterdir()] == ["next.json"]

"""Clusters that keep their logs in a data directory."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import (
    Cluster,
    ClusterError,
    ClusterRecovered,
    Compression,
    DamagedStorageError,
    DirectoryInUseError,
    Encryption,
    ForeignDirectoryError,
    NodeChanged,
    NoSuchNodeError,
    NotAcknowledgedError,
    StorageFailed,
    WorkflowContext,
)
from raftoral_nb.cli import main
from raftoral_nb.hosts import disk_retry
from raftoral_nb.raft.compaction import Compaction
from raftoral_nb.storage.sqlite_store import LOG_FILE
from tests.cluster.helpers import PATIENCE, Watch, followers, gate, note, notes

LEVELS = pytest.mark.parametrize("durability", ["process", "disk"])


async def double(ctx: WorkflowContext, value: Any) -> Any:
    return await ctx.compute("double", lambda: 2 * value)


async def two_steps(ctx: WorkflowContext, name: str) -> list[str]:
    first = await ctx.compute("first", noted, f"{name} first")
    held = await ctx.compute("second", waited, name)
    return [first, held]


def noted(what: str) -> str:
    note(what)
    return what


def waited(name: str) -> str:
    gate(name).enter()
    return noted(f"{name} second")


@LEVELS
def test_a_stopped_cluster_goes_on_from_its_directory_without_its_cells(tmp_path: Path, durability: Any) -> None:
    with Cluster(3, data_dir=tmp_path / "lab", durability=durability) as cluster:
        assert cluster.name == "lab"
        assert cluster.recovered is None
        cluster.register_workflow("double", 1, double)
        assert cluster.start_workflow("double", 21, run_id="answer").wait_for_completion(timeout=PATIENCE) == 42
    with Cluster(data_dir=tmp_path / "lab", durability=durability) as cluster:
        assert (cluster.name, len(cluster.nodes)) == ("lab", 3)
        assert cluster.run("answer").wait_for_completion(timeout=PATIENCE) == 42
        assert cluster.start_workflow("double", 4).wait_for_completion(timeout=PATIENCE) == 8
        found = cluster.recovered
        assert found is not None
        assert (found.runs, found.unfinished, found.steps, found.workflows) == (1, 0, 1, 1)
        assert [event for _, event in cluster.history() if isinstance(event, ClusterRecovered)] == [found]


@LEVELS
def test_an_unfinished_run_goes_on_behind_its_last_recorded_step(tmp_path: Path, durability: Any) -> None:
    with Cluster(3, data_dir=tmp_path, durability=durability) as cluster:
        cluster.register_workflow("two_steps", 1, two_steps)
        cluster.start_workflow("two_steps", "before", run_id="it")
        gate("before").await_arrival()
        cluster.kill("leader")
    gate("before").open()
    with Cluster(data_dir=tmp_path, durability=durability) as cluster:
        assert cluster.run("it").wait_for_completion(timeout=PATIENCE) == ["before first", "before second"]
        assert cluster.recovered is not None
        assert cluster.recovered.unfinished == 1
    assert notes().count("before first") == 1


@LEVELS
def test_a_killed_node_restarts_from_its_files(tmp_path: Path, durability: Any) -> None:
    with Cluster(3, data_dir=tmp_path, durability=durability) as cluster:
        assert cluster.start_workflow(double, 1).wait_for_completion(timeout=PATIENCE) == 2
        for _ in range(3):
            killed = cluster.kill("leader")
            assert cluster.start_workflow("double", 5).wait_for_completion(timeout=PATIENCE) == 10
            cluster.restart(killed)
            cluster.nodes[killed].wait_until_applied(timeout=PATIENCE)
        assert len(cluster.runs()) == 4


@LEVELS
def test_one_node_alone_keeps_what_it_acknowledged(tmp_path: Path, durability: Any) -> None:
    with Cluster(1, data_dir=tmp_path, durability=durability) as cluster:
        assert cluster.start_workflow(double, 3).wait_for_completion(timeout=PATIENCE) == 6
    with Cluster(data_dir=tmp_path, durability=durability) as cluster:
        assert [run.wait_for_completion(timeout=PATIENCE) for run in cluster.runs()] == [6]


def test_a_directory_is_used_by_one_cluster_at_a_time(tmp_path: Path) -> None:
    with Cluster(1, data_dir=tmp_path), pytest.raises(DirectoryInUseError, match="in use by cluster"):
        Cluster(1, data_dir=tmp_path).start()
    with Cluster(data_dir=tmp_path):
        pass


def test_another_number_of_nodes_is_refused(tmp_path: Path) -> None:
    with Cluster(1, data_dir=tmp_path):
        pass
    with pytest.raises(ForeignDirectoryError, match="leave name and nodes out"):
        Cluster(3, data_dir=tmp_path).start()


def test_a_damaged_node_is_named_and_the_others_go_on_without_it_when_asked_to(tmp_path: Path) -> None:
    with Cluster(3, data_dir=tmp_path) as cluster:
        cluster.start_workflow(double, 1, run_id="it").wait_for_completion(timeout=PATIENCE)
    file = tmp_path / "node-2" / LOG_FILE
    damaged = file.read_bytes()[:5000]
    file.write_bytes(damaged)
    with pytest.raises(DamagedStorageError, match=r"node-2.log\.db is damaged.*leave_out"):
        Cluster(data_dir=tmp_path).start()
    with Cluster(data_dir=tmp_path, leave_out=[2]) as cluster:
        assert cluster.run("it").wait_for_completion(timeout=PATIENCE) == 2
        assert cluster.start_workflow("double", 4).wait_for_completion(timeout=PATIENCE) == 8
        assert not cluster.nodes[2].alive
        with pytest.raises(DamagedStorageError):
            cluster.restart(2)
    assert file.read_bytes() == damaged


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"durability": "disk"}, ClusterError, "needs a data_dir"),
        ({"durability": "tape"}, ClusterError, "'memory', 'process' or 'disk'"),
        ({"durability": "memory", "data_dir": "x"}, ClusterError, "stores nothing"),
        ({"leave_out": [7]}, NoSuchNodeError, "there is no node 7 to leave out"),
        ({"leave_out": [1, 2]}, ClusterError, "there is no majority"),
        ({"leave_out": 2}, ClusterError, "a list of nodes such as"),
        ({"data_dir": ""}, ClusterError, "it is empty"),
        ({"data_dir": 5}, ClusterError, "data_dir 5 is not a path"),
        ({"data_dir": "a\0b"}, ClusterError, "is not a path that can be used"),
        ({"data_dir": "not-utf-8-\udcff"}, ClusterError, "is not a path that can be used"),
        ({"data_dir": "~no-such-user-of-this-machine/lab"}, ClusterError, "is not a path that can be used"),
        ({"name": 5}, ClusterError, "a cluster's name is text"),
        ({"name": "\udcff"}, ClusterError, "a cluster's name is text"),
        ({"ports": [1, 2]}, ClusterError, "3 nodes need 3 ports, got 2"),
        ({"ports": [1, 2, 65_536]}, ClusterError, "whole numbers from 0"),
        ({"ports": 7001}, ClusterError, "whole numbers from 0"),
        ({"proposal_timeout": 0}, ClusterError, "a number of seconds above 0"),
        ({"proposal_timeout": "10"}, ClusterError, "a number of seconds above 0"),
        ({"timing": 0.05}, ClusterError, "timing is a raftoral_nb.Timing"),
        ({"compaction": 1000}, ClusterError, "compaction is a raftoral_nb.Compaction"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Cluster(3, **options)


@contextlib.contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@LEVELS
def test_a_full_disk_stops_acknowledgements_says_so_loses_nothing_and_ends_when_there_is_room(
    tmp_path: Path, durability: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_retry, "STORAGE_RETRY_SECONDS", (0.05, 0.2))
    with Cluster(3, data_dir=tmp_path, durability=durability, proposal_timeout=5.0) as cluster, Watch(cluster) as watch:
        cluster.register_workflow("double", 1, double)
        assert cluster.start_workflow("double", 1, run_id="before").wait_for_completion(timeout=PATIENCE) == 2
        with full_disk(4096):
            with pytest.raises(NotAcknowledgedError):
                cluster.start_workflow("double", "x" * 100_000, run_id="lost")
            failed = watch.until(StorageFailed)
            assert str(tmp_path) in failed.reason
            watch.until(NodeChanged, lambda event: event.node == failed.node and event.change == "killed")
            dead = cluster.statistics().nodes[failed.node]
            assert (dead.role, dead.storage_error is not None) == ("dead", True)
        cluster.wait_for_leader(PATIENCE)
        assert cluster.start_workflow("double", 4, run_id="after").wait_for_completion(timeout=PATIENCE) == 8
        watch.until(NodeChanged, lambda event: event.node == failed.node and event.change == "restarted")
        assert cluster.run("before").wait_for_completion(timeout=PATIENCE) == 2
        cluster.nodes[followers(cluster)[0]].wait_until_applied(timeout=PATIENCE)
        assert cluster.statistics().nodes[failed.node].storage_error is None


def test_what_a_directory_holds_is_shown_without_starting_or_changing_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lab"
    assert main.main(["inspect", str(path)]) == 1
    assert "there is no cluster in" in capsys.readouterr().err
    compaction = Compaction(log_bytes=3000, kept_bytes=1000)
    with Cluster(3, data_dir=path, compaction=compaction) as cluster:
        for number in range(12):
            cluster.start_workflow(double, "x" * 200, run_id=f"run-{number}").wait_for_completion(timeout=PATIENCE)
        for node in cluster.nodes.values():
            node.wait_until_applied(timeout=PATIENCE)
        assert main.main(["inspect", str(path)]) == 0
        assert "in use by cluster 'lab' of process" in capsys.readouterr().out
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert main.main(["inspect", str(path), "--steps"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "cluster 'lab' of 3 nodes",
        "not in use",
        "snapshot of entry",
        "workflow  double, version 1",
        "run  run-7  double, version 1  completed, 1 step recorded\n    0/double  recorded by node",
    ):
        assert words in shown
    assert main.main(["inspect", str(path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["runs"]["run-7"]["steps"] == ["0/double"]
    assert all(node["last_index"] > 20 for node in data["nodes"].values())
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before

    (path / "node-3" / LOG_FILE).write_bytes(b"not a database")
    assert main.main(["inspect", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "node 3  CANNOT BE READ" in shown
    assert "run  run-7" in shown


@pytest.mark.parametrize("written", ["raw", "hex"])
@pytest.mark.parametrize("packed", [False, True])
def test_an_encrypted_directory_says_so_and_is_read_with_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str, packed: bool
) -> None:
    pytest.importorskip("cryptography")
    path, key = tmp_path / "lab", Encryption.new_key()
    codec: Any = [Compression(), Encryption(key)] if packed else Encryption(key)
    with Cluster(1, data_dir=path, codec=codec) as cluster:
        cluster.start_workflow(double, "x" * 300_000, run_id="secret").wait_for_completion(timeout=PATIENCE)
    assert main.main(["inspect", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "it was written with a codec: terms, entries, workflows and runs cannot be read without it" in shown
    assert "give --encryption-key FILE" in shown
    assert "node 1  bytes: blobs " in shown
    assert "secret" not in shown
    assert "as of entry" not in shown
    assert main.main(["inspect", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["encoded"]["1"]["blobs"] > 0

    file, text = tmp_path / "key", key.hex().encode() + b"\n"
    file.write_bytes(key if written == "raw" else text)
    assert main.main(["inspect", str(path), "--encryption-key", str(file)]) == 0
    assert "run  secret  double, version 1  " in capsys.readouterr().out

    file.write_bytes(Encryption.new_key())
    assert main.main(["inspect", str(path), "--encryption-key", str(file)]) == 1
    assert "written with another codec than the one given, or with another key" in capsys.readouterr().err
    for data in (b"short", b"z" * 64):
        file.write_bytes(data)
        assert main.main(["inspect", str(path), "--encryption-key", str(file)]) == 1
        assert "holds no key: that is 32 bytes, or 64 hexadecimal digits" in capsys.readouterr().err


def test_a_compressed_directory_is_read_without_being_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Cluster(1, data_dir=tmp_path / "lab", codec=Compression()) as cluster:
        cluster.start_workflow(double, 4, run_id="it").wait_for_completion(timeout=PATIENCE)
    assert main.main(["inspect", str(tmp_path / "lab")]) == 0
    assert "run  it  double" in capsys.readouterr().out


def test_nodes_that_joined_and_left_are_those_of_the_directory(tmp_path: Path) -> None:
    with Cluster(3, data_dir=tmp_path) as cluster:
        cluster.start_workflow(double, 1, run_id="it").wait_for_completion(timeout=PATIENCE)
        assert cluster.add() == 4
        cluster.remove(2)
        cluster.nodes[4].wait_until_applied(timeout=PATIENCE)
    with Cluster(data_dir=tmp_path) as cluster:
        assert list(cluster.nodes) == [1, 3, 4]
        cluster.kill("leader")
        assert cluster.start_workflow("double", 4).wait_for_completion(timeout=PATIENCE) == 8
        assert cluster.add() == 5
    with Cluster(data_dir=tmp_path) as cluster:
        assert list(cluster.nodes) == [1, 3, 4, 5]
        assert cluster.run("it").wait_for_completion(timeout=PATIENCE) == 2

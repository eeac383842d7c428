"""What becomes of nodes' processes: they end with whoever started them, or outlive it where that was asked for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from raftoral_nb import Cluster, ClusterError, Compaction, DirectoryInUseError, NodeStateError, UnknownClusterError
from raftoral_nb.cli import main
from raftoral_nb.cli.nodes import _stop_nodes
from raftoral_nb.core.events import WorkflowCompleted
from raftoral_nb.discovery import key_file
from raftoral_nb.discovery.process_identity import Process
from raftoral_nb.hosts.remote import bootstrap, launching, looking, remote_backend
from raftoral_nb.hosts.remote.announcement import KeyFileOfProcesses
from raftoral_nb.hosts.remote.background import Tasks
from raftoral_nb.hosts.remote.connections import Connections
from raftoral_nb.hosts.remote.installation import Installation
from raftoral_nb.hosts.remote.messages import Answer, Follow, JoinAnswer, JoinRequest, News, Status, Stop
from raftoral_nb.hosts.remote.news import NewsFollower
from raftoral_nb.hosts.remote.process_table import ProcessTable
from raftoral_nb.hosts.remote.rpc import Calls, Reply
from raftoral_nb.storage.shared_directory import prepare
from tests.cluster.helpers import Watch
from tests.processes import flows
from tests.processes.helpers import PATIENCE, all_gone, command, end, processes, script

STARTS = """
import sys
from raftoral_nb import Cluster
from tests.processes import flows
name, data_dir = sys.argv[1:3]
cluster = Cluster(3, name=name, processes=True, detach=data_dir != "-", data_dir=None if data_dir == "-" else data_dir)
cluster.start()
cluster.register_workflow(flows.two_steps)
run = cluster.start_workflow("two_steps", "kept", run_id="kept")
while not run.variables():
    pass
print(*(process.pid for process in cluster._host._processes.processes.values()), cluster._host._installation.shared.data_dir, flush=True)
sys.stdin.read()
"""


def started(text: str, *arguments: str) -> tuple[subprocess.Popen[str], list[Process], Path]:
    """A process that has started a cluster, its nodes' processes, and their directory."""
    parent = script(text, *arguments)
    assert parent.stdout is not None
    line = parent.stdout.readline().split()
    assert line, parent.communicate()
    return parent, [Process.of(int(pid)) for pid in line[:3] if pid != "-"], Path(line[3])


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[tuple[str, list[Process]]]:
    """The name and the processes of a cluster whose starter was killed."""
    name = f"outlives-{os.getpid()}"
    parent, nodes, _ = started(STARTS, name, str(tmp_path / "lab"))
    end(parent)
    yield name, nodes
    command("stop", name)
    assert all_gone(nodes)


def test_a_stopped_cluster_leaves_no_process_file_or_folder() -> None:
    with Cluster(1, name="brief", processes=True) as cluster:
        (one,) = processes(cluster).values()
        assert isinstance(cluster._host, remote_backend.RemoteBackend)
        shared = cluster._host._installation.shared
        assert shared is not None
        folder = Path(shared.data_dir)
        assert folder.is_dir()
        assert key_file.of_cluster("brief").content is not None
    assert one.gone
    assert not folder.exists()
    with pytest.raises(UnknownClusterError):
        Cluster.attach("brief")


def test_nodes_end_with_the_process_that_started_them_however_that_ends() -> None:
    parent, nodes, folder = started(STARTS, "orphans", "-")
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=PATIENCE)
    assert all_gone(nodes)
    assert not folder.exists()
    with pytest.raises(UnknownClusterError):
        Cluster.attach("orphans")


INTERRUPTED = """
import sys, threading
from raftoral_nb import Cluster
from raftoral_nb.hosts.remote.announcement import KeyFileOfProcesses

def killed_here(file):
    print(*(file.content.nodes[number].process.pid for number in (1, 2)), "-", sys.argv[2], flush=True)
    threading.Event().wait()

KeyFileOfProcesses.outlive = killed_here
Cluster(2, name=sys.argv[1], processes=True, detach=True, data_dir=sys.argv[2]).start()
"""


def test_a_cluster_that_was_to_outlive_its_starter_leaves_nothing_if_that_is_killed_while_it_starts(
    tmp_path: Path,
) -> None:
    name = f"half-{os.getpid()}"
    parent, nodes, folder = started(INTERRUPTED, name, str(tmp_path / "lab"))
    assert not any(process.gone for process in nodes)
    end(parent)
    assert all_gone(nodes)
    assert name not in command("ps").stdout
    with Cluster(data_dir=folder) as here:  # nobody holds its directory
        assert here.name == name


def test_a_detached_cluster_goes_on_without_its_starter_and_is_found_attached_to_and_stopped(
    detached: tuple[str, list[Process]], tmp_path: Path
) -> None:
    name, nodes = detached
    assert not any(process.gone for process in nodes)
    told = command("ps", "--json")
    (found,) = [one for one in json.loads(told.stdout) if one["name"] == name]
    assert (found["kind"], found["outlives"]) == ("processes", True)
    assert {node["pid"] for node in found["nodes"].values()} == {process.pid for process in nodes}
    assert name in command("ps").stdout

    cluster = Cluster.attach(name)
    run = cluster.run("kept")
    assert run.variables() == {"stage": "kept waits"}
    cluster.restart(cluster.kill("leader"))
    run.signal("go")
    first, second = run.wait_for_completion(PATIENCE)
    assert first in {process.pid for process in nodes}
    assert second in {process.pid for process in processes(cluster).values()} - {first}
    new = processes(cluster)
    cluster.leave()
    assert not any(process.gone for process in new.values())

    with pytest.raises(DirectoryInUseError):
        Cluster(data_dir=tmp_path / "lab").start()
    stopped = command("stop", name)
    assert (stopped.returncode, stopped.stdout) == (0, f"cluster {name} stopped\n")
    assert all_gone(list(new.values()))
    again = command("stop", name)
    assert again.returncode == 1
    assert f"no cluster named '{name}'" in again.stderr
    with Cluster(data_dir=tmp_path / "lab") as here:  # the same directory serves a cluster of this process
        assert here.run("kept").wait_for_completion(PATIENCE) == [first, second]


def test_whoever_has_another_key_is_not_let_in() -> None:
    with Cluster(1, name="locked", processes=True) as cluster:
        found = key_file.of_cluster("locked")
        assert found.content is not None
        other = msgspec.structs.replace(found.content, key=bytes(32))
        path = found.path.with_name("copy.json")
        path.touch(0o600)
        path.write_bytes(msgspec.json.encode(other))
        try:
            with pytest.raises(ClusterError, match="refuses the connection"):
                Cluster.attach(str(path))
            refused = command("stop", str(path))
            assert refused.returncode == 1
            assert cluster.nodes[1].alive
        finally:
            path.unlink()
        assert cluster.statistics().refused_frames > 0


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    with Cluster(2, processes=True, data_dir=tmp_path / "lab") as cluster:
        with pytest.raises(DirectoryInUseError, match="in use"):
            Cluster(processes=True, data_dir=tmp_path / "lab").start()
        follower = next(number for number in cluster.nodes if number != cluster.wait_for_leader(PATIENCE))
        cluster.kill(follower)
        log = tmp_path / "lab" / f"node-{follower}" / "log.sqlite"
        files = [path for path in (tmp_path / "lab" / f"node-{follower}").iterdir() if path.stat().st_size > 1000]
        assert files, log
        for path in files:
            path.write_bytes(b"\0" * path.stat().st_size)
        with pytest.raises(Exception, match=f"node-{follower}") as problem:
            cluster.restart(follower)
        assert type(problem.value).__name__ == "DamagedStorageError"
        assert not cluster.nodes[follower].alive


def test_a_process_that_ends_as_it_starts_shows_what_it_wrote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no Python is here >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(ClusterError, match="no Python is here"):
        Cluster(1, processes=True).start()


def test_a_handle_that_comes_when_the_log_was_cut_reads_a_snapshot() -> None:
    small = Compaction(log_bytes=4000, kept_bytes=500, piece_bytes=1000)
    with Cluster(1, name="cut", processes=True, compaction=small) as cluster:
        run = cluster.start_workflow(flows.many_steps, 60)
        assert run.wait_for_completion(PATIENCE) == 60
        assert cluster.look().logs[1].first_index > 30
        late = Cluster.attach("cut")
        try:
            assert late.run(run.run_id).steps == run.steps
            assert [event for _, event in late.run(run.run_id).history()] == [event for _, event in run.history()]
            with Watch(cluster) as watch:
                more = late.start_workflow("many_steps", 2)
                assert more.wait_for_completion(PATIENCE) == 2
                watch.until(WorkflowCompleted, lambda event: event.run_id == more.run_id)
            assert cluster.run(more.run_id).wait_for_completion(PATIENCE) == 2
        finally:
            late.leave()


def test_nobody_waits_for_ever_for_a_process_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_backend, "CHANGE_SECONDS", 0.5)
    monkeypatch.setattr(launching, "INTRODUCE_SECONDS", 0.5)
    monkeypatch.setattr(looking, "ENTRIES_SECONDS", 0.5)
    with Cluster(3, processes=True) as cluster:
        leader = cluster.wait_for_leader(PATIENCE)
        hung, other = (number for number in cluster.nodes if number != leader)
        process = processes(cluster)[hung]
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            cluster.slow((leader, other), 0.001)
            with pytest.raises(NodeStateError, match=f"node {hung} did not answer"):
                cluster.pause(hung)
            cluster.restart(cluster.kill(other))
            assert cluster.nodes[other].alive
            assert cluster.nodes[hung].entries(3)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        monkeypatch.undo()
        cluster.pause(hung)
        assert cluster.nodes[hung].paused


async def asked_to_enter(found: key_file.KeyFile, node: int) -> int | None:
    where = KeyFileOfProcesses(None, found)
    calls = await Calls.open(found.key, where.addresses[node], node, lambda calls: None)
    try:
        joined: JoinAnswer = (await calls.ask(JoinRequest(reserve=True))).body
        return joined.node
    finally:
        calls.close()
        await calls.lost


def test_nodes_that_join_at_the_same_time_through_different_nodes_get_different_numbers() -> None:
    with Cluster(3, name="entered", processes=True) as cluster:
        cluster.wait_for_leader(PATIENCE)
        found = key_file.of_cluster("entered").content
        assert found is not None

        async def at_once() -> list[int | None]:
            return await asyncio.gather(*(asked_to_enter(found, node) for node in (1, 2, 3, 1, 2, 3)))

        numbers = asyncio.run(at_once())
        assert len(set(numbers)) == 6
        assert not {None, 1, 2, 3} & set(numbers)
        assert cluster.add() not in numbers


def test_a_node_that_is_met_twice_at_the_same_time_is_followed_once() -> None:
    with Cluster(1, processes=True) as cluster:
        host = cluster._host
        assert isinstance(host, remote_backend.RemoteBackend)

        async def meet_twice() -> bool:
            connections = host._connections
            before = connections.calls[1]
            await asyncio.gather(connections.meet(1), connections.meet(1))
            return connections.calls[1] is before

        assert host.thread.run(meet_twice, timeout=PATIENCE)
        assert cluster.nodes[1].alive
        cluster.pause(1)
        cluster.resume(1)
        assert not cluster.nodes[1].paused


@pytest.mark.parametrize("told", [0, 7])
def test_what_a_node_told_before_anybody_followed_is_not_called_missed(
    told: int, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [News((), told + 5, 3, Status(alive=True), 1)]

    class Line:
        closed = False

        async def ask(self, _asked: Follow) -> Reply:
            if not answers:
                self.closed = True
                raise NodeStateError("it has ended")
            return Reply(answers.pop(), Answer(1, told + 5, 0))

    handle: Any = SimpleNamespace(take_status=lambda *_: None)
    connections = Connections("here", handle, Installation(None), ProcessTable(), Tasks("here"))
    news = NewsFollower(handle, connections, quiet=False)
    asyncio.run(news.follow(1, cast(Calls, Line()), told, 0))
    assert news.told == {1: told + 5}
    assert ("3 events of node 1 were dropped" in caplog.text) == (told > 0)


def test_a_node_that_ends_while_the_cluster_is_stopped_keeps_no_other_from_being_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped: list[int] = []
    ended = Process(1, "another host")

    class Line:
        def __init__(self, number: int) -> None:
            self.number = number
            self.lost = asyncio.get_running_loop().create_future()
            self.lost.set_result(None)

        async def ask(self, asked: object) -> Any:
            if self.number == 1:
                raise NodeStateError("it has ended")
            if isinstance(asked, Stop):
                stopped.append(self.number)
            return SimpleNamespace(body=SimpleNamespace(elsewhere={}, process=ended))

    async def opened(_key: bytes, _address: object, number: int, *_: object, **__: object) -> Any:
        return Line(number)

    monkeypatch.setattr(Calls, "open", opened)
    places = {number: key_file.Place(f"127.0.0.1:{number}", ended) for number in (1, 2)}
    asyncio.run(_stop_nodes(key_file.KeyFile(name="x", key=bytes(32), kind="processes", nodes=places)))
    assert stopped == [2]


def test_a_first_node_is_not_started_with_the_key_of_a_cluster_that_has_one(tmp_path: Path) -> None:
    places = {1: key_file.Place("127.0.0.1:7001")}
    file = tmp_path / "lab.json"
    file.touch(0o600)
    file.write_bytes(msgspec.json.encode(key_file.KeyFile(name="lab", key=bytes(32), kind="processes", nodes=places)))
    arguments = ("--listen", "127.0.0.9:7001", "--key-file", str(file), "--data-dir", str(tmp_path / "dir"))
    refused = command("node", *arguments)
    assert refused.returncode == 1
    assert "--join 127.0.0.1:7001" in refused.stderr
    assert not (tmp_path / "dir").exists()


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "0", "0.0", "0x0", "::", "::0", "0:0:0:0:0:0:0:0", "[::]", "[::]:7001", "::ffff:0.0.0.0", "0:7001"],
)
def test_an_address_that_is_anywhere_is_refused_however_it_is_written(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--key-file", str(tmp_path / "lab.json"), "--data-dir", str(tmp_path / "dir"))
    assert main.main(["node", "--listen", host, *files]) == 1
    assert "no address that the others can dial" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_can_be_dialed_and_a_name_are_not_taken_for_anywhere() -> None:
    assert not any(
        map(bootstrap._is_anywhere, ("127.0.0.1", "::1", "192.168.1.5", "lab.example", "fe80::1%1", "a b", "ü" * 99))
    )


def test_one_node_is_not_run_on_the_directory_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(tmp_path / "lab", "several", [1, 2, 3], "process")
    files = ("--key-file", str(tmp_path / "lab.json"), "--data-dir", str(tmp_path / "lab"))
    assert main.main(["node", "--listen", "127.0.0.1:7001", *files]) == 1
    said = capsys.readouterr().err
    assert "holds nodes 1, 2, 3 of cluster 'several'" in said
    assert f"Cluster(processes=True, data_dir='{tmp_path / 'lab'}')" in said
    assert not (tmp_path / "lab.json").exists(), "no key was made for it"


def test_a_node_whose_process_ends_by_itself_is_dead_and_can_be_restarted() -> None:
    with Cluster(3, processes=True) as cluster:
        cluster.register_workflow(flows.two_steps)
        leader = cluster.wait_for_leader(PATIENCE)
        process = processes(cluster)[leader]
        os.kill(process.pid, signal.SIGKILL)
        assert all_gone([process])
        assert cluster.start_workflow("two_steps", "x", run_id="x").status == "running"
        assert cluster.wait_for_leader(PATIENCE) != leader
        assert not cluster.nodes[leader].alive
        with pytest.raises(NodeStateError):
            cluster.kill(leader)
        cluster.restart(leader)
        assert cluster.nodes[leader].wait_until_applied(PATIENCE)

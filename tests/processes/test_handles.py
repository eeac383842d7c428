"""What handles do with their own tables, folders and subscribers, whatever becomes of the nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from raftoral_nb import Cluster, ClusterError, NodeChanged, PortInUseError
from raftoral_nb.hosts.remote import child_process
from raftoral_nb.hosts.remote.messages import Shared
from raftoral_nb.hosts.remote.remote_backend import RemoteBackend
from raftoral_nb.hosts.remote.remote_node import RemoteLife
from raftoral_nb.node.incarnation import Incarnation
from raftoral_nb.raft.compaction import DEFAULT_COMPACTION
from raftoral_nb.raft.replica import Timing
from raftoral_nb.storage.data_directory import node_folder, read_manifest
from raftoral_nb.storage.shared_directory import prepare
from tests.cluster.helpers import engine
from tests.processes import flows
from tests.processes.helpers import PATIENCE
from tests.processes.here import node_here


class Child:
    """Stands for a node's process."""

    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> None:
        self.killed = True

    def release(self) -> None:
        pass

    def wait(self, timeout: float) -> bool:
        return True


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[RemoteBackend]:
    """A handle on nodes 1 and 2, whose processes were never started."""
    prepare(tmp_path, "handled", [1, 2], "process")
    host = RemoteBackend("handled", [1, 2], timing=Timing(), proposal_timeout=1.0, compaction=DEFAULT_COMPACTION)
    host._installation.shared = Shared(
        name="handled",
        founders=(1, 2),
        data_dir=str(tmp_path),
        temporary=False,
        durability="process",
        timing=Timing(),
        compaction=DEFAULT_COMPACTION,
        proposal_timeout=1.0,
    )
    host.thread.start()
    yield host
    assert host.thread.stop(PATIENCE)


def numbers_in(path: Path) -> tuple[int, ...]:
    manifest = read_manifest(path)
    assert manifest is not None
    assert {number for number in range(1, 9) if node_folder(path, number).exists()} == set(manifest.nodes)
    return manifest.nodes


def test_whoever_follows_a_cluster_here_is_told_the_end_when_its_handle_leaves(tmp_path: Path) -> None:
    with node_here(tmp_path) as (node, file):
        cluster = Cluster.attach(file)
        cluster.register_workflow(flows.waits)
        run = cluster.start_workflow("waits", None)
        told: list[object] = []
        ended, moved = threading.Event(), threading.Event()

        def tell(event: object) -> None:
            told.append(event)
            if isinstance(event, NodeChanged):
                ended.set()

        run.subscribe(tell)
        progress = run.progress("no such variable")
        progress.follow(moved.set)
        cluster.leave()
        assert ended.wait(PATIENCE)
        assert told[-1] == NodeChanged(1, "stopped")
        assert told.count(NodeChanged(1, "stopped")) == 1
        assert moved.wait(PATIENCE)
        assert progress.now().stopped
        assert node.incarnation(1) is not None, "the node goes on"
        assert not any(event == NodeChanged(1, "stopped") for _, event in node.observers.history())


def test_the_end_is_told_as_well_when_no_node_can_be_reached_any_more(handle: RemoteBackend) -> None:
    handle.thread.run(partial(handle.on_shut, leave=True), timeout=PATIENCE)
    assert [event for _, event in handle.observers.history()] == [NodeChanged(1, "stopped"), NodeChanged(2, "stopped")]


def test_tables_of_nodes_are_changed_on_the_loop_only(handle: RemoteBackend, tmp_path: Path) -> None:
    elsewhere: list[str] = []

    class Table(dict[int, Any]):
        def pop(self, *given: Any) -> Any:
            if threading.get_ident() != handle.thread.thread_ident:
                elsewhere.append(threading.current_thread().name)
            return super().pop(*given)

    first, second = Child(), Child()
    table: Any = handle._processes
    table.children = Table({1: first, 2: second})
    for owner, name in ((table, "addresses"), (table, "processes"), (table, "pythons"), (handle._observer, "looks")):
        assert isinstance(getattr(owner, name), dict)
        setattr(owner, name, Table({1: ("", 1), 2: ("", 2)}))
    handle._incarnations[1] = cast(RemoteLife, object())
    handle.kill(1, PATIENCE)
    handle.leave(2, PATIENCE)
    assert elsewhere == []
    assert first.killed
    assert table.children == {}
    assert set(table.addresses) == set(table.processes) == set(table.pythons) == set(handle.looks) == {1}
    assert (handle.numbers, numbers_in(tmp_path)) == ((1,), (1,))


@pytest.mark.parametrize("where", ["start", "meet"])
def test_a_node_in_a_process_that_cannot_be_started_leaves_nothing_behind(
    where: str, handle: RemoteBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child()

    async def start(number: int) -> None:
        assert numbers_in(tmp_path) == (1, 2, 3)
        handle._processes.children[number] = cast(child_process.Child, child)
        handle._processes.addresses[number] = ("127.0.0.1", 1)

    async def fail(_number: int) -> None:
        raise ClusterError("no process could be started")

    monkeypatch.setattr(handle._launcher, "_start", fail if where == "start" else start)
    monkeypatch.setattr(handle._connections, "meet", fail)
    with pytest.raises(ClusterError, match="no process"):
        handle.thread.run(handle.on_join, 3, timeout=PATIENCE)
    assert numbers_in(tmp_path) == (1, 2)
    assert (handle.numbers, sorted(handle.starts), handle._processes.addresses, handle._processes.children) == (
        (1, 2),
        [1, 2],
        {},
        {},
    )
    assert child.killed == (where == "meet")


def test_a_node_of_this_process_that_cannot_be_started_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cluster(1, data_dir=tmp_path / "lab", network="memory") as cluster:

        async def fail(*_: object) -> None:
            raise PortInUseError("port 7001 is taken")

        with monkeypatch.context() as patch:
            patch.setattr(Incarnation, "start", fail)
            with pytest.raises(PortInUseError):
                cluster.add()
        assert numbers_in(tmp_path / "lab") == (1,)
        assert sorted(engine(cluster).starts) == [1]
        added = cluster.add()
        assert numbers_in(tmp_path / "lab") == (1, added)

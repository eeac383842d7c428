"""A node as it is in a process of its own, in the process of the test: what its disk does can be decided here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from raftoral_nb.discovery.key_file import KeyFile, Place
from raftoral_nb.discovery.process_identity import Process
from raftoral_nb.hosts.remote.announcement import address_text
from raftoral_nb.hosts.remote.messages import Shared, Spec
from raftoral_nb.hosts.remote.node_backend import NodeBackend
from raftoral_nb.hosts.remote.server import RpcServer
from raftoral_nb.raft.compaction import DEFAULT_COMPACTION
from raftoral_nb.raft.replica import Timing
from raftoral_nb.storage.shared_directory import NodeJournals, prepare
from raftoral_nb.transport.frames import new_key
from raftoral_nb.transport.tcp_network import HOST
from tests.processes.helpers import PATIENCE


@contextlib.contextmanager
def node_here(folder: Path, name: str = "here") -> Iterator[tuple[NodeBackend, str]]:
    """The only node of a cluster, and the path of the cluster's key file, with which a handle can be attached."""
    data = folder / "data"
    prepare(data, name, [1], "process")
    shared = Shared(
        name=name,
        founders=(1,),
        data_dir=str(data),
        temporary=False,
        durability="process",
        timing=Timing(),
        compaction=DEFAULT_COMPACTION,
        proposal_timeout=PATIENCE,
    )
    spec = Spec(shared=shared, key=new_key(), node=1, incarnation=1, host=HOST, port=0, elsewhere={}, parent=None)
    server = RpcServer(lambda: None)
    host = server.host = NodeBackend(spec, server.receive)
    host.journals = NodeJournals(data, 1, "process")
    host.thread.start()
    try:
        host.thread.run(host.on_open, timeout=PATIENCE)
        place = Place(address_text(host.thread.call(lambda: host.tcp.addresses[1])), Process.own())
        content = KeyFile(name=name, key=spec.key, kind="processes", nodes={1: place}, data_dir=str(data))
        file = folder / "here.json"
        file.touch(0o600)
        file.write_bytes(msgspec.json.encode(content))
        yield host, str(file)
    finally:
        host.thread.run(host.on_shut, timeout=PATIENCE)
        assert host.end(lambda: PATIENCE) == []
        host.observers.close(PATIENCE)

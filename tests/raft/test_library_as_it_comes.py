"""Why the library's own transport is not used: what it does as it comes, and that ours does not (hazards 16 and 17)."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
import zlib
from pathlib import Path

import pytest
from pysyncobj import SyncObj, SyncObjConf

from raftoral_nb.transport.frames import new_key
from raftoral_nb.transport.tcp_network import TcpEndpoint, TcpNetwork
from tests.ports import free_ports
from tests.transport.network_helpers import Recorder


class Touch:
    """Unpickles by making a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (open, (str(self.path), "x"))


def poisoned(path: Path) -> bytes:
    data = zlib.compress(pickle.dumps(Touch(path)))
    return struct.pack("i", len(data)) + data


@pytest.fixture
def free_port() -> int:
    return free_ports(1)[0]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the file that the poisoned pickle opened is nobody's
def test_as_it_comes_the_library_listens_on_every_address_and_runs_what_anyone_sends(
    free_port: int, tmp_path: Path
) -> None:
    node = SyncObj(f"127.0.0.1:{free_port}", [], SyncObjConf(autoTick=False))
    try:
        server = node._SyncObj__transport._server._TcpServer__socket
        assert server.getsockname()[0] == "0.0.0.0"
        with socket.create_connection(("127.0.0.1", free_port)) as attacker:
            attacker.sendall(poisoned(tmp_path / "made"))
            for _ in range(50):
                node.doTick(0.05)
                if (tmp_path / "made").exists():
                    break
        assert (tmp_path / "made").exists()
    finally:
        node.destroy()


def test_ours_listens_on_loopback_only_and_interprets_nothing_of_an_unauthenticated_peer(tmp_path: Path) -> None:
    async def main() -> None:
        network = TcpNetwork(new_key())
        endpoint = await network.attach(1, Recorder())
        assert isinstance(endpoint, TcpEndpoint)
        host, port = endpoint.address
        assert host == "127.0.0.1"
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(poisoned(tmp_path / "made") * 4)
        async with asyncio.timeout(20):
            while await reader.read(1024):
                pass
        writer.close()
        await writer.wait_closed()
        assert network.refused_frames == 1
        assert not (tmp_path / "made").exists()
        await network.close()

    asyncio.run(main())

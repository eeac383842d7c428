"""Somebody who can reach the nodes and see what passes between them, and has no key: what they may try. All from one dice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import random
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from raftoral_nb import Cluster
from raftoral_nb.transport import frames
from raftoral_nb.transport.tcp_network import Address, TcpEndpoint, TcpNetwork
from tests.cluster.helpers import PATIENCE

HANDSHAKE: Final = frames.HELLO_BYTES + frames.MAC_BYTES
MOST_KEPT: Final = 1_000_000
"""Bytes of each recorded session, one way."""


def network_of(cluster: Cluster) -> TcpNetwork:
    network = cluster._host.network
    assert isinstance(network, TcpNetwork)
    return network


class Bomb:
    """What unpickles this makes a folder."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (self.trace,))


class Recorded:
    """What was heard of one session: all that each end sent."""

    def __init__(self) -> None:
        self.dialer = bytearray()
        self.acceptor = bytearray()

    @property
    def proven(self) -> bool:
        """Whether both proofs were heard."""
        return min(len(self.dialer), len(self.acceptor)) >= HANDSHAKE


class Tap:
    """Sits on the link from a node to a lower one: hears all, and changes a frame when told to."""

    def __init__(self, intruder: Intruder, node: int, peer: int, real: tuple[str, int]) -> None:
        self.intruder, self.node, self.peer, self.real = intruder, node, peer, real
        self.sessions: list[Recorded] = []
        self.impostor: bytes | None = None
        self.unmasked = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def open(self) -> tuple[str, int]:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def tear(self) -> None:
        """Break the link as it stands."""
        for task in self._passing:
            task.cancel()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                if self.impostor is not None:
                    await self._pretend(reader, writer)
                else:
                    await self._carry(reader, writer)
        finally:
            self._passing.discard(task)
            writer.close()

    async def _pretend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the node that was dialed, as it was heard once."""
        said, self.impostor = self.impostor, None
        assert said is not None
        writer.write(said)
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        self.unmasked.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(*self.real)
        heard = Recorded()
        self.sessions.append(heard)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, to_writer, heard.dialer))
                both.create_task(self._pass_on(to_reader, writer, heard.acceptor))
        except* (OSError, EOFError):
            pass
        finally:
            to_writer.close()
            self.intruder.broken(heard.dialer, heard.acceptor)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray) -> None:
        for size in (frames.HELLO_BYTES, frames.MAC_BYTES):
            part = await reader.readexactly(size)
            heard += part
            writer.write(part)
        while True:
            length = await reader.readexactly(4)
            frame = length + await reader.readexactly(int.from_bytes(length, "big") + frames.MAC_BYTES)
            change = self.intruder.take_change(heard)
            if change is not None:
                writer.write(change(frame))
                await asyncio.Event().wait()  # until whoever got it has broken the link
            if len(heard) < MOST_KEPT:
                heard += frame
                self.intruder.heard(frame)
            writer.write(frame)


class Outsider:
    """Somebody who can connect to nodes, and has heard sessions. `attempts` is how many the nodes must have counted."""

    def __init__(self, addresses: Sequence[Address], dice: random.Random, trace: str) -> None:
        self.addresses = sorted(addresses)
        self.dice = dice
        self.attempts = 0
        self.tried: dict[str, int] = {}
        self.bomb = pickle.dumps(Bomb(trace))
        self._recorded: list[Recorded] = []

    def recorded(self) -> list[Recorded]:
        """The sessions that were heard."""
        return self._recorded

    async def hear_a_client(self, key: bytes) -> None:
        """Listen in while somebody who has the key, and is no node, is let in."""
        heard = Recorded()
        reader, writer = await asyncio.open_connection(*self.dice.choice(self.addresses))
        client = frames.FrameSession(key, frames.PeerIdentity(frames.CLIENT, 1), dialer=True)
        say = client.opening()
        for size in (frames.HELLO_BYTES, frames.MAC_BYTES):
            heard.dialer += say
            writer.write(say)
            answer = await reader.readexactly(size)
            heard.acceptor += answer
            client.feed(answer)
            say = client.take_outgoing()
        assert client.established
        writer.close()
        await writer.wait_closed()
        self._recorded.append(heard)

    def tries(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """All that may be tried, by name."""
        return {
            "garbage": lambda: self._knock(self._garbage()),
            "a protocol of others": lambda: self._knock(self._other_protocol()),
            "a pickle": lambda: self._knock(self._pickle()),
            "too much": lambda: self._knock(self._some_hello() + self.dice.randbytes(self.dice.randint(17, 300_000))),
            "a session cut short": lambda: self._knock(self._cut_short(), hang_up=True),
            "a session again": lambda: self._knock(self._again()),
            "a session with a bit flipped": lambda: self._knock(self._flipped_session()),
        }

    async def attack(self) -> None:
        """Try something, and see it refused."""
        tries = self.tries()
        name = self.dice.choice(list(tries))
        self.tried[name] = self.tried.get(name, 0) + 1
        try:
            async with asyncio.timeout(PATIENCE):
                await tries[name]()
        except BaseException as error:
            error.add_note(f"while trying {name}, as attempt {self.attempts + 1}")
            raise
        self.attempts += 1

    async def _knock(self, data: bytes, *, hang_up: bool = False) -> None:
        """Say it all to some node, without the key; the node must end it, and have said no more than its hello."""
        reader, writer = await asyncio.open_connection(*self.dice.choice(self.addresses))
        answer = b""
        with contextlib.suppress(ConnectionError):  # it is ended in the middle of what is said
            writer.write(data)
            if hang_up:
                writer.write_eof()
            while more := await reader.read(65536):
                answer += more
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert len(answer) <= frames.HELLO_BYTES, f"somebody without the key was told {len(answer)} bytes"

    # --- what is said

    def _session(self) -> Recorded:
        return self.dice.choice([one for one in self.recorded() if one.proven])

    def _some_hello(self) -> bytes:
        return bytes(self._session().dialer[: frames.HELLO_BYTES])

    def _garbage(self) -> bytes:
        # It does not begin as a hello does, or else it might wait for more.
        return bytes([self.dice.choice([0, 1, 0x16, 0x80, 0xFF])]) + self.dice.randbytes(self.dice.randint(0, 100_000))

    def _other_protocol(self) -> bytes:
        return self.dice.choice(
            [
                b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                b"SSH-2.0-x\r\n",
                bytes.fromhex("1603010200010001fc0303"),
                b"\x00\x00\x00\x05HELLO",
                b"raftNB\r\n" + bytes(200),
                frames.MAGIC[:-2] + b"\n\n" + bytes(100),  # what turned line ends into others
            ]
        )

    def _pickle(self) -> bytes:
        packed = zlib.compress(self.bomb, 3)  # so PySyncObj sends its own
        return self.dice.choice(
            [
                self.bomb,
                len(self.bomb).to_bytes(4, "big") + self.bomb,
                len(packed).to_bytes(4, "big") + packed,
                len(packed).to_bytes(4, "little") + packed,
                self._some_hello() + self.bomb,
            ]
        )

    def _cut_short(self) -> bytes:
        """Somewhere in the hello, or in the proof."""
        end = self.dice.choice([one for one in range(1, HANDSHAKE) if one != frames.HELLO_BYTES])
        return bytes(self._session().dialer[:end])

    def _again(self) -> bytes:
        return bytes(self._session().dialer)

    def _flipped_session(self) -> bytes:
        said = bytearray(self._session().dialer)
        said[self.dice.randrange(HANDSHAKE)] ^= 1 << self.dice.randrange(8)
        return bytes(said)


class Intruder(Outsider):
    """An outsider who sits on all the links of a cluster in this process."""

    def __init__(self, cluster: Cluster, dice: random.Random, trace: str) -> None:
        endpoints = network_of(cluster)._endpoints.values()
        super().__init__([endpoint.address for endpoint in endpoints], dice, trace)
        self.cluster = cluster
        self.taps: list[Tap] = []
        self._change: Callable[[bytes], bytes] | None = None
        self._victim: bytearray | None = None
        self._broken = asyncio.Event()
        self._frames: list[bytes] = []
        self._heard = asyncio.Event()

    # --- the taps

    async def listen_in(self) -> None:
        """Put a tap on every link, and hear how it is built, and some of what passes."""
        network = network_of(self.cluster)
        for node, endpoint in sorted(network._endpoints.items()):
            for peer, lower in sorted(network._endpoints.items()):
                if peer < node:
                    tap = Tap(self, node, peer, lower.address)
                    self.taps.append(tap)
                    address = await tap.open()
                    await self._on_loop(endpoint, peer, address)
        while not all(any(one.proven for one in tap.sessions) for tap in self.taps) or len(self._frames) < 2:
            await self._next_frame()

    async def leave(self) -> None:
        """Take the taps off again."""
        network = network_of(self.cluster)
        for tap in self.taps:
            await self._on_loop(network._endpoints[tap.node], tap.peer, tap.real)
        for tap in self.taps:
            await tap.close()

    async def _on_loop(self, endpoint: TcpEndpoint, peer: int, address: tuple[str, int]) -> None:
        await asyncio.to_thread(self.cluster._host.thread.call, lambda: endpoint.peer_attached(peer, address))

    def heard(self, frame: bytes) -> None:
        """A frame passed somewhere."""
        if len(self._frames) < 1000:
            self._frames.append(frame)
        self._heard.set()

    def recorded(self) -> list[Recorded]:
        """The sessions that were heard."""
        return [one for tap in self.taps for one in tap.sessions]

    def take_change(self, heard: bytearray) -> Callable[[bytes], bytes] | None:
        """What is to be done to the frame that passes now."""
        change, self._change = self._change, None
        if change is not None:
            self._victim = heard
        return change

    def broken(self, *heard: bytearray) -> None:
        """A link ended."""
        if any(one is self._victim for one in heard):
            self._broken.set()

    async def _next_frame(self) -> None:
        self._heard.clear()
        async with asyncio.timeout(PATIENCE):
            await self._heard.wait()

    # --- attacks

    def tries(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """The same, and what can be done to frames on their way."""
        return {
            **super().tries(),
            "a frame with a bit flipped": lambda: self._change_frame(self._flipped_frame),
            "a frame twice": lambda: self._change_frame(lambda frame: frame + frame),
            "an earlier frame": lambda: self._change_frame(self._earlier_frame),
            "a pickle as a frame": lambda: self._change_frame(self._pickle_frame),
            "an enormous frame": lambda: self._change_frame(self._enormous_frame),
            "an impostor": self._be_impostor,
        }

    async def _change_frame(self, change: Callable[[bytes], bytes]) -> None:
        """Do it to the next frame that passes anywhere; who gets it must break the link."""
        self._broken.clear()
        self._change = change
        await self._broken.wait()

    async def _be_impostor(self) -> None:
        """Answer the next dialer with what the node it dials said to it in an earlier session."""
        tap = self.dice.choice([tap for tap in self.taps if any(one.proven for one in tap.sessions)])
        session = self.dice.choice([one for one in tap.sessions if one.proven])
        tap.unmasked.clear()
        tap.impostor = bytes(session.acceptor)
        tap.tear()
        await tap.unmasked.wait()

    def _flipped_frame(self, frame: bytes) -> bytes:
        flipped = bytearray(frame)
        flipped[self.dice.randrange(len(flipped))] ^= 1 << self.dice.randrange(8)
        claimed = int.from_bytes(flipped[:4], "big")
        # If it claims to be longer now, it comes as long: else it would be refused only when it was not whole in time.
        missing = claimed + 4 + frames.MAC_BYTES - len(flipped) if claimed <= frames.MAX_PAYLOAD_BYTES else 0
        return bytes(flipped) + self.dice.randbytes(max(0, missing))

    def _earlier_frame(self, frame: bytes) -> bytes:
        return self.dice.choice([one for one in self._frames if one != frame])

    def _pickle_frame(self, frame: bytes) -> bytes:
        return len(self.bomb).to_bytes(4, "big") + self.bomb + frame[-frames.MAC_BYTES :]

    def _enormous_frame(self, frame: bytes) -> bytes:
        size = self.dice.choice([frames.MAX_PAYLOAD_BYTES + 1, 2**31, 2**32 - 1, 0])
        return size.to_bytes(4, "big") + frame[4:]

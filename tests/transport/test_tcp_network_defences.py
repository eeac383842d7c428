"""The network over TCP against unauthenticated peers, broken frames, other keys and peers that do not read."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb.core.cluster_events import UnauthenticatedConnectionsRefused
from raftoral_nb.transport import connection, connection_attempts, frames, tcp_network
from raftoral_nb.transport.frames import FrameSession, PeerIdentity
from raftoral_nb.transport.messages import AppendEntries, encode_message
from raftoral_nb.transport.tcp_network import TcpEndpoint, TcpNetwork
from tests.transport.network_helpers import PATIENCE, Recorder, numbered
from tests.transport.tcp_helpers import KEY, knock, nodes, run, until_closed


def test_garbage_is_refused_and_counted_while_the_cluster_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trace = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(trace),))

    async def test() -> None:
        async with nodes() as made:
            attacks = [
                b"GET / HTTP/1.1\r\n\r\n",
                pickle.dumps(Bomb()),
                len(pickle.dumps(Bomb())).to_bytes(4, "big") + pickle.dumps(Bomb()),
                os.urandom(200_000),
                b"\0",
                FrameSession(bytes(32), PeerIdentity(2, 1), dialer=True).opening(),
                frames._HELLO.pack(frames.MAGIC, 1, 2, frames.cluster_id(KEY), 99, b"n" * 16) + bytes(16),
            ]
            for attack in attacks:
                for endpoint in made.endpoints.values():
                    reader, writer = await knock(endpoint)
                    writer.write(attack)
                    assert await until_closed(reader, writer) == b""
            assert made.network.refused_frames == 2 * len(attacks)
            reader, writer = await knock(made.endpoints[1])
            writer.write(frames._HELLO.pack(frames.MAGIC, 1, 2, frames.cluster_id(KEY), 99, b"n" * 16))
            assert len(await reader.readexactly(frames.HELLO_BYTES)) == frames.HELLO_BYTES
            writer.write(bytes(16))  # no proof
            assert await until_closed(reader, writer) == b""
            assert made.network.refused_frames == 2 * len(attacks) + 1
            await made.deliver(1, 2, 1)
            await made.deliver(2, 1, 1)
            assert [fact for recorder in made.recorders.values() for fact in recorder.facts if fact[0] == "down"] == []

    with caplog.at_level(logging.DEBUG):
        run(test)
    assert not trace.exists()
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1  # the rest is held back, so that nobody can fill a log
    assert warnings[0].levelno == logging.WARNING
    assert "refused a connection from an unauthenticated peer" in warnings[0].getMessage()


def test_a_changed_bit_in_an_established_connection_breaks_only_that_connection() -> None:
    async def test() -> None:
        async with nodes(3) as made:
            link = made.endpoints[3]._links[1]
            assert link._transport is not None
            frame = bytearray(link.session.seal(encode_message(numbered(1))))
            frame[6] ^= 1
            link._transport.write(bytes(frame))
            await made.recorders[1].until_fact(("up", 3, 0), times=2)
            await made.recorders[3].until_fact(("up", 1, 0), times=2)
            await made.deliver(3, 1, 2)
            assert made.network.refused_frames == 1
            assert made.recorders[1].numbers(3) == [2]
            assert sorted(made.recorders[2].facts) == [("up", 1, 0), ("up", 3, 0)]

    run(test)


def test_silent_connections_are_few_and_true_peers_get_in_beside_them() -> None:
    async def test() -> None:
        async with nodes(1) as made:
            waiting = [await knock(made.endpoints[1]) for _ in range(3 * tcp_network.MAX_UNAUTHENTICATED)]
            await made.add(2)
            await made.recorders[2].until_fact(("up", 1, 0))
            assert len(made.endpoints[1]._unauthenticated) <= tcp_network.MAX_UNAUTHENTICATED
            crowded_out = made.network.dropped_unauthenticated
            assert 2 * tcp_network.MAX_UNAUTHENTICATED <= crowded_out <= 2 * tcp_network.MAX_UNAUTHENTICATED + 1
            await made.deliver(2, 1, 1)
            for reader, writer in waiting[: 2 * tcp_network.MAX_UNAUTHENTICATED]:
                assert await until_closed(reader, writer) == b""
            await made.network.close()
            for reader, writer in waiting[2 * tcp_network.MAX_UNAUTHENTICATED :]:
                assert await until_closed(reader, writer) == b""

    run(test)


def test_a_silent_or_slow_connection_is_dropped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.05)

    async def test() -> None:
        async with nodes(1) as made:
            silent, slow = await knock(made.endpoints[1]), await knock(made.endpoints[1])
            slow[1].write(frames.MAGIC)
            assert await until_closed(*silent) == b""
            assert await until_closed(*slow) == b""
            assert made.network.refused_frames == 0
            assert made.network.dropped_unauthenticated == 2

    run(test)


def test_who_stands_still_itself_gives_a_new_peer_more_time() -> None:
    async def test() -> None:
        async with nodes(1) as made:
            reader, writer = await knock(made.endpoints[1])
            writer.write(FrameSession(KEY, PeerIdentity(2, 1), dialer=True).opening())
            await reader.readexactly(frames.HELLO_BYTES)
            (silent,) = made.endpoints[1]._unauthenticated
            first = silent._timer
            now = asyncio.get_running_loop().time()
            silent._too_slow(now - connection.HANDSHAKE_TIMEOUT)  # the timer is late: the loop has stood still
            assert silent._timer is not first
            assert made.network.dropped_unauthenticated == 0
            assert first is not None
            first.cancel()
            silent._cancel_timer()
            silent._too_slow(now)
            assert made.network.dropped_unauthenticated == 1
            assert await until_closed(reader, writer) == b""

    run(test)


def test_who_hangs_up_in_the_middle_of_a_proof_is_counted_and_who_is_killed_between_is_not() -> None:
    async def test() -> None:
        async with nodes(1) as made:
            hello = FrameSession(KEY, PeerIdentity(2, 1), dialer=True).opening()
            for sent, counted in ((b"", 0), (hello, 0), (hello[:9], 1), (hello + bytes(3), 2)):
                reader, writer = await knock(made.endpoints[1])
                writer.write(sent[: len(hello)])
                if len(sent) >= len(hello):
                    await reader.readexactly(frames.HELLO_BYTES)
                writer.write(sent[len(hello) :])
                writer.write_eof()
                assert await until_closed(reader, writer) == b""
                assert (made.network.dropped_unauthenticated, made.network.refused_frames) == (counted, 0)

    run(test)


def test_a_frame_that_was_begun_and_never_ends_breaks_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FRAME_TIMEOUT", 0.05)

    async def test() -> None:
        async with nodes(2) as made:
            link = made.endpoints[2]._links[1]
            assert link._transport is not None
            link._transport.write(link.session.seal(encode_message(numbered(1)))[:-1])
            await made.recorders[1].until_fact(("down", 2, 0))
            assert made.network.refused_frames == 1
            await made.recorders[1].until_fact(("up", 2, 0), times=2)
            await made.recorders[2].until_fact(("up", 1, 0), times=2)
            await made.deliver(2, 1, 2)
            assert made.recorders[1].numbers(2) == [2]

    run(test)


def test_attempts_are_told_at_once_and_then_together_so_that_nobody_can_fill_a_history() -> None:
    async def test() -> None:
        loop, told = asyncio.get_running_loop(), list[UnauthenticatedConnectionsRefused]()
        counted = connection_attempts.ConnectionAttempts(loop, told.append)
        counted.refused(1, "one")
        assert told == [UnauthenticatedConnectionsRefused(1, 1, "one")]
        for number in range(500):
            counted.dropped(2, f"silent {number}")
        assert len(told) == 1
        assert (counted.refused_frames, counted.dropped_unauthenticated) == (1, 500)
        timer = counted._timer
        assert timer is not None
        assert timer.when() - loop.time() <= connection_attempts.REPORT_INTERVAL
        timer.cancel()
        counted._due()  # the interval is over
        assert told[1:] == [UnauthenticatedConnectionsRefused(2, 500, "silent 499")]
        counted.refused(3, "another")
        assert len(told) == 2
        counted.close()
        assert told[2:] == [UnauthenticatedConnectionsRefused(3, 1, "another")]
        counted.close()
        assert len(told) == 3

    run(test)


def test_a_peer_that_does_not_read_loses_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_WRITE_BACKLOG", 1_000_000)

    async def test() -> None:
        async with nodes() as made:
            reading_end = made.endpoints[1]._links[2]._transport
            assert reading_end is not None
            reading_end.pause_reading()
            message = AppendEntries(1, 0, 0, ((bytes(500_000), 1, 1),), 0)
            for _ in range(100):
                made.endpoints[2].send(1, message)
                await asyncio.sleep(0)
            assert made.endpoints[2].connected_peers == frozenset()
            await made.recorders[2].until_fact(("down", 1, 0))
            reading_end.resume_reading()
            await made.recorders[2].until_fact(("up", 1, 0), times=2)
            await made.deliver(2, 1, 1)

    run(test)


def test_nodes_with_other_keys_do_not_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with nodes(1) as made:
            other = TcpNetwork(bytes(32))
            recorder = Recorder()
            outsider = await other.attach(2, recorder)
            assert isinstance(outsider, TcpEndpoint)
            twice = asyncio.Event()
            count = made.network.refused

            def refused(*what: Any) -> None:
                count(*what)
                if made.network.refused_frames == 2:
                    twice.set()

            monkeypatch.setattr(made.network, "refused", refused)
            outsider.peer_attached(1, made.endpoints[1].address)
            async with asyncio.timeout(PATIENCE):
                await twice.wait()  # it dials again, in vain
            assert recorder.facts == made.recorders[1].facts == []
            await other.close()

    run(test)


def test_a_node_without_file_descriptors_waits_before_it_accepts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_network, "ACCEPT_PAUSE", 0.01)

    class Exhausted:
        """A listener whose first accepts fail."""

        def __init__(self, listener: socket.socket) -> None:
            self.listener = listener
            self.failures = 3

        def accept(self) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.listener.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.listener, name)

    async def test() -> None:
        async with nodes(1) as made:
            exhausted = Exhausted(made.endpoints[1]._listener)
            made.endpoints[1]._listener = exhausted  # type: ignore[assignment]
            await made.add(2)
            await made.recorders[1].until_fact(("up", 2, 0))
            assert exhausted.failures == 0

    run(test)

"""Encrypted connections: nothing goes beyond loopback without them, and nobody gets in without the cluster's certificate."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from raftoral_nb.errors import ClusterError, KeyFileError, MissingPackageError, NotEncryptedError
from raftoral_nb.transport import connection, frames, tcp_network, tls
from raftoral_nb.transport.certificate import Certificate
from raftoral_nb.transport.clients import ReplyChannel, connect
from raftoral_nb.transport.messages import AppendEntries
from raftoral_nb.transport.tcp_network import TcpEndpoint, TcpNetwork
from raftoral_nb.transport.tls import Tls, fingerprint, is_loopback, make_certificate
from tests.transport.network_helpers import PATIENCE, Recorder, numbered
from tests.transport.tcp_helpers import KEY, knock, run, until_closed


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return make_certificate("lab")


@pytest.fixture(scope="module")
def other() -> Certificate:
    return make_certificate("lab")


class Echo:
    """Answers each frame of a client with the same, in capitals."""

    def __init__(self, channel: ReplyChannel) -> None:
        self.channel = channel

    def received(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            self.channel.answer(payload.upper())

    def lost(self) -> None:
        pass


class Process:
    """What one process has: a network, and one node on it."""

    def __init__(self, node: int, certificate: Certificate | None, key: bytes = KEY) -> None:
        self.node = node
        self.network = TcpNetwork(key, tls=None if certificate is None else Tls(certificate), accept_client=Echo)
        self.recorder = Recorder()

    async def attach(self) -> TcpEndpoint:
        endpoint = await self.network.attach(self.node, self.recorder)
        assert isinstance(endpoint, TcpEndpoint)
        self.endpoint = endpoint
        return endpoint

    async def until_attempts(self, count: int) -> None:
        """Wait until so many were refused or dropped here."""
        change, note = asyncio.Event(), self.network.attempts._note

        def also(*what: Any) -> None:
            note(*what)
            change.set()

        self.network.attempts._note = also  # type: ignore[method-assign,assignment]
        async with asyncio.timeout(PATIENCE):
            while self.network.refused_frames + self.network.dropped_unauthenticated < count:
                change.clear()
                await change.wait()


@contextlib.asynccontextmanager
async def processes(*made: Process) -> AsyncIterator[None]:
    try:
        for process in made:
            await process.attach()
        yield
    finally:
        for process in made:
            await process.network.close()


def test_nodes_of_two_processes_and_a_client_talk_encrypted(certificate: Certificate) -> None:
    passed = bytearray()

    async def listen_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Any) -> None:
        to_reader, to_writer = await asyncio.open_connection(*address)

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    passed.extend(data)
                    target.write(data)
            target.close()

        await asyncio.gather(carry(reader, to_writer), carry(to_reader, writer))

    async def test() -> None:
        one, two = Process(1, certificate), Process(2, certificate)
        async with processes(one, two):
            tap = await asyncio.start_server(
                lambda ours, theirs: listen_in(ours, theirs, one.endpoint.address), "127.0.0.1", 0
            )
            two.network.introduce(1, tap.sockets[0].getsockname())
            await one.recorder.until_fact(("up", 2, 0))
            await two.recorder.until_fact(("up", 1, 0))
            two.endpoint.send(1, AppendEntries(1, 0, 0, ((b"a secret of the run", 1, 1),), 0))
            await one.recorder.until_fact(("got", 2, -1))
            one.endpoint.send(2, numbered(7))
            await two.recorder.until_fact(("got", 1, 7))

            answers: asyncio.Queue[bytes] = asyncio.Queue()
            ours = Tls(certificate)
            client = await connect(KEY, one.endpoint.address, 1, answers.put_nowait, lambda _: None, tls=ours)
            client.send(b"hello")
            assert await answers.get() == b"HELLO"
            client.close()
            two.network.forget(1)
            await one.recorder.until_fact(("down", 2, 0))
            tap.close()
            assert one.network.refused_frames == two.network.refused_frames == 0
            assert one.network.dropped_unauthenticated == 0
        # Those who carried it have seen the end of it as well.
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*others)

    run(test)
    assert len(passed) > 1000
    assert frames.MAGIC not in passed
    assert b"a secret of the run" not in passed


def test_without_the_very_certificate_nobody_gets_in_and_it_is_counted(
    certificate: Certificate, other: Certificate
) -> None:
    async def test() -> None:
        one = Process(1, certificate)
        async with processes(one):
            for count, wrong in enumerate((None, other), 1):
                ours = None if wrong is None else Tls(wrong)
                with pytest.raises(ClusterError, match="refuses the connection"):
                    await connect(KEY, one.endpoint.address, 1, lambda _: None, lambda _: None, tls=ours)
                await one.until_attempts(count)
            outsider = Process(2, other)
            async with processes(outsider):
                outsider.network.introduce(1, one.endpoint.address)
                await one.until_attempts(4)  # it dials again, in vain
            assert outsider.recorder.facts == one.recorder.facts == []

    run(test)


def test_the_certificate_alone_is_not_the_key(certificate: Certificate) -> None:
    async def test() -> None:
        one = Process(1, certificate)
        async with processes(one):
            with pytest.raises(ClusterError, match="refuses the connection"):
                await connect(bytes(32), one.endpoint.address, 1, lambda _: None, lambda _: None, tls=Tls(certificate))
            assert one.network.refused_frames == 1

    run(test)


def test_a_certificate_that_was_made_with_ours_as_its_issuer_is_refused(certificate: Certificate) -> None:
    """Holding the certificate's key is holding the key file, but not even then may there be two."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    issuer = x509.load_pem_x509_certificate(certificate.certificate.encode())
    issuer_key: Any = serialization.load_pem_private_key(certificate.private_key.encode(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .sign(issuer_key, hashes.SHA256())
    )
    pem = issued.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Certificate(pem, private.decode(), fingerprint(ssl.PEM_cert_to_DER_cert(pem)))

    async def test() -> None:
        one = Process(1, certificate)
        async with processes(one):
            ours = Tls(made)
            ours.client.check_hostname = False
            ours.client.verify_mode = ssl.CERT_NONE  # it lets the node through
            ours.is_ours = lambda transport: True  # type: ignore[method-assign]
            ours.session_key = Tls(certificate).session_key  # type: ignore[method-assign]
            with pytest.raises(ClusterError):
                await connect(KEY, one.endpoint.address, 1, lambda _: None, lambda _: None, tls=ours)
            await one.until_attempts(1)

    run(test)


def test_silent_talkative_and_many_unauthenticated_connections_are_dropped_before_they_are_encrypted(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.2)
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.2)

    async def test() -> None:
        one = Process(1, certificate)
        async with processes(one):
            silent = [await knock(one.endpoint) for _ in range(tcp_network.MAX_UNAUTHENTICATED + 4)]
            talkative = await knock(one.endpoint)
            talkative[1].write(b"GET / HTTP/1.1\r\n\r\n")
            for reader, writer in (*silent, talkative):
                await until_closed(reader, writer)
            await one.until_attempts(len(silent) + 1)
            assert one.network.dropped_unauthenticated == len(silent) + 1
            assert one.endpoint._unauthenticated == {}
            # Encrypted, and silent: only a holder of the certificate comes so far.
            monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", PATIENCE)
            ours = Tls(certificate).client
            reader, writer = await asyncio.open_connection(*one.endpoint.address, ssl=ours, server_hostname="")
            assert await until_closed(reader, writer) == b""
            assert one.network.dropped_unauthenticated == len(silent) + 2

    run(test)


def test_a_network_that_ends_does_not_wait_for_those_who_are_not_encrypted_yet(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 10 * PATIENCE)

    async def test() -> None:
        one = Process(1, certificate)
        async with processes(one):
            waiting = [await knock(one.endpoint) for _ in range(3)]
            two = Process(2, certificate)
            async with processes(two):
                two.network.introduce(1, one.endpoint.address)
                await one.recorder.until_fact(("up", 2, 0))
            await one.recorder.until_fact(("down", 2, 0))
        for reader, writer in waiting:
            await until_closed(reader, writer)
        assert one.network.dropped_unauthenticated == 0

    run(test)


# --- what is refused without a certificate


def test_nodes_do_not_listen_beyond_loopback_without_a_certificate(certificate: Certificate) -> None:
    async def test() -> None:
        for host in ("0.0.0.0", "192.0.2.1", "::", "2001:db8::1", "no-such-host.invalid"):
            with pytest.raises(NotEncryptedError, match="nodes listen there only if what they say is encrypted"):
                TcpNetwork(KEY, host=host)
        for host in ("127.0.0.1", "127.9.9.9", "localhost", "::1", "::ffff:127.0.0.1"):
            await TcpNetwork(KEY, host=host).close()
        await TcpNetwork(KEY, host="0.0.0.0", tls=Tls(certificate)).close()

    run(test)


@pytest.mark.parametrize("address", ["192.0.2.7", "10.1.2.3", "fe80::1%eth0", "::ffff:10.0.0.1"])
def test_nothing_is_said_to_another_machine_without_a_certificate(address: str, certificate: Certificate) -> None:
    said = bytearray()

    class Transport:
        """As if a connection to that address had been made."""

        def __init__(self, own: socket.socket) -> None:
            self.found = {"peername": (address, 4000), "socket": own}

        def get_extra_info(self, what: str) -> Any:
            return self.found.get(what)

        def write(self, data: bytes) -> None:
            said.extend(data)

        def abort(self) -> None:
            pass

    async def test() -> None:
        assert not is_loopback(address)
        one = Process(2, None)
        with socket.socket() as own:
            transport = Transport(own)
            assert not tls.may_talk(transport, None)
            assert not tls.may_talk(transport, Tls(certificate))  # nor if it should be encrypted and is not
            async with processes(one):
                session = frames.FrameSession(KEY, frames.PeerIdentity(2, 1), dialer=True)
                made = connection.Connection(one.endpoint, session)
                try:
                    made.connection_made(transport)  # type: ignore[arg-type]
                finally:
                    made.connection_lost(None)
                assert one.network.refused_frames == 1
                assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1  # it must not hang there for ever
        assert said == b""

    run(test)


# --- certificates


def test_a_certificate_is_new_each_time_and_its_fingerprint_is_its_own(
    certificate: Certificate, other: Certificate
) -> None:
    assert certificate.fingerprint != other.fingerprint
    assert fingerprint(ssl.PEM_cert_to_DER_cert(certificate.certificate)) == certificate.fingerprint
    assert Tls(certificate).session_key(KEY) not in (KEY, Tls(other).session_key(KEY))
    for name in ("", "ü" * 300, "a/b\n"):
        Tls(make_certificate(name))


def test_a_certificate_that_does_not_fit_its_key_or_fingerprint_is_refused(
    certificate: Certificate, other: Certificate
) -> None:
    change = msgspec.structs.replace
    for wrong in (
        change(certificate, fingerprint=other.fingerprint),
        change(certificate, private_key=other.private_key),
        change(certificate, certificate="no PEM"),
        change(certificate, private_key="no PEM"),
    ):
        with pytest.raises(KeyFileError, match="the certificate in the key file cannot be used"):
            Tls(wrong)


def test_without_the_package_that_makes_certificates_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'raftoral-nb\[hosts\]'"):
        make_certificate("lab")

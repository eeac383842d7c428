"""Encrypted connections: what nodes need that listen where other machines, or other users' programs on them, can reach them.

All nodes of a cluster share one certificate, which is self-signed, and both ends of a connection accept this very
certificate and no other. So a peer that gets through has the key file. The cluster's key is proven inside all the same,
and under a key that is mixed with the certificate: what is said inside makes no sense on a connection that is not
encrypted, or is encrypted by others.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import ssl
from datetime import UTC, datetime, timedelta
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Final

from ..errors import KeyFileError, MissingPackageError, NotEncryptedError
from .certificate import Certificate

HANDSHAKE_TIMEOUT: Final = 2.0
"""Seconds in which a connection must be encrypted."""

VALID_DAYS: Final = 3650
"""A cluster may live long, and gets a new certificate each time it is started."""

CLOCK_DAYS: Final = 1
"""Clocks of hosts differ: the certificate is valid from so long ago."""

KEEPALIVE_SECONDS: Final = 5
"""After so long without a word the system asks whether the other host is there, and again each second."""

SILENCE_SECONDS: Final = 10
"""A connection to another host ends when nothing that was sent has been acknowledged for so long."""


class Tls:
    """A certificate, ready for use at both ends."""

    def __init__(self, certificate: Certificate) -> None:
        """Check the parts.

        Raises `KeyFileError` if the certificate, its key and its fingerprint do not belong together.
        """
        import tempfile  # few clusters are encrypted

        try:
            self._certificate = ssl.PEM_cert_to_DER_cert(certificate.certificate)
            if not hmac.compare_digest(fingerprint(self._certificate), certificate.fingerprint):
                raise ValueError("the fingerprint is that of another certificate")
            with tempfile.TemporaryDirectory(prefix="raftoral-") as folder:  # ssl reads keys from files only; 0700
                file = Path(folder, "certificate.pem")
                file.touch(0o600)
                file.write_text(f"{certificate.certificate}\n{certificate.private_key}\n", encoding="ascii")
                self.server = _context(ssl.PROTOCOL_TLS_SERVER, certificate, file)
                self.client = _context(ssl.PROTOCOL_TLS_CLIENT, certificate, file)
        except (ValueError, OSError) as error:  # ssl.SSLError is an OSError
            raise KeyFileError(f"the certificate in the key file cannot be used: {error}") from error

    def session_key(self, key: bytes) -> bytes:
        """Return the key that is proven inside a connection in place of the cluster's key."""
        return blake2b(self._certificate, digest_size=32, key=key, person=b"raftnb tls").digest()

    def is_ours(self, transport: Any) -> bool:
        """Return whether the other end of an encrypted connection has shown the cluster's certificate."""
        encrypted = transport.get_extra_info("ssl_object")
        shown = None if encrypted is None else encrypted.getpeercert(binary_form=True)
        return shown is not None and hmac.compare_digest(shown, self._certificate)


def _context(protocol: ssl._SSLMethod, certificate: Certificate, file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False  # names say nothing here: it must be this certificate
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=certificate.certificate)
    context.load_cert_chain(file)
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # no session is resumed: each connection shows its certificate
    return context


def fingerprint(certificate: bytes) -> str:
    """Return SHA-256 of a certificate (DER), as hexadecimal digits."""
    return sha256(certificate).hexdigest()


def make_certificate(name: str) -> Certificate:
    """Return a new certificate for a cluster of that name, with a key of its own.

    Needs the package `cryptography` (the extra `hosts`); raises `MissingPackageError` without it.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise MissingPackageError(
            "to listen beyond this machine's loopback a certificate is needed, and to make one the package cryptography: "
            "pip install 'raftoral-nb[hosts]'"
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "raftoral-nb"),
            x509.NameAttribute(NameOID.COMMON_NAME, name.encode("ascii", "replace").decode()[:64] or "cluster"),
        ]
    )
    now = datetime.now(UTC)
    public = key.public_key()
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=CLOCK_DAYS))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(
        certificate=made.public_bytes(serialization.Encoding.PEM).decode(),
        private_key=private.decode(),
        fingerprint=fingerprint(made.public_bytes(serialization.Encoding.DER)),
    )


# --- what needs it


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address. A name is resolved first, which may wait."""
    try:
        return _is_local(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(_is_local(ipaddress.ip_address(str(address[0]).partition("%")[0])) for *_, address in found)


def _is_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def check_listening(host: str, tls: Tls | None) -> None:
    """Raise `NotEncryptedError` if nodes must not listen on an address as it is."""
    if tls is None and not is_loopback(host):
        raise NotEncryptedError(
            f"{host} can be reached from other machines, and this cluster has no certificate: nodes listen there only if "
            "what they say is encrypted. Make the cluster with one (raftoral-nb[hosts]), or listen on 127.0.0.1"
        )


def encrypted(tls: Tls | None, host: str | None) -> dict[str, Any]:
    """Return the arguments that make asyncio encrypt a connection: to a host, or (None) one that was accepted."""
    if tls is None:
        return {}
    more: dict[str, Any] = {} if host is None else {"server_hostname": host}
    return {"ssl": tls.server if host is None else tls.client, "ssl_handshake_timeout": HANDSHAKE_TIMEOUT, **more}


def may_talk(transport: Any, tls: Tls | None) -> bool:
    """Return whether anything may be said on a connection that has just been made.

    It is encrypted by our certificate, or local.
    """
    if tls is not None:
        return tls.is_ours(transport)
    peer = transport.get_extra_info("peername")
    return bool(peer) and is_loopback(peer[0])


def watch_silence(transport: Any) -> None:
    """Have the system end a connection to another host that does not answer any more (one that lost its power, say)."""
    found = transport.get_extra_info("socket")
    peer = transport.get_extra_info("peername")
    if found is None or not peer or is_loopback(peer[0]):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", SILENCE_SECONDS - KEEPALIVE_SECONDS),
        ("TCP_USER_TIMEOUT", 1000 * SILENCE_SECONDS),
    ):
        if hasattr(socket, option):  # each system has some of them
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

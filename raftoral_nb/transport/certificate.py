"""The certificate by which nodes of several hosts know each other."""

from __future__ import annotations

import msgspec


class Certificate(msgspec.Struct, frozen=True):
    """The certificate for TLS between the nodes of a cluster.

    All nodes share it: whoever holds it is accepted as one of them.
    """

    certificate: str
    """PEM."""
    private_key: str
    """PEM. As secret as the cluster's key."""
    fingerprint: str
    """SHA-256 of the certificate (DER), as hexadecimal digits."""

    def __repr__(self) -> str:
        return f"Certificate(fingerprint={self.fingerprint!r})"

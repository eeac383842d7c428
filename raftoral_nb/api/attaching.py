"""Clusters that run already, in processes of their own: a handle on one, and which there are."""

from __future__ import annotations

import contextlib
import os

from ..discovery import key_file
from ..errors import KeyFileError
from .cluster import Cluster


def attach(name: str | os.PathLike[str]) -> Cluster:
    """Return a handle on a cluster that runs in processes of its own: see `Cluster.attach`."""
    return Cluster.attach(name)


def attachable() -> tuple[str, ...]:
    """Return the names of the clusters that can be attached to: those of this user, on this machine.

    Waits for no network.
    """
    with contextlib.suppress(KeyFileError):
        found = [one.content for one in key_file.found()]
        return tuple(sorted({one.name for one in found if one is not None and one.kind == "processes"}))
    return ()

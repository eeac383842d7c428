"""Sockets that a forked child must not keep of its parent.

Copies of them would hold a dead node's connections and ports open.

A program that is executed gets none of them anyway. A step that makes a pool of processes (`multiprocessing`, where its
start method is `fork`) forks without executing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio

_kept: Final[WeakSet[Any]] = WeakSet()


def keep_to_this_process(what: socket.socket | asyncio.BaseTransport) -> None:
    """Have the socket, or that of the transport, closed in children that are forked while it is open."""
    _kept.add(what)


def _close_in_child() -> None:
    # Nothing here may wait: the thread that held a lock at the time of the fork is not in this process.
    for one in tuple(_kept):
        with contextlib.suppress(Exception):
            found = one if isinstance(one, socket.socket) else one.get_extra_info("socket")
            descriptor = found.fileno()
            if descriptor >= 0:
                # Taken from its object first, which would close the number once more when it goes.
                getattr(found, "_sock", found).detach()
                os.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)

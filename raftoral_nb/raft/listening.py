"""The socket on which a node listens. Used by `tcp` only."""

from __future__ import annotations

import errno
import socket

from ..errors import PortInUseError
from ..forked import keep_to_this_process
from ..model import NodeId


def listen(host: str, port: int, node: NodeId) -> socket.socket:
    """A socket that listens on an address of this machine, for a node. Raises `PortInUseError` if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted node gets its port back although old connections linger (TIME_WAIT). Two listeners cannot share it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(64)
        keep_to_this_process(listener)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE and port:
            raise PortInUseError(
                f"port {port}, wanted for node {node}, is taken on {host}: stop the program that listens there (perhaps "
                "another cluster), or choose another port, or give no ports and let the system pick free ones"
            ) from error
        raise
    return listener

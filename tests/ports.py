"""Ports that a test may give back and take again."""

from __future__ import annotations

import os
import re
import socket
from random import SystemRandom
from typing import Final

_FIRST: Final = 20_000
_COUNT: Final = 1_000
_WORKERS: Final = 12


def free_ports(count: int) -> list[int]:
    """Free ports of 127.0.0.1. Nobody gets them by asking the system for any port, nor do tests in other processes of this run.

    A port that the system picked is soon picked again: for a node of another test, or for a connection. These are below what
    systems pick from (from 32768 on), and each process that runs tests has its own.
    """
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % _WORKERS
    first = _FIRST + _COUNT * worker
    free: list[int] = []
    for port in SystemRandom().sample(range(first, first + _COUNT), _COUNT):
        if len(free) == count:
            break
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:  # somebody else's
            continue
        free.append(port)
    assert len(free) == count, f"no {count} ports from {first} on are free"
    return free

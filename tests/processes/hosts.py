"""Hosts for tests: network namespaces with addresses of their own and cables that can be pulled, or loopback addresses."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

_NET: Final = "10.123.45"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)


def why_no_namespaces() -> str | None:
    """Why network namespaces cannot be made here; None if they can."""
    if shutil.which("ip") is None:
        return "there is no `ip` (iproute2)"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    name = f"rnb{os.getpid()}-try"
    try:
        _ip("netns", "add", name)
        try:
            _ip("netns", "exec", name, "ip", "link", "add", "name", "try0", "type", "veth", "peer", "name", "try1")
            _ip("-n", name, "link", "add", "name", "try2", "type", "bridge")
        finally:
            _ip("netns", "del", name)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        return f"network namespaces cannot be made ({getattr(error, 'stderr', error)})".replace("\n", " ")
    return None


class Namespaces:
    """A hub, in which the notebook is, and hosts at the ends of cables. Undone by `close`."""

    real: Final = True

    def __init__(self, count: int) -> None:
        self._names = [f"rnb{os.getpid()}-{number}" for number in range(count + 1)]
        self._made: list[str] = []
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        hub, *hosts = self._names
        for name in self._names:
            _ip("netns", "add", name)
            self._made.append(name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", "name", "hub0", "type", "bridge")
        _ip("-n", hub, "addr", "add", f"{_NET}.254/24", "dev", "hub0")
        _ip("-n", hub, "link", "set", "hub0", "up")
        for number, name in enumerate(hosts, 1):
            _ip(
                "-n",
                hub,
                "link",
                "add",
                "name",
                f"cable{number}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                name,
            )
            _ip("-n", hub, "link", "set", f"cable{number}", "master", "hub0", "up")
            _ip("-n", name, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")

    def address(self, number: int) -> str:
        """Of a host, from 1."""
        return f"{_NET}.{number}"

    def prefix(self, number: int) -> list[str]:
        """What runs a command on a host; 0 is the notebook's."""
        return ["ip", "netns", "exec", self._names[number]]

    def pull(self, number: int) -> None:
        """Pull the cable of a host: nothing arrives any more, and nobody is told."""
        _ip("-n", self._names[0], "link", "set", f"cable{number}", "down")

    def plug(self, number: int) -> None:
        """Plug it in again."""
        _ip("-n", self._names[0], "link", "set", f"cable{number}", "up")

    def close(self) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=30)


class Loopback:
    """Addresses of this machine, 127.0.0.2 and so on: there are no cables, so links are cut by the nodes themselves."""

    real: Final = False

    def address(self, number: int) -> str:
        return f"127.0.0.{number + 1}"

    def prefix(self, number: int) -> list[str]:
        return []

    def close(self) -> None:
        pass

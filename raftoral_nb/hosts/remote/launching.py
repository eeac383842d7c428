"""Starting the processes of nodes, and making nodes and handle known to each other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import cloudpickle

from ...core.records import NodeId
from ...transport.tcp_network import HOST
from .. import open_files
from ..backend_parts import Lifetime
from .connections import Connections
from .installation import Installation
from .messages import Introduce, Spec
from .process_table import ProcessTable
from .remote_links import RemoteLinks
from .rpc import answers_to

INTRODUCE_SECONDS: Final = 5.0
"""The time nodes may take to learn of another; nobody waits longer for one whose process hangs, or is stopped."""


class LauncherEnv(Protocol):
    """The part of the handle that a `Launcher` needs."""

    key: bytes
    """The key that proves membership of the cluster."""

    @property
    def lifetime(self) -> Lifetime:
        """The lifetime of the nodes."""
        ...

    @property
    def starts(self) -> Mapping[NodeId, int]:
        """The number of times each node was started."""
        ...

    @property
    def network(self) -> RemoteLinks:
        """The known cuts and delays of links."""
        ...

    def files_needed(self, count: int, *, stored: bool) -> int:
        """Return how many files this process opens for so many nodes."""
        ...

    def launched(self, number: NodeId) -> None:
        """Note that a node's process is a new one."""
        ...


class Launcher:
    """Starts nodes' processes on this machine. Belongs to the loop of the handle."""

    def __init__(
        self,
        env: LauncherEnv,
        installation: Installation,
        processes: ProcessTable,
        connections: Connections,
        *,
        ports: Mapping[NodeId, int],
        log_level: str | int | None,
    ) -> None:
        self._env = env
        self._installation = installation
        self._processes = processes
        self._connections = connections
        self._ports = dict(ports)
        self._log_level = log_level

    async def launch_all(self, numbers: Sequence[NodeId]) -> None:
        """Start the nodes of a new cluster, and meet them. Raises what keeps one of them from starting."""
        # Which log is the furthest only the nodes know; if that of the first is not, the others wait for the silence of a leader as ever.
        first = min(numbers, default=None)
        starting = [asyncio.ensure_future(self._start(number, first=number == first)) for number in numbers]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            await asyncio.gather(*starting, return_exceptions=True)
            raise
        if self._env.lifetime is not Lifetime.PROCESS:
            assert self._installation.announced is not None, "a cluster was founded"
            self._installation.announced.outlive()
            self._processes.release(numbers)
        await asyncio.gather(*(self._connections.meet(number) for number in numbers))
        await self.introduce(numbers)

    async def launch(self, number: NodeId) -> None:
        """Start a node, and meet it. Raises what keeps it from starting, and `ClusterError` if it cannot be reached."""
        await self._start(number)
        self._processes.release([number])
        await self._connections.meet(number)

    async def introduce(self, numbers: Sequence[NodeId]) -> None:
        """Tell these nodes of all others, and the others of them. Waits up to `INTRODUCE_SECONDS` for those that hang."""
        calls, addresses = self._connections.calls, self._processes.addresses
        asked = [
            line.ask(Introduce(other, address))
            for number, line in tuple(calls.items())
            for other, address in addresses.items()
            if other != number and (number in numbers or other in numbers)
        ]
        everything = self._env.network.everything()
        asked += [calls[number].ask(everything) for number in numbers if number in calls]
        await answers_to(asked, INTRODUCE_SECONDS)

    async def _start(self, number: NodeId, *, first: bool = False) -> None:
        """Start a node's process, and wait until it listens."""
        shared = self._installation.shared
        assert shared is not None, "a cluster was founded, or found"
        # One that another process has started ends with that, whoever starts a node of it anew.
        lifetime = self._env.lifetime
        owner = None if lifetime is Lifetime.DETACHED else self._installation.owner
        spec = Spec(
            shared=shared,
            key=self._env.key,
            node=number,
            incarnation=self._env.starts.get(number, 0) + 1,
            host=HOST,
            port=self._ports.get(number, 0),
            elsewhere={
                other: address
                for other, address in self._processes.addresses.items()
                if other in self._connections.calls
            },
            parent=owner,
            piped=owner is not None and (lifetime is not Lifetime.ATTACHED or not hasattr(os, "pidfd_open")),
            log_level=self._log_level,
            certificate=self._installation.certificate,
            codec=None if self._installation.codec is None else cloudpickle.dumps(self._installation.codec),
            first=first,
        )
        open_files.check(self._env.files_needed(1, stored=False), f"the process of node {number}")
        await self._processes.start(spec)
        self._env.launched(number)
        self._installation.place(number, self._processes.addresses[number], self._processes.processes[number])

"""A cluster in this process, made known to its user: its key file, for as long as it runs."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..discovery import key_file
from ..discovery.key_file import KeyFile, Place
from ..discovery.process_identity import Process
from ..errors import ClusterError, KeyFileError
from ..transport.tcp_network import TcpNetwork

if TYPE_CHECKING:
    from .base import ClusterBackend

logger = logging.getLogger(__name__)


class Announcement:
    """The key file of a cluster whose nodes live in this process and listen. Methods may wait for the disk.

    It serves those who look (`raftoral-nb ps`); the cluster runs without it. So where no such file can be written, or should not
    be as others could read it, the cluster starts anyway, the key stays in memory, and `Cluster.unlisted` says why.
    """

    def __init__(self, host: ClusterBackend, data_dir: Path | None) -> None:
        self._host = host
        self._data_dir = data_dir
        self._process = os.getpid()
        self.path: Path | None = None
        """The path of the file; None if there is none."""
        self.problem: str | None = None
        """The reason why there is none, where one was wanted."""

    def put_up(self) -> None:
        """Write the file, if the nodes listen."""
        nodes = self._places()
        if nodes is None:
            return
        try:
            self.path = key_file.write(
                KeyFile(
                    name=self._host.name,
                    key=self._host.key,
                    kind="kernel",
                    owner=Process.own(),
                    nodes=nodes,
                    data_dir=None if self._data_dir is None else str(self._data_dir),
                )
            )
        except KeyFileError as error:
            self.problem = str(error)
            logger.warning(
                "%s runs without a key file, and `raftoral-nb ps` will not show it: %s", self._host.name, error
            )

    def change(self) -> None:
        """Write the file anew: the nodes, or their addresses, have changed."""
        if self.path is None or (nodes := self._places()) is None:
            return
        try:
            key_file.update(self.path, lambda one: msgspec.structs.replace(one, nodes=nodes))
        except KeyFileError as error:
            logger.warning("the key file of %s cannot be brought up to date: %s", self._host.name, error)

    def take_down(self) -> None:
        """Remove the file. A forked child of the process has no say in it. Idempotent."""
        path, self.path = self.path, None
        if path is None or os.getpid() != self._process:
            return
        try:
            key_file.remove(path, self._host.key)
        except KeyFileError as error:
            logger.warning("the key file of %s is left behind: %s", self._host.name, error)

    def _places(self) -> dict[int, Place] | None:
        network = self._host.network
        if not isinstance(network, TcpNetwork):
            return None
        with contextlib.suppress(ClusterError):  # stopped meanwhile
            found = self._host.thread.call(lambda: network.addresses)
            members = self._host.numbers
            return {node: Place(f"{host}:{port}") for node, (host, port) in sorted(found.items()) if node in members}
        return None

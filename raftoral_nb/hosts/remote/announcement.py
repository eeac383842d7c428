"""The key file of a cluster of processes: how a notebook, or a command in a shell, finds it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import msgspec

from ...core.records import NodeId
from ...discovery import key_file
from ...discovery.key_file import Found, KeyFile, Place
from ...discovery.process_identity import Process
from ...errors import ClusterError, KeyFileError
from .messages import Address

logger = logging.getLogger(__name__)


class KeyFileOfProcesses:
    """A key file, and what it says. Without a file (nobody could read it in safety) the cluster runs, and is not found."""

    def __init__(self, path: Path | None, content: KeyFile, problem: str | None = None) -> None:
        self.path = path
        self.content = content
        self.problem = problem
        """The reason why there is no file, where one was wanted."""

    @classmethod
    def begin(cls, name: str, key: bytes, data_dir: str, outlives: bool) -> KeyFileOfProcesses:
        """Make the file of a new cluster. Raises `ClusterNameTakenError`, and `KeyFileError` if it must be found later.

        Until `outlive` the cluster is this process's, whatever it is to be: nothing is left behind if this ends while it starts.
        """
        content = KeyFile(name=name, key=key, kind="processes", owner=Process.own(), data_dir=data_dir)
        try:
            return cls(key_file.write(content, unique=outlives), content)
        except KeyFileError as error:
            if outlives:
                raise
            logger.warning("%s runs without a key file, and cannot be attached to: %s", name, error)
            return cls(None, content, str(error))

    @classmethod
    def of(cls, found: Found) -> KeyFileOfProcesses:
        """Return the file of a cluster that runs."""
        assert found.content is not None
        return cls(found.path, found.content)

    @property
    def addresses(self) -> dict[NodeId, Address]:
        """The addresses of the nodes."""
        return {number: parse_address(place.address) for number, place in self.content.nodes.items()}

    @property
    def processes(self) -> dict[NodeId, Process]:
        """The processes of the nodes."""
        return {number: place.process for number, place in self.content.nodes.items() if place.process is not None}

    def read_again(self) -> KeyFileOfProcesses:
        """Read it again, for what other handles have written into it. Returns itself."""
        if self.path is not None:
            with contextlib.suppress(KeyFileError):
                self.content = key_file.read(self.path)
        return self

    def outlive(self) -> None:
        """Let the file outlive this process: the cluster is whole and independent now. Raises `KeyFileError`."""
        assert self.path is not None, "one that is to be found later has a file"
        self.content = key_file.update(self.path, lambda content: msgspec.structs.replace(content, owner=None))

    def place(self, number: NodeId, address: Address, process: Process) -> None:
        """Note a node's address and process."""
        self._change({number: Place(address_text(address), process)}, None)

    def drop(self, number: NodeId) -> None:
        """Drop a node that is no longer a member."""
        self._change({}, number)

    def _change(self, new: dict[NodeId, Place], dropped: NodeId | None) -> None:
        def change(content: KeyFile) -> KeyFile:
            nodes = {number: place for number, place in content.nodes.items() if number != dropped}
            return msgspec.structs.replace(content, nodes={**nodes, **new})

        if self.path is None:
            self.content = change(self.content)
            return
        try:
            self.content = key_file.update(self.path, change)
        except KeyFileError as error:
            logger.warning("the key file of %s cannot be brought up to date: %s", self.content.name, error)

    def end(self) -> None:
        """Remove the file: the cluster has ended. Idempotent."""
        path, self.path = self.path, None
        if path is not None:
            try:
                key_file.remove(path, self.content.key)
            except KeyFileError as error:
                logger.warning("the key file of %s is left behind: %s", self.content.name, error)


def address_text(address: Address) -> str:
    """Return host:port; an IPv6 host is in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str, port: int | None = None) -> Address:
    """Return the host and port of an address in text; `port` if it names none. Raises `ClusterError`."""
    host, colon, number = text.rpartition(":")
    if not colon or (host.startswith("[") and not host.endswith("]")) or (":" in host and not host.startswith("[")):
        host, number = text, ""
    host = host.removeprefix("[").removesuffix("]")
    if not number and port is not None:
        number = str(port)
    if not host or not number.isascii() or not number.isdigit() or int(number) > 65535:
        raise ClusterError(f"an address is host:port, as in 192.168.1.5:7001, not {text!r}")
    return host, int(number)

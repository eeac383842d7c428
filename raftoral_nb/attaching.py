"""Clusters that outlive the process which started them: handles come and go. Base class of `Cluster`."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Self, cast

from .breaking import Breaking
from .errors import ClusterError, KeyFileError
from .model import NodeId
from .node import Node

if TYPE_CHECKING:
    from .announced import Announcement
    from .cluster import Cluster, StopReport
    from .hosting import Hosting


class Attaching(Breaking):
    """A second handle on a cluster, and letting go of one."""

    name: str
    _nodes: dict[NodeId, Node]
    _announcement: Announcement

    @classmethod
    def attach(cls, name: str | os.PathLike[str]) -> Self:
        """A handle on a cluster of processes that runs already, by its name, or by the path of its key file; it is started.

        By name are found those that you have started on this machine (`raftoral-nb ps`). A handle sees and does what any other handle on the cluster does. `leave` lets go of the cluster, which goes on; `stop` ends it.
        Raises `UnknownClusterError` if no such cluster runs, naming those that do, `KeyFileError` for a file that is none, and
        `ClusterError` if none of its nodes can be reached.
        """
        from .processes.handle import attached_host

        return cls._handle_on(attached_host(name)).start()

    def leave(self) -> None:
        """Let go of a cluster that outlives this process: it goes on, and can be attached to. The handle is stopped.

        Whoever reads or follows events here is told, as by `stop`, that the nodes stopped: to this handle they have.
        Raises `ClusterError` for any other: its nodes would end.
        """
        self._check_running()
        if not self._host.outlives:
            raise ClusterError(
                f"cluster {self.name!r} lives in this process, or ends with it: stop() ends it. One that goes on is started "
                "with detach=True and a data_dir"
            )
        self._stop(leave=True)

    def _numbers_changed(self) -> None:
        """There are other nodes than before, by somebody else's doing."""
        for number in self._host.numbers:
            if number not in self._nodes:
                self._nodes[number] = Node(cast("Cluster", self), self._host, number)
        for number in set(self._nodes) - set(self._host.numbers):
            self._nodes.pop(number, None)

    def _exit(self) -> None:
        """A block that used it ends: a cluster that is to go on does."""
        self._stop(leave=self._host.outlives)

    @property
    def outlives(self) -> bool:
        """Whether the cluster goes on without this process: it was started with `detach`, or attached to."""
        return self._host.outlives

    @property
    def unlisted(self) -> str | None:
        """Why other programs of yours do not find it: no key file could be written in safety. None if there is one, or it has no addresses."""
        return self._announcement.problem or self._host.unlisted

    # --- of the cluster

    @classmethod
    def _handle_on(cls, host: Hosting) -> Self:
        raise NotImplementedError

    def start(self) -> Self:
        """See `Cluster`."""
        raise NotImplementedError

    def _stop(self, *, leave: bool) -> StopReport:
        raise NotImplementedError


def attach(name: str | os.PathLike[str]) -> Cluster:
    """A handle on a cluster that runs in processes of its own: see `Cluster.attach`."""
    from .cluster import Cluster

    return Cluster.attach(name)


def attachable() -> tuple[str, ...]:
    """The names of the clusters that can be attached to: those of this user, on this machine. Waits for no network."""
    from . import key_file

    with contextlib.suppress(KeyFileError):
        found = [one.content for one in key_file.found()]
        return tuple(sorted({one.name for one in found if one is not None and one.kind == "processes"}))
    return ()

"""The place of each node of a cluster, as far as a handle knows: its address, its process, and who started it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from ...core.records import NodeId
from ...discovery.process_identity import Process
from ...errors import NodeStateError, VersionMismatchError
from ...threads.loop_thread import do_all
from .child_process import Child, kill_process
from .last_known import wait_gone
from .messages import Address, Spec, Welcome


class ProcessTable:
    """The table of processes, changed on the handle's loop only, but for `end` and `leave`, which come after it."""

    def __init__(self) -> None:
        self.children: dict[NodeId, Child] = {}
        """The processes that were started here."""
        self.processes: dict[NodeId, Process] = {}
        """The processes that are known, wherever they run."""
        self.addresses: dict[NodeId, Address] = {}
        """The address where each node listens."""
        self.pythons: dict[NodeId, str] = {}
        """The version of Python that each node runs."""

    async def start(self, spec: Spec) -> None:
        """Start a node's process, and wait until it listens. Raises what kept it from starting."""
        number = spec.node
        before = self.children.pop(number, None)
        if before is not None:  # it ended by itself
            before.kill()
        child = self.children[number] = Child.start(spec)
        try:
            ready = await child.ready()
        except BaseException:
            child.kill()
            del self.children[number]
            raise
        self.addresses[number] = ready.address
        self.processes[number] = ready.process

    def release(self, numbers: Iterable[NodeId]) -> None:
        """Let nodes that are to outlive this process do so from here on: they can be found in the key file."""
        for number in numbers:
            if (child := self.children.get(number)) is not None:  # else it was killed meanwhile
                child.release()

    def met(self, number: NodeId, welcome: Welcome) -> bool:
        """Take the process that a node says it is in; returns whether that is the one that was known."""
        again = self.processes.get(number) == welcome.process
        self.processes[number] = welcome.process
        self.pythons[number] = welcome.python
        return again

    def has_ended(self, number: NodeId) -> bool:
        """Tell whether a node's process is known to have ended."""
        child, process = self.children.get(number), self.processes.get(number)
        return child.ended if child is not None else process is not None and process.gone

    def runs_here(self, number: NodeId) -> bool:
        """Tell whether a node runs in a process that was started here, as far as is known."""
        child = self.children.get(number)
        return child is not None and not child.ended

    def found_elsewhere(self, number: NodeId) -> None:
        """Another handle has started the node: what is left of a process of ours is cleared away."""
        child = self.children.pop(number, None)
        if child is not None:
            child.kill()
        self.processes.pop(number, None)

    def to_kill(self, number: NodeId) -> tuple[Child | None, Process | None]:
        """Return the process to kill. Raises `NodeStateError` if it runs on another machine."""
        process = self.processes.get(number)
        if number not in self.children and (process is None or process.host != Process.own().host):
            raise NodeStateError(f"node {number} runs in {process}, which cannot be killed from here: kill it there")
        return self.children.pop(number, None), process

    def refuse_other_pythons(self, workflow: str, numbers: Collection[NodeId]) -> None:
        """Raise `VersionMismatchError` if one of these nodes could not load the code of a workflow that is sent from here."""
        own = platform.python_version()
        for number, other in self.pythons.items():
            if number in numbers and _minor(other) != _minor(own):
                raise VersionMismatchError(
                    f"workflow {workflow!r} cannot be registered from here: this is Python {own}, and "
                    f"node {number} runs Python {other}, which cannot load the code of another version. Use a notebook "
                    f"with Python {_minor(other)}, or nodes with {_minor(own)}"
                )

    def forget(self, number: NodeId) -> None:
        """Drop a node that is no longer a member.

        The process that was started here for it stays, and is still to be ended.
        """
        for known in (self.addresses, self.processes, self.pythons):
            known.pop(number, None)

    def leave(self) -> None:
        """Let the processes run without us."""
        do_all(*(child.leave for child in tuple(self.children.values())))

    def end(self, others: Callable[[], Mapping[NodeId, Process]], left: Callable[[], float]) -> None:
        """See that all processes are gone, also `others()`, which other handles have started. Waits up to `left()` seconds."""
        do_all(
            *(partial(child.end, left) for child in tuple(self.children.values())),
            lambda: self._end_others(others(), left),
        )

    def _end_others(self, others: Mapping[NodeId, Process], left: Callable[[], float]) -> None:
        for number, process in {**others, **self.processes}.items():
            if number not in self.children and not wait_gone(process, left()):
                kill_process(process.pid)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])

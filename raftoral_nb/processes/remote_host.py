"""The handle's side of a cluster whose nodes are in other processes: it follows the log, and asks the nodes for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from .. import open_files
from ..alive import Process
from ..errors import ClusterError, NodeStateError, StorageError, VersionMismatchError
from ..hosting import Change, Lifetime
from ..model import (
    Command,
    NodeChanged,
    NodeId,
    Outcome,
    RegisterWorkflow,
)
from ..raft.compaction import Compaction
from ..raft.network import Links
from ..raft.node_directory import add_folder, drop_folder
from ..raft.replica import Timing
from ..raft.tcp import HOST
from ..recovery import DataDirectory
from ..threads import do_all
from . import dead
from .announcing import KeyFileOfProcesses
from .calls import Calls, answers_to
from .children import Child, kill_process
from .directory import Directory
from .lives import RemoteLife
from .looking import Looking
from .messages import (
    AwaitApplied,
    Boot,
    ChangeNode,
    Forget,
    Introduce,
    Shared,
    Spec,
    Status,
    Stop,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHANGE_SECONDS = 5.0
"""How long a node may take for what it is told to do; nobody waits longer for one whose process hangs, or is stopped."""

END_SECONDS = 1.5
"""How long nodes' processes get to end by themselves when the cluster is stopped."""


FILES_OF_A_CHILD: Final = 4
"""Files that are open here for a node's process while it starts: pipes, its log, and a connection to it."""


class RemoteHost(Looking):
    """A cluster of processes, started here or found running. Its thread only talks with them."""

    def __init__(
        self,
        name: str,
        numbers: Sequence[NodeId],
        *,
        timing: Timing,
        proposal_timeout: float,
        network: str = "tcp",
        ports: dict[NodeId, int] | None = None,
        compaction: Compaction,
        founders: Sequence[NodeId] | None = None,
        detach: bool = False,
        log_level: str | int | None = None,
        found: KeyFileOfProcesses | None = None,
    ) -> None:
        lifetime = Lifetime.ATTACHED if found is not None else Lifetime.DETACHED if detach else Lifetime.PROCESS
        super().__init__(
            name, numbers, timing=timing, proposal_timeout=proposal_timeout, lifetime=lifetime, found=found
        )
        if network != "tcp":
            raise ClusterError("nodes in processes of their own talk over TCP: leave network='memory' out")
        self._ports = dict(ports or {})
        self._compaction = compaction
        self._founders = self.numbers if founders is None else tuple(founders)
        self._log_level = log_level
        self._directory: Directory | None = None
        self._booting: set[NodeId] = set()

    @property
    def unlisted(self) -> str | None:
        """Why there is no key file, where one was wanted."""
        return None if self._announced is None else self._announced.problem

    # --- the cluster's life

    def files_needed(self, count: int, *, stored: bool) -> int:  # noqa: ARG002 - logs are the processes' own
        """A connection to each node; and pipes, for processes that are started."""
        return count * (1 if self.attached else FILES_OF_A_CHILD)

    def use(self, data: DataDirectory) -> None:
        """Keep the nodes' logs in a data directory. Before the start. Raises `StorageError`."""
        self._directory = Directory.prepare(data, self.name, self.numbers)

    async def on_open(self, leave_out: Collection[NodeId] = ()) -> None:
        """Start every node but those to leave out; or find those that run. Raises what keeps a node from starting."""
        if self._announced is None:
            await self._found_cluster([number for number in self.numbers if number not in leave_out])
        else:
            await self._find_cluster(self._announced)
        self._spawn(self._read_log())

    async def _found_cluster(self, numbers: Sequence[NodeId]) -> None:
        if self._directory is None:
            if self.outlives:
                raise ClusterError(
                    "a cluster that is to outlive this process needs a data_dir: what it knows must be somewhere"
                )
            self._directory = Directory.temporary(self.name, self.numbers)
        self._shared = Shared(
            name=self.name,
            founders=self._founders,
            data_dir=str(self._directory.path),
            temporary=self._directory.is_temporary,
            durability=self._directory.durability,
            timing=self.timing,
            compaction=self._compaction,
            proposal_timeout=self.proposal_timeout,
            path=tuple(sys.path),
        )
        self._announced = KeyFileOfProcesses.begin(self.name, self.key, self._shared.data_dir, self.outlives)
        starting = [asyncio.ensure_future(self._start(number)) for number in numbers]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            await asyncio.gather(*starting, return_exceptions=True)
            raise
        if self.outlives:
            self._announced.outlive()
            self._release(numbers)
        await asyncio.gather(*(self._meet(number) for number in numbers))
        await self._introduce_all(numbers)

    async def _find_cluster(self, announced: KeyFileOfProcesses) -> None:
        self.key = announced.content.key
        self._addresses.update(announced.addresses)
        self._processes.update(announced.processes)
        problems: list[BaseException] = []
        tried: set[NodeId] = set()
        while trying := sorted(set(self._addresses) - tried):  # those whom one meets tell of others
            tried.update(trying)
            outcomes = await asyncio.gather(*(self._meet(number) for number in trying), return_exceptions=True)
            problems += [one for one in outcomes if isinstance(one, BaseException)]
        if not self._calls:
            why = "; ".join(map(str, problems)) or "its key file names no nodes"
            raise ClusterError(f"no node of cluster {self.name!r} can be reached: {why}")
        for number in sorted(set(self._addresses) - set(self._calls)):
            self._spawn(self._redial(number))
        await self._catch_up()

    async def on_shut(self, *, leave: bool = False) -> None:
        """End every node, or let go of them; whoever waits is told."""
        self._shut = True
        for task in tuple(self._tasks):
            task.cancel()
        calls = tuple(self._calls.items())
        if not leave:
            for _, one in calls:
                one.ask(Stop())
            if calls:
                await asyncio.wait([one.lost for _, one in calls], timeout=END_SECONDS)
        for number, one in calls:
            self._expected.add(number)
            one.close()
        # To whoever listens here it is the end, whether the nodes go on or not.
        for number in [number for number, _ in calls] or self.numbers:
            self.tell(NodeChanged(number, "stopped"))
        if calls:
            await asyncio.wait([one.lost for _, one in calls], timeout=END_SECONDS)
        self._end_all_waits()

    def end(self, left: Callable[[], float], *, leave: bool = False) -> list[str]:
        """After `on_shut`: see that the processes are gone, and clear away what was theirs."""
        children = tuple(self._children.values())
        if leave:
            do_all(*(child.leave for child in children), lambda: self.thread.stop(left()))
            return []
        do_all(
            *(partial(child.end, left) for child in children),
            lambda: self._end_others(left),
            lambda: self.thread.stop(left()),
            self._clear_away,
        )
        return []

    def _end_others(self, left: Callable[[], float]) -> None:
        """Processes that other handles have started."""
        for number, process in self._all_processes().items():
            if number not in self._children and not dead.wait_gone(process, left()):
                kill_process(process.pid)

    def _clear_away(self) -> None:
        if self._shared is not None and self._shared.temporary:
            shutil.rmtree(self._shared.data_dir, ignore_errors=True)
        if self._announced is not None:
            self._announced.end()

    # --- processes

    def _all_processes(self) -> dict[NodeId, Process]:
        """Those that are known here, or that another handle has started since."""
        return {**({} if self._announced is None else self._announced.read_again().processes), **self._processes}

    async def _start(self, number: NodeId) -> None:
        """Start a node's process, and wait until it listens."""
        assert self._shared is not None
        # One that another process has started ends with that, whoever starts a node of it anew.
        starts_to_outlive = self.outlives and not self.attached
        owner = self._announced.content.owner if self._announced is not None and not starts_to_outlive else None
        spec = Spec(
            shared=self._shared,
            key=self.key,
            node=number,
            incarnation=self.starts.get(number, 0) + 1,
            host=HOST,
            port=self._ports.get(number, 0),
            elsewhere={other: address for other, address in self._addresses.items() if other in self._calls},
            parent=owner,
            piped=owner is not None and (not self.attached or not hasattr(os, "pidfd_open")),
            log_level=self._log_level,
            certificate=None if self._announced is None else self._announced.content.certificate,
        )
        open_files.check(self.files_needed(1, stored=False), f"the process of node {number}")
        before = self._children.pop(number, None)
        if before is not None:  # it ended by itself
            before.kill()
        child = self._children[number] = Child.start(spec)
        try:
            ready = await child.ready()
        except BaseException:
            child.kill()
            del self._children[number]
            raise
        self._told.pop(number, None)  # it begins another chronicle
        self._troubles.forget(number)
        self._addresses[number] = ready.address
        self._processes[number] = ready.process
        if self._announced is not None:
            self._announced.place(number, ready.address, ready.process)

    def _release(self, numbers: Sequence[NodeId]) -> None:
        """Nodes that are to outlive this process do from here on: they can be found in the key file."""
        for number in numbers:
            if (child := self._children.get(number)) is not None:  # else it was killed meanwhile
                child.release()

    async def _introduce_all(self, numbers: Sequence[NodeId]) -> None:
        asked = [
            self._calls[number].ask(Introduce(other, self._addresses[other]))
            for number in tuple(self._calls)
            for other in self._addresses
            if other != number and (number in numbers or other in numbers)
        ]
        everything = self.network.everything()
        asked += [self._calls[number].ask(everything) for number in numbers if number in self._calls]
        await answers_to(asked, CHANGE_SECONDS)

    async def on_ask(self, command: Command) -> Outcome:
        """As of a hosting; code that a node could not load is not proposed at all."""
        if isinstance(command, RegisterWorkflow):
            own = platform.python_version()
            for number, other in self._pythons.items():
                if number in self._calls and _minor(other) != _minor(own):
                    raise VersionMismatchError(
                        f"workflow {command.definition.workflow!r} cannot be registered from here: this is Python {own}, and "
                        f"node {number} runs Python {other}, which cannot load the code of another version. Use a notebook "
                        f"with Python {_minor(other)}, or nodes with {_minor(own)}"
                    )
        return await super().on_ask(command)

    # --- what is done to nodes and links

    def kill(self, number: NodeId, timeout: float) -> None:
        """End a node's process at once (SIGKILL). Raises `NodeStateError` for one of another host."""
        self.alive(number, "killed")
        calls, child, process = self.thread.call(self._on_kill, number)
        if child is not None:
            child.kill()
        elif process is not None:
            kill_process(process.pid)
        if calls is not None:
            with contextlib.suppress(TimeoutError, ClusterError):
                self.thread.run(calls.await_end, timeout=timeout)
        self.announce(NodeChanged(number, "killed"))

    def _on_kill(self, number: NodeId) -> tuple[Calls | None, Child | None, Process | None]:
        process = self._processes.get(number)
        if number not in self._children and (process is None or process.host != Process.own().host):
            raise NodeStateError(f"node {number} runs in {process}, which cannot be killed from here: kill it there")
        self._expected.add(number)
        return self._calls.get(number), self._children.pop(number, None), process

    async def on_boot(self, number: NodeId) -> None:
        """Start a node's process again, on what its log keeps. Raises `NodeStateError` if it is alive, or was elsewhere."""
        if number in self._incarnations:
            raise NodeStateError(f"node {number} is alive; kill it first, then restart it")
        if (calls := self._calls.get(number)) is not None:
            status: Status = (await calls.ask(Boot())).body
            self._take_status(number, calls, status)
            return
        self._refuse_to_start(f"node {number} cannot be restarted from here")
        if number in self._booting:  # another thread was quicker
            raise NodeStateError(f"node {number} is being started already")
        self._booting.add(number)
        try:
            await self._start(number)
            self._release([number])
            await self._meet(number)
        finally:
            self._booting.discard(number)
        await self._introduce_all([number])

    @property
    def _started_elsewhere(self) -> bool:
        """Whether each node was started where it is (`raftoral-nb node`), with a folder of its own that is nobody else's."""
        return self._announced is not None and self._announced.content.data_dir is None

    def _refuse_to_start(self, what: str) -> None:
        """Nodes that were started one by one, each on its machine, are started there: they have folders of their own."""
        if self._started_elsewhere:
            raise NodeStateError(f"{what}: the nodes of this cluster are started where they are, with raftoral-nb node")

    async def on_join(self, number: NodeId) -> None:
        """Start a node that is no member yet, under a number that was reserved for it. Raises `NodeStateError`."""
        self._refuse_to_start("no node can be added from here")
        assert self._shared is not None
        add_folder(Path(self._shared.data_dir), number)
        self.starts[number] = 0
        try:
            await self._start(number)
            self._release([number])
            await self._meet(number)
        except BaseException:
            self._undo_join(number)
            raise
        if number not in self.numbers:
            self.numbers = (*self.numbers, number)
        await self._introduce_all([number])

    def _undo_join(self, number: NodeId) -> None:
        """It could not be started, or met: nothing of it stays."""
        assert self._shared is not None
        child = self._on_left(number)
        if child is not None:
            child.kill()
        self.starts.pop(number, None)
        with contextlib.suppress(StorageError):  # what is told is why it could not be started
            drop_folder(Path(self._shared.data_dir), number)

    def leave(self, number: NodeId, timeout: float) -> None:
        """End a node that is no member any more, and drop its log, where it can be reached from here."""
        with contextlib.suppress(TimeoutError, NodeStateError):
            self.thread.run(self._on_leave, number, timeout=timeout)
        child = self.thread.call(self._on_left, number)
        if child is not None and not child.wait(timeout):
            child.kill()
        assert self._shared is not None
        if not self._started_elsewhere and Path(self._shared.data_dir).is_dir():
            drop_folder(Path(self._shared.data_dir), number)

    def _on_left(self, number: NodeId) -> Child | None:
        """Forget a node (consensus loop); its process, if it was started here, is still to be ended."""
        self._forget(number)
        return self._children.pop(number, None)

    async def _on_leave(self, number: NodeId) -> None:
        self._expected.add(number)
        for other, calls in tuple(self._calls.items()):
            if other != number:
                calls.ask(Forget(number))
        if (leaving := self._calls.get(number)) is not None:
            await leaving.ask(Stop())
            await leaving.lost

    def change(self, number: NodeId, change: Change) -> None:
        """Do something to a living node, and wait until it is done. Raises `NodeStateError`."""
        life = self.alive(number, "changed")
        assert isinstance(life, RemoteLife)

        async def ask() -> None:
            status: Status = (await life.calls.ask(ChangeNode(change))).body
            self._take_status(number, life.calls, status)

        try:
            self.thread.run(ask, timeout=CHANGE_SECONDS)
        except TimeoutError:
            raise NodeStateError(
                f"node {number} did not answer within {CHANGE_SECONDS:g} s: its process hangs, or is stopped. Kill the node, "
                "then restart it"
            ) from None

    def change_links(self, act: Callable[[Links], T]) -> T:
        """Have `act` do something to the links; the nodes at their ends carry it out, and are waited for.

        For a node that hangs no longer than `CHANGE_SECONDS`: it does it when it goes on.
        """

        async def on_loop() -> T:
            done = act(self.network)
            change = self.network.taken()
            if change is not None:
                # One that dies meanwhile is told when it is back.
                await answers_to([calls.ask(change) for calls in self._calls.values()], CHANGE_SECONDS)
            return done

        return self.thread.run(on_loop)

    async def on_await_applied(self, number: NodeId, target: int) -> int:
        """Wait until a node has applied the log up to an index; returns how far it is. Raises `NodeStateError` if it dies."""
        life = self.alive(number, "waited for")
        assert isinstance(life, RemoteLife)
        index: int = (await life.calls.ask(AwaitApplied(target))).body
        return index


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])

"""What comes over the lines to nodes of other processes: their states, events and output, and the log, applied to a copy of the state."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from .. import history
from ..alive import Process
from ..errors import NodeStateError, ProtocolError, RaftoralError, SnapshotError
from ..hosting import Hosting, Lifetime
from ..limits import MAX_EVENTS_KEPT
from ..model import ClusterEvent, NetworkChanged, NodeChanged, NodeId, OutputLine, RunHeld
from ..raft.network import FIRST_REDIAL
from ..raft.replica import Timing
from ..raft.tls import Tls
from ..raft.wire import decode_entry
from ..snapshot import Reader
from ..state import State, apply_entry
from .announcing import KeyFileOfProcesses
from .calls import Calls
from .children import Child
from .links import RemoteLinks
from .lives import RemoteLife
from .messages import (
    Address,
    Announce,
    ChangeLinks,
    Follow,
    Hello,
    LogAnswer,
    Moved,
    News,
    NodeLook,
    ReadLog,
    ReadPiece,
    Shared,
    SnapshotOffer,
    Status,
    Welcome,
    packed,
    unpacked,
)
from .troubles import MAX_REDIAL, Troubles

logger = logging.getLogger(__name__)


class Following(Hosting):
    """The part of a `RemoteHost` that is told things. `quiet` while it learns what has happened before it came."""

    network: RemoteLinks
    _incarnations: dict[NodeId, RemoteLife]

    def __init__(
        self,
        name: str,
        numbers: Sequence[NodeId],
        *,
        timing: Timing,
        proposal_timeout: float,
        lifetime: Lifetime,
        found: KeyFileOfProcesses | None,
    ) -> None:
        super().__init__(name, numbers, timing=timing, proposal_timeout=proposal_timeout, lifetime=lifetime)
        self.network = RemoteLinks()
        self.looks: dict[NodeId, NodeLook] = {}
        """What each node said of itself when it was looked at last."""
        self._announced = found
        self._tls: Tls | None = None
        self._founders = self.numbers
        self._shared: Shared | None = None
        self._incarnations = {}
        self._children: dict[NodeId, Child] = {}
        self._processes: dict[NodeId, Process] = {}
        self._pythons: dict[NodeId, str] = {}
        self._addresses: dict[NodeId, Address] = {}
        # Those whose end, or absence, is no news.
        self._expected: set[NodeId] = set()
        # The nodes of which it was told last that they were killed.
        self._down: set[NodeId] = set()
        self._origin = secrets.token_hex(8)
        # The rest belongs to the loop.
        self._calls: dict[NodeId, Calls] = {}
        self._looking: dict[NodeId, asyncio.Future[Any]] = {}
        self._told: dict[NodeId, int] = {}
        self._redialing: set[NodeId] = set()
        self._troubles = Troubles(name)
        self._unreached: dict[NodeId, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._state = State()
        # Invariant: the log is applied to the state up to here.
        self._cursor = 0
        self._quiet = found is not None
        self._past: list[tuple[float, ClusterEvent]] = []
        self._reached: set[asyncio.Future[None]] = set()
        self._source_changed = asyncio.Event()

    # --- lines to nodes

    async def _meet(self, number: NodeId) -> Welcome:
        """Connect to a node, learn who it is, and follow what it tells."""
        if self._tls is None and self._announced is not None and self._announced.content.certificate is not None:
            self._tls = Tls(self._announced.content.certificate)
        calls = await Calls.open(self.key, self._addresses[number], number, self._lost, tls=self._tls)
        try:
            welcome: Welcome = (await calls.ask(Hello())).body
        except BaseException:
            calls.close()
            raise
        if number in self._calls:  # it was met at the same time by who restarts it and by who had lost it
            calls.close()
            return welcome
        self._calls[number] = calls
        self._unreached.pop(number, None)
        again = self._processes.get(number) == welcome.process
        self.starts[number] = welcome.incarnation
        self._processes[number] = welcome.process
        self._pythons[number] = welcome.python
        self._expected.discard(number)
        if self._shared is None:
            self._shared = welcome.shared
            self.timing = welcome.shared.timing
            self.proposal_timeout = welcome.shared.proposal_timeout
            self._founders = welcome.shared.founders
        self.network.learn(
            ChangeLinks(tuple((a, b, True) for a, b in welcome.cuts), tuple((a, b, d) for a, b, d in welcome.delays))
        )
        self._take_status(number, calls, welcome.status)
        self._spawn(self._follow(number, calls, self._told.get(number, 0) if again else 0, welcome.status_number))
        for other, address in welcome.elsewhere.items():
            self._moved(other, address)
        if self._quiet:
            await self._await_told(number, welcome.told)
        return welcome

    def _lost(self, calls: Calls) -> None:
        number = next((one for one, known in self._calls.items() if known is calls), None)
        if number is None:
            return
        del self._calls[number]
        self._looking.pop(number, None)
        self._incarnations.pop(number, None)
        self.acting_changed(number, None)
        self._source_changed.set()
        self._wake()
        if calls.problem is not None:
            self._troubles.failed(number, calls.problem)
        if not self._shut and number not in self._expected:
            self._spawn(self._redial(number))

    async def _redial(self, number: NodeId) -> None:
        """A node cannot be reached: try again until it can, or its process is known to have ended."""
        if number in self._redialing:
            return
        self._redialing.add(number)
        try:
            await self._reach(number)
        finally:
            self._redialing.discard(number)

    async def _reach(self, number: NodeId) -> None:
        try:
            await asyncio.sleep(self._troubles.wait(number))  # it was reached, and told what made no sense
            await self._reach_again(number)
        finally:
            self._unreached.pop(number, None)

    async def _reach_again(self, number: NodeId) -> None:
        wait = FIRST_REDIAL
        while not self._shut and number in self.numbers and number not in self._calls:
            try:
                await self._meet(number)
                return
            except RaftoralError as error:
                logger.debug("node %d cannot be reached: %s", number, error)
                why = str(error)
            child, process = self._children.get(number), self._processes.get(number)
            if (child is not None and child.ended) or (child is None and process is not None and process.gone):
                if number not in self._expected and number not in self._down:
                    self.announce(NodeChanged(number, "killed"))
                self._troubles.forget(number)
                return
            self._unreached[number] = why
            await asyncio.sleep(wait)  # nothing says when a process elsewhere listens again
            wait = min(2 * wait, MAX_REDIAL)

    def problem(self, number: NodeId) -> str | None:
        """Why a node that is not known to have ended cannot be reached, or followed; None if it can. From any thread."""
        return self._unreached.get(number) or self._troubles.reason(number)

    async def _failed(self, number: NodeId, calls: Calls, error: RaftoralError) -> None:
        """What a node told cannot be used: wait, or (if it made no sense) meet it anew, which waits as well."""
        if calls.closed:
            return
        wait = self._troubles.failed(number, error)
        if isinstance(error, ProtocolError | SnapshotError):
            calls.close()
            await calls.lost
        else:
            await asyncio.sleep(wait)

    # --- what nodes tell

    async def _follow(self, number: NodeId, calls: Calls, told: int, status_number: int) -> None:
        while not calls.closed:
            try:
                news: News = (await calls.ask(Follow(told, status_number))).body
                self._take_status(number, calls, news.status)
                if news.missed and told:  # what was dropped before anybody followed is not missed
                    logger.warning("%d events of node %d were not told: they came too fast", news.missed, number)
                for item in news.items:
                    if item.origin != self._origin:
                        self._take(item.kind, item.data, item.time, shared=bool(item.origin))
                    self._told[number] = told = item.number
                self._told[number] = told = news.told
                status_number = news.status_number
                self._wake()
            except RaftoralError as error:
                await self._failed(number, calls, error)

    def _take(self, kind: str, data: bytes, at: float, *, shared: bool) -> None:
        found = unpacked(kind, data)
        match found:
            case None | RunHeld():  # that it is held, is found out here
                return
            case OutputLine():
                self.write(found)
                return
            case Moved(node=node, address=address):
                if not self._quiet:  # where they are now, nodes say when they are met
                    self._moved(node, address)
                return
            case NodeChanged(node=node, change="killed"):
                if node in self._down:  # it was noticed here as well
                    return
                self._down.add(node)
            case NodeChanged(node=node, change="started" | "restarted"):
                self._down.discard(node)
            case NetworkChanged() if shared and not self._quiet:
                self._spawn(self._learn_links())
            case NodeChanged(node=node, change="removed") if shared and not self._quiet:
                self._forget(node)
            case _:
                pass
        if self._quiet:
            self._past.append((at, found))
        else:
            self.tell(found)

    def _take_status(self, number: NodeId, calls: Calls, status: Status) -> None:
        life = self._incarnations.get(number)
        if not status.alive:
            self._incarnations.pop(number, None)
        elif life is None or life.calls is not calls:
            self._incarnations[number] = RemoteLife(self, calls, number, status)
        else:
            life.status = status
        self.starts[number] = max(self.starts.get(number, 0), status.incarnation)
        self.acting_changed(number, status.acting)
        self._source_changed.set()

    def _moved(self, number: NodeId, address: Address) -> None:
        """A node is there now: one that another handle started, or that joined by itself."""
        self._addresses[number] = address
        if number not in self.numbers:
            self.starts.setdefault(number, 0)
            self.numbers = tuple(sorted((*self.numbers, number)))
            self._numbers_watcher()
        child = self._children.get(number)
        if number not in self._calls and not self._quiet and not self._shut and (child is None or child.ended):
            if child is not None:  # another handle has started the node in another process
                child.kill()
                del self._children[number]
            self._expected.discard(number)
            self._processes.pop(number, None)
            self._spawn(self._redial(number))

    def _forget(self, number: NodeId) -> None:
        self.numbers = tuple(one for one in self.numbers if one != number)
        self._expected.add(number)
        for known in (self._addresses, self._processes, self._pythons, self.looks):
            known.pop(number, None)
        self._troubles.forget(number)
        if self._announced is not None:
            self._announced.drop(number)
        self._numbers_watcher()

    async def _learn_links(self) -> None:
        """Another handle did something to the links."""
        for calls in tuple(self._calls.values()):
            with contextlib.suppress(RaftoralError):
                welcome: Welcome = (await calls.ask(Hello())).body
                links = RemoteLinks()
                links.learn(
                    ChangeLinks(
                        tuple((a, b, True) for a, b in welcome.cuts), tuple((a, b, d) for a, b, d in welcome.delays)
                    )
                )
                self.network.become(links)
                return

    # --- the log

    @property
    def _source(self) -> RemoteLife | None:
        """The node from which the log is read: the one that acts, or any that is awake."""
        life = self.spokesman()
        assert life is None or isinstance(life, RemoteLife)
        return life

    async def _read_log(self) -> None:
        while True:
            source = self._source
            if source is None:
                self._source_changed.clear()
                await self._source_changed.wait()
                continue
            reading = asyncio.ensure_future(self._read_some(source))
            try:
                while not reading.done() and self._source is source:
                    self._source_changed.clear()
                    changed = asyncio.ensure_future(self._source_changed.wait())
                    try:
                        await asyncio.wait({reading, changed}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        changed.cancel()
                if reading.done():
                    reading.result()
            finally:
                reading.cancel()

    async def _read_some(self, source: RemoteLife) -> None:
        try:
            answer: LogAnswer = (await source.calls.ask(ReadLog(self._cursor))).body
            if not self._shut:  # else the end is told already, and nothing comes after that
                await self._take_log(source, answer)
        except RaftoralError as error:
            await self._failed(source.node, source.calls, error)

    async def _take_log(self, source: RemoteLife, answer: LogAnswer) -> None:
        before = self._cursor
        if answer.snapshot is not None:
            await self._take_snapshot(source, answer.snapshot)
        elif answer.entries is not None:
            # All or nothing: what was applied must not be asked for again.
            for index, entry in [(index, decode_entry(data)) for index, data in answer.entries.entries]:
                applied = apply_entry(self._state, index, entry)
                if self._quiet:
                    self._told_index = index
                else:
                    self.entry_applied(index, applied)
            self._cursor = max(self._cursor, answer.entries.upto)
        if self._cursor <= before:
            raise ProtocolError(f"it was asked for its log behind entry {before}, and told nothing of that")
        self._wake()

    async def _take_snapshot(self, source: RemoteLife, offer: SnapshotOffer) -> None:
        reader = Reader()
        for number in range(offer.pieces):
            reader.feed((await source.calls.ask(ReadPiece(number))).body)
        state = reader.state()
        if offer.index > self._cursor:
            self._state = state
            self._told_index = self._cursor = offer.index
            self._state_skipped(self._state)

    async def _catch_up(self) -> None:
        """Of a cluster that was found running: learn all that there is, as something that has happened before."""
        life = self._source
        if life is not None:
            upto = (await life.calls.ask(Hello())).body.applied
            while self._cursor < upto:
                await self._take_log(life, (await life.calls.ask(ReadLog(self._cursor))).body)
        for run in tuple(self._state.runs.values()):
            self._past.extend(history.history(run))
        self._past.sort(key=lambda one: one[0])
        self.observers.recall(self._past[-MAX_EVENTS_KEPT:])
        self._past.clear()
        self._quiet = False

    async def on_await_leader(self) -> NodeId:
        """Wait until a node acts, and all that it had applied by then is known here."""
        while True:
            leader = await super().on_await_leader()
            life = self._incarnations.get(leader)
            with contextlib.suppress(NodeStateError):  # it died meanwhile
                if life is not None:
                    await self.on_reached((await life.calls.ask(Hello())).applied)
                    return leader

    async def on_reached(self, index: int) -> None:
        """Wait until the log is applied here up to an index."""
        await self._until(lambda: self._cursor >= index)

    async def _await_told(self, number: NodeId, told: int) -> None:
        await self._until(lambda: self._told.get(number, 0) >= told or number not in self._calls)

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._reached.add(waiter)
            try:
                await waiter
            finally:
                self._reached.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._reached:
            if not waiter.done():
                waiter.set_result(None)

    def head(self) -> State:
        """The state as it is known here. From any thread."""
        return self._state

    # --- what is told to others

    def announce(self, event: ClusterEvent) -> None:
        """Publish what was done here, and have a node tell the other handles."""
        if isinstance(event, NodeChanged) and event.change == "killed":
            self._down.add(event.node)
        self.tell(event)
        self.thread.post(self._share, event)

    def _share(self, event: ClusterEvent) -> None:
        if self._calls and not self._shut:
            kind, data = packed(event)
            # A node that something is done to may be about to end.
            others = [number for number in self._calls if number != getattr(event, "node", None)]
            self._calls[min(others or self._calls)].ask(Announce(kind, data, self._origin))

    # --- inside

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of cluster %s failed", self.name, exc_info=error)

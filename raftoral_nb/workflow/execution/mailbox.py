"""The mailbox of one execution: messages in the order of the log, those that wait for them, and the queries it answers.

A message is taken by whoever asks for it when that *runs*, as from an `asyncio.Queue`: a getter that is cancelled after it was woken
leaves the message where it is, and wakes the next one. So none is lost, and each is taken once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from ...threads.loop_thread import unstarted

if TYPE_CHECKING:
    from ...core.records import Message

Kind = Literal["signal", "update"]


class Getter:
    """One that waits for the first message of a kind and of one of several names."""

    __slots__ = ("future", "kind", "names")

    def __init__(self, kind: Kind, names: tuple[str, ...], future: asyncio.Future[None]) -> None:
        self.kind = kind
        self.names = names
        self.future = future


class UpdateHandler:
    """What is done for the updates of one name: `start(message)` begins it, in the turn of its update."""

    __slots__ = ("start", "validator")

    def __init__(self, start: Callable[[Message], None], validator: Callable[[Any], object] | None) -> None:
        self.start = start
        self.validator = validator


Unfinished = Literal["wait", "cancel"]
"""What becomes of a handler that still runs when the workflow's function has ended."""


class RunningHandlers:
    """The handlers of updates, by name, and those that run."""

    def __init__(self) -> None:
        self.by_name: dict[str, UpdateHandler] = {}
        self.open = True
        """False once the workflow's function has ended: no handler begins any more."""
        self.begun = 0
        """How many have begun: their number, which is the same on every node."""
        # Invariant: begun, not ended, and without an outcome. A dict for its order.
        self._running: dict[asyncio.Task[Any], Unfinished] = {}
        # Invariant: begun, and not ended. A dict for its order.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        # Invariant: cancelled, and have not run.
        self._cancelled_early: set[asyncio.Task[Any] | None] = set()

    def wanting(self, message: Message) -> UpdateHandler | None:
        """Return the handler that a message is for, if it is to begin."""
        return self.by_name.get(message.name) if self.open and message.kind == "update" else None

    def validates(self, name: str) -> bool:
        """Return whether updates of that name are looked at before they are sent."""
        return self.open and name in self.by_name and self.by_name[name].validator is not None

    def running(self, task: asyncio.Task[Any], unfinished: Unfinished) -> None:
        """Note that a handler has begun."""
        self._tasks[task] = None
        self._running[task] = unfinished
        task.add_done_callback(self._ended)

    def has_outcome(self, task: asyncio.Task[Any] | None) -> None:
        """Note that a handler has only its answer to record: it is cancelled no more."""
        if task is not None:
            self._running.pop(task, None)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        self._tasks.pop(task, None)

    def cancel(self, *, every: bool) -> None:
        """Cancel those that run, or only those that are not to be waited for."""
        for task, unfinished in tuple(self._running.items()):
            if every or unfinished == "cancel":
                del self._running[task]
                if unstarted(task):  # it would never run, and so not answer
                    self._cancelled_early.add(task)
                else:
                    task.cancel()

    def begins(self, task: asyncio.Task[Any] | None) -> None:
        """Note that a handler's task runs for the first time. Raises `asyncio.CancelledError` if it was cancelled before."""
        if task in self._cancelled_early:
            self._cancelled_early.discard(task)
            raise asyncio.CancelledError("the run ended before the handler began")

    async def end(self) -> None:
        """Wait until all have ended. On the run's own loop."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))


class Mailbox:
    """Signals and updates that have had their turn and were not taken. Used on the node's thread alone."""

    def __init__(self, took: Callable[[str], object] = str) -> None:
        self.taken = 0
        """How many were taken so far."""
        self.handlers = RunningHandlers()
        # Called with the message_id of each that is taken.
        self._took = took
        self.arrived = 0
        """How many have had their turn so far. Each has its number, from 1: ids may repeat, once the state has forgotten them."""
        # Invariant: by number, ascending; not taken.
        self._waiting: dict[int, Message] = {}
        # Invariant: the numbers of the same, by kind and name, ascending. No empty ones.
        self._by_name: dict[tuple[Kind, str], deque[int]] = {}
        # Invariant: by kind and name, those that wait for such a message, in the order in which they asked. No empty ones.
        self._getters: dict[tuple[Kind, str], dict[Getter, None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def left(self) -> tuple[int, ...]:
        """The numbers of those that wait, ascending."""
        return tuple(self._waiting)

    @property
    def waiting(self) -> tuple[Message, ...]:
        """Those that wait, in the order of the log. A copy."""
        return tuple(self._waiting.values())

    @property
    def getters(self) -> tuple[Getter, ...]:
        """Those that wait for messages. A copy."""
        return tuple(dict.fromkeys(getter for found in tuple(self._getters.values()) for getter in tuple(found)))

    def arrive(self, message: Message) -> None:
        """Put a signal or an update in, and wake the first that wants it; or begin its handler."""
        assert message.kind != "child"
        self.arrived += 1
        if (handler := self.handlers.wanting(message)) is not None:
            self._note_taken(message)
            handler.start(message)
            return
        self._waiting[self.arrived] = message
        self._by_name.setdefault((message.kind, message.name), deque()).append(self.arrived)
        self._wake(message.kind, message.name)

    async def take(self, kind: Kind, names: Iterable[str], future: Callable[[], asyncio.Future[None]]) -> Message:
        """Return the first message of that kind and one of the names, and wait for one if there is none.

        `future()` makes a future of the run's own loop.
        """
        wanted = tuple(names)
        while (message := self.take_now(kind, *wanted)) is None:
            getter = Getter(kind, wanted, future())
            for name in wanted:
                self._getters.setdefault((kind, name), {})[getter] = None
            try:
                await getter.future
            except BaseException:
                # Woken, and cancelled before it ran: the message is for the next.
                if getter.future.done() and not getter.future.cancelled():
                    self._remove(getter)
                    for name in wanted:
                        self._wake(kind, name)
                raise
            finally:
                self._remove(getter)
        for name in wanted:
            self._wake(kind, name)
        return message

    def take_now(self, kind: Kind, *names: str) -> Message | None:
        """Return the first message of that kind and one of the names, and take it; None if none waits."""
        first: tuple[int, str] | None = None
        for name in names:
            alike = self._by_name.get((kind, name))
            if alike and (first is None or alike[0] < first[0]):
                first = (alike[0], name)
        if first is None:
            return None
        number, name = first
        alike = self._by_name[kind, name]
        alike.popleft()
        if not alike:
            del self._by_name[kind, name]
        message = self._waiting.pop(number)
        self._note_taken(message)
        return message

    def handle(self, name: str, handler: UpdateHandler) -> None:
        """Have a handler begin for each update of that name, from now on, and now for those that wait."""
        self.handlers.by_name[name] = handler
        while self.handlers.open and (message := self.take_now("update", name)) is not None:
            handler.start(message)

    def _note_taken(self, message: Message) -> None:
        self.taken += 1
        self._took(message.message_id)

    def _remove(self, getter: Getter) -> None:
        for name in getter.names:
            found = self._getters.get((getter.kind, name))
            if found is not None:
                found.pop(getter, None)
                if not found:
                    del self._getters[getter.kind, name]

    def _wake(self, kind: Kind, name: str) -> None:
        """Wake the first that waits for such a message, if there is one."""
        if (kind, name) not in self._by_name:
            return
        for getter in self._getters.get((kind, name), ()):
            if not getter.future.done():
                getter.future.set_result(None)
                return


class Queries:
    """The functions that answer queries, by name."""

    def __init__(self) -> None:
        self.functions: dict[str, Callable[..., Any]] = {}
        self.changed = asyncio.Event()
        """Set, and replaced, when another query can be answered, or none will be any more."""

    def register(self, name: str, fn: Callable[..., Any]) -> None:
        """Have `fn` answer the query `name` from now on."""
        self.functions[name] = fn
        self.tell()

    def tell(self) -> None:
        """Let what waits for a query look again."""
        self.changed.set()
        self.changed = asyncio.Event()

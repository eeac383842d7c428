"""The mailbox of one execution: messages in the order of the log, those that wait for them, and the queries it answers.

A message is taken by whoever asks for it when that *runs*, as from an `asyncio.Queue`: a getter that is cancelled after it was woken
leaves the message where it is, and wakes the next one. So none is lost, and each is taken once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

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


class Mailbox:
    """Signals and updates that have had their turn and were not taken. Used on the node's thread alone."""

    def __init__(self) -> None:
        self.taken = 0
        """How many were taken so far."""
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
    def getters(self) -> tuple[Getter, ...]:
        """Those that wait for messages. A copy."""
        return tuple(dict.fromkeys(getter for found in tuple(self._getters.values()) for getter in tuple(found)))

    def arrive(self, message: Message) -> None:
        """Put a signal or an update in, and wake the first that wants it."""
        assert message.kind != "child"
        self.arrived += 1
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
        self.taken += 1
        return self._waiting.pop(number)

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

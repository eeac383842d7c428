"""The mailbox of one node's execution of a run: messages in the order of the log, and the queries it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from ...core.records import Message


class Mailbox:
    """Messages in the order of the log. Recorded steps take them out; the acting node looks for the first, and holds it."""

    def __init__(self) -> None:
        # Invariant: arrived, and not taken by a recorded step.
        self._waiting: dict[str, Message] = {}
        # Invariant: those that a step of this node is about to take; another branch must not take them meanwhile.
        self._held: set[str] = set()
        self._change = anyio.Event()

    def arrive(self, message: Message) -> None:
        """Receive a message. One that waits already is the same."""
        self._waiting[message.message_id] = message
        self._changed()

    def inherit(self, other: Mailbox) -> None:
        """Take over what waits in another one."""
        self._waiting = dict(other._waiting)

    def forget(self, kind: str) -> None:
        """Drop the messages of a kind."""
        self._waiting = {name: message for name, message in self._waiting.items() if message.kind != kind}

    def taken(self, message_id: str) -> None:
        """Note that a recorded step took the message, or answered it; unknown ones are none of ours."""
        self._waiting.pop(message_id, None)

    def release(self, message_id: str) -> None:
        """Note that the step that was about to take the message is recorded, or will not be by this node."""
        self._held.discard(message_id)
        self._changed()

    async def first(self, kind: str, name: str) -> Message:
        """Return the first message of that kind and name that no step holds; wait for one, and hold it."""
        while True:
            for message in self._waiting.values():
                if message.kind == kind and message.name == name and message.message_id not in self._held:
                    self._held.add(message.message_id)
                    return message
            await self._change.wait()

    def _changed(self) -> None:
        self._change.set()
        self._change = anyio.Event()


class Queries:
    """The functions that answer queries, by name."""

    def __init__(self) -> None:
        self.functions: dict[str, Callable[..., Any]] = {}
        self.changed = anyio.Event()
        """Set, and replaced, when another query can be answered, or none will be any more."""

    def register(self, name: str, fn: Callable[..., Any]) -> None:
        """Have `fn` answer the query `name` from now on."""
        self.functions[name] = fn
        self.tell()

    def tell(self) -> None:
        """Let what waits for a query look again."""
        self.changed.set()
        self.changed = anyio.Event()

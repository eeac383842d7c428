"""The outbox: messages of a replica that wait until what they speak of is stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ..core.records import NodeId
from ..transport.messages import AppendEntries, Message
from .journal import MemoryJournal


class Outbox:
    """The outbox of a replica, which sends each message as soon as everything is stored that was written before it.

    "I have these entries" and "you have my vote" must outlive this process. A leader's entries need not wait: it counts
    itself only when it has stored them (`fast_path`, `durable_journal.DurableJournal.setRaftCommitIndex`). What was written during
    one turn of the loop is stored together; `stored()` is called then, and `broke(error)` if it cannot be.
    """

    def __init__(
        self,
        journal: MemoryJournal,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[NodeId, Message], None],
        broke: Callable[[BaseException], None],
        stored: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._loop = loop
        self._send = send
        self._broke = broke
        self._stored = stored
        self.held: deque[tuple[int, NodeId, Message]] = deque()
        """What waits, in the order it was made; each with the number of operations that must be stored before it may leave."""
        self._frozen = False
        self._closed = False

    def send(self, peer: NodeId, message: Message) -> None:
        """Send a message now, or hold it until `settle` has stored what came before."""
        if isinstance(message, AppendEntries) or (self._journal.safe and not self.held):
            self._send(peer, message)
        else:
            self.held.append((self._journal.written, peer, message))

    def settle(self) -> None:
        """Have stored what was written in this turn, as one group, and send what waited for it."""
        journal = self._journal
        if self._closed or self._frozen:
            return
        if not journal.safe and not journal.saving:
            journal.save(self._loop, self._saved)
        elif self.held:
            self._let_go()

    def freeze(self) -> None:
        """Send nothing that waits, until `thaw`."""
        self._frozen = True

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._frozen = False
        self.settle()

    def close(self) -> None:
        """Forget what waits; nothing is sent any more."""
        self._closed = True
        self.held.clear()

    def _saved(self, error: BaseException | None) -> None:
        if self._closed:
            return
        if error is not None:
            self._broke(error)
            return
        self._let_go()
        if not self._journal.safe:
            self.settle()
        self._stored()

    def _let_go(self) -> None:
        held = self.held
        while held and not self._frozen and held[0][0] <= self._journal.stored:
            _, peer, message = held.popleft()
            self._send(peer, message)

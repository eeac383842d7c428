"""Commands of callers who do not block, and of those who ask for many: what comes while others are on their way goes together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeGuard, cast

from ..core.commands import Command, Committed, Outcome, Rejected
from ..core.entry_codec import size_of
from ..errors import InternalError, NotAcknowledgedError, ProtocolError, RaftoralError
from ..limits import MAX_ENTRY_BYTES
from ..threads.loop_thread import LoopThread

MAX_ASKED: Final = 256
"""Commands that go to a node together: half of those it may have on their way, so that others' have room beside them."""

MAX_UNDER_WAY: Final = 4
"""Groups of commands that are on their way at a time; what comes beyond waits, and shares the next group."""

Answer = Committed | Rejected | RaftoralError
"""What became of a command: what was decided, or the reason why that is not known."""


_NOT_TAKEN: Final = frozenset({"stopped", "no_leader"})
"""Rejections that say only that the node that was asked could not pass the command on."""


def is_decided(outcome: Outcome) -> TypeGuard[Committed | Rejected]:
    """Return whether it was carried out or refused; not if nobody can say, or a node only could not pass it on."""
    return isinstance(outcome, Committed) or (isinstance(outcome, Rejected) and outcome.code not in _NOT_TAKEN)


class AskEnv(Protocol):
    """Who takes commands to the nodes: a backend."""

    async def on_ask_all(self, commands: Sequence[Command]) -> list[Outcome]:
        """Propose commands together, in this order; their outcomes within `proposal_timeout` (consensus loop)."""

    def answer(self, outcome: Outcome, what: str, waited: float) -> Committed | Rejected | NotAcknowledgedError:
        """Return an outcome as its caller is told it; `what` names the command, `waited` is in seconds."""


class _Caller:
    """Somebody who asked for commands, and what became of them so far."""

    __slots__ = ("_answers", "_callback", "_left", "_lock")

    def __init__(self, count: int, callback: Callable[[list[Answer]], None]) -> None:
        self._answers: list[Answer | None] = [None] * count
        self._left = count
        self._callback = callback
        self._lock = threading.Lock()

    def tell(self, position: int, answer: Answer) -> None:
        with self._lock:  # the loop and the thread that stops it may tell at the same time
            self._answers[position] = answer
            self._left -= 1
            left = self._left
        if not left:
            self._callback(cast("list[Answer]", self._answers))


class _Asked:
    """One command of a caller. Invariant: it is told once, by whoever took it from the queue."""

    __slots__ = ("_caller", "_position", "command", "what")

    def __init__(self, caller: _Caller, position: int, command: Command, what: str) -> None:
        self._caller = caller
        self._position = position
        self.command = command
        self.what = what

    def tell(self, answer: Answer) -> None:
        self._caller.tell(self._position, answer)


class Asks:
    """The commands that wait for their turn to be proposed, and those that are on their way. `put` may be called from any thread."""

    def __init__(self, env: AskEnv, thread: LoopThread) -> None:
        self._env = env
        self._thread = thread
        self._waiting: deque[_Asked] = deque()
        # Invariant: True only while the loop is still to look at what waits.
        self._posted = False
        self._under_way = 0

    def put(self, asked: Sequence[tuple[Command, str]], callback: Callable[[list[Answer]], None]) -> None:
        """Propose commands, each with the words for it; `callback(answers)` is called once, when all are decided.

        On the loop, or on the thread that stops it; it must neither wait nor raise. Raises `ClusterError` if the thread does not run:
        then it is not called.
        """
        if not asked:
            callback([])
            return
        caller = _Caller(len(asked), callback)
        mine = [_Asked(caller, position, command, what) for position, (command, what) in enumerate(asked)]
        self._waiting.extend(mine)
        # Whoever finds it posted was in the queue before the loop looks: it says that it looks, then looks.
        if not self._posted:
            self._posted = True
            try:
                self._begin()
            except BaseException:
                self._posted = False
                for one in mine:
                    with contextlib.suppress(ValueError):
                        self._waiting.remove(one)
                raise

    def _begin(self) -> None:
        taken: list[_Asked] = []

        def done(_: object, error: BaseException | None) -> None:
            self._ended(taken, error)

        self._thread.begin(self._go, taken, done=done)

    async def _go(self, taken: list[_Asked]) -> None:
        """Take what waits, as far as it goes together, and see it through."""
        self._posted = False
        if not self._waiting or self._under_way >= MAX_UNDER_WAY:
            return
        self._under_way += 1
        try:
            self._take(taken)
            if self._waiting:
                self._begin()
            clock = asyncio.get_running_loop().time
            began = clock()
            outcomes = await self._env.on_ask_all([one.command for one in taken])
            waited = clock() - began
            for one, outcome in zip(taken, outcomes, strict=True):
                one.tell(self._env.answer(outcome, one.what, waited))
            taken.clear()
        finally:
            self._under_way -= 1
            if self._waiting and not self._posted:
                self._begin()

    def _take(self, taken: list[_Asked]) -> None:
        total = 0
        while self._waiting and len(taken) < MAX_ASKED:
            one = self._waiting.popleft()
            try:
                size = size_of(one.command)
            except ProtocolError as error:
                one.tell(error)
                continue
            if taken and total + size > MAX_ENTRY_BYTES:
                self._waiting.appendleft(one)
                return
            taken.append(one)
            total += size

    def _ended(self, taken: list[_Asked], error: BaseException | None) -> None:
        """Tell those who were not answered; once the thread does not run, nobody else would take what waits."""
        if error is None:
            return
        why = (
            error if isinstance(error, RaftoralError) else InternalError(f"a command could not be asked for: {error!r}")
        )
        for one in taken:
            one.tell(why)
        if not self._thread.alive:
            self._posted = False
            while self._waiting:
                with contextlib.suppress(IndexError):  # another thread was quicker
                    self._waiting.popleft().tell(why)

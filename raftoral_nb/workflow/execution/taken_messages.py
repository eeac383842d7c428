"""What the acting node tells of messages that an execution took: which they are, for views, and how many, for the limit."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from ...core.cluster_events import MessageTaken
from ...limits import MAX_UNRECEIVED_SIGNALS
from . import recording
from .acting import ActingExecution, propose
from .rights import RightsExecution

if TYPE_CHECKING:
    from .environment import ExecutionEnv

NOTE_TAKEN_AFTER: Final = 200
"""Messages that are taken before the acting node says so, where nothing else is recorded meanwhile."""


class TakingExecution(ActingExecution, RightsExecution, Protocol):
    """The part of an `Execution` that is needed to tell what it took."""


class TakenMessages:
    """The messages that one execution took and its node has not told of yet."""

    def __init__(self, execution: TakingExecution, around: ExecutionEnv) -> None:
        self._execution = execution
        self._around = around
        # Messages that were taken since the execution was at rest.
        self._took: deque[str] = deque(maxlen=MAX_UNRECEIVED_SIGNALS)
        self._caught_up = False
        self._noted = 0

    def add(self, message_id: str) -> None:
        """Note that a message was taken."""
        self._took.append(message_id)

    def recorded(self) -> None:
        """Note that a step is recorded: whoever recorded it told what it had taken before."""
        if not self._caught_up:
            self._took.clear()

    def tell(self, term: int | None) -> None:
        """Tell of them, if this node acts; the execution has had every record that was handed over."""
        took = tuple(self._took)
        self._took.clear()
        self._caught_up = True
        for message_id in took if term is not None else ():
            self._around.tell(MessageTaken(self._around.node, self._execution.run_id, message_id))

    def note(self, term: int) -> None:
        """Have it recorded how many there were, if they are many and nothing else said it."""
        taken = self._execution.mailbox.taken
        if taken - self._noted >= NOTE_TAKEN_AFTER:
            self._noted = taken
            command = recording.taken_command(self._execution, term)
            propose(self._around, command, lambda: self._execution.rights.now() == term, lambda _: None)

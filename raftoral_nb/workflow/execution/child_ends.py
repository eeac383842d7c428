"""The children that an execution waits for, and those that it started for one that had stopped waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core.records import Message, RunId, StepId
    from ..loop.run_loop import RunLoop


class ChildEnds:
    """The ends of children that one execution waits for. Used on its node's thread alone, `by_id` excepted."""

    def __init__(self, loop: RunLoop) -> None:
        self._loop = loop
        self._by_id: dict[RunId, list[asyncio.Future[Message]]] = {}
        # Invariant: attached children whose start was given up and is not recorded yet, by the step that starts them.
        self._abandoned: dict[StepId, RunId] = {}

    @property
    def by_id(self) -> Mapping[RunId, Sequence[asyncio.Future[Message]]]:
        """Children whose ends are waited for. Not a copy."""
        return self._by_id

    def of(self, run_id: RunId) -> asyncio.Future[Message]:
        """Return a future of the end of a child. To be called in the turn in which its start is recorded."""
        future: asyncio.Future[Message] = self._loop.create_future()
        self._by_id.setdefault(run_id, []).append(future)
        return future

    def came(self, message: Message) -> None:
        """Tell those that wait for it of a child's end."""
        for future in self._by_id.pop(message.name, ()):
            if not future.done():
                future.set_result(message)

    def clear(self) -> None:
        """Wait for none any more."""
        self._by_id.clear()

    def abandon(self, step_id: StepId, run_id: RunId) -> None:
        """Note that nobody waits for the start of a child any more, which may be recorded all the same."""
        self._abandoned[step_id] = run_id

    def started(self, step_id: StepId) -> RunId | None:
        """Return the child that a step has started for nobody; None if it has not. Each is returned once."""
        return self._abandoned.pop(step_id, None)

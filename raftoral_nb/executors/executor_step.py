"""The running step as a function sees it that runs on an executor: what `current_step()` returns there."""

from __future__ import annotations

import math
import time
from typing import Any, Final, NoReturn

from ..errors import WrongTaskError
from ..workflow.execution.running_step import PROGRESS_SECONDS, checked_progress
from .step_work import Hear, Said, WorkHead


class ExecutorStep:
    """A step whose function runs on an executor. See `RunningStep`, which it is in the place of.

    What the function says goes to the node by the way that the executor has.
    """

    def __init__(self, head: WorkHead, hear: Hear) -> None:
        self.node: Final = head.node
        """The node that asked for it."""
        self.run_id: Final = head.run_id
        self.step_id: Final = head.step_id
        self.attempt: Final = head.attempt
        self._hear = hear
        self._told_at = -math.inf

    @property
    def key(self) -> str:
        """The name the workflow gave the step."""
        return self.step_id.partition("/")[2]

    @property
    def idempotency_key(self) -> str:
        """`run_id/step_id`: the same however often and wherever this step's function runs."""
        return f"{self.run_id}/{self.step_id}"

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the step has come, as `RunningStep.progress` does; of what comes too fast only some reaches the node."""
        fraction, text = checked_progress(fraction, text)
        now = time.monotonic()
        if fraction >= 1.0 or now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._hear(Said("progress", text, fraction))

    has_last = False
    """Whether an attempt before saved something: none can, on an executor."""

    @property
    def last(self) -> None:
        """None: on an executor no attempt saves anything."""
        return None

    def checkpoint(self, value: Any, every: Any = None) -> NoReturn:  # noqa: ARG002
        """Raise `WrongTaskError`: from an executor nothing is saved for the next attempt."""
        raise WrongTaskError(
            "current_step().checkpoint() works in the node's own process, and this function runs on an executor (on=...): leave on= out, "
            "or make several steps of it"
        )

    def signal(self, run_id: object, name: str, value: Any = None) -> NoReturn:  # noqa: ARG002
        """Raise `WrongTaskError`: from an executor no run is told anything."""
        raise _not_here("signal")

    def cancel(self, run_id: object, reason: str = "") -> NoReturn:  # noqa: ARG002
        """Raise `WrongTaskError`: from an executor no run is told anything."""
        raise _not_here("cancel")


def _not_here(name: str) -> WrongTaskError:
    return WrongTaskError(
        f"current_step().{name}() works in the node's own process, and this function runs on an executor (on=...): return what the "
        f"other run is to hear, and call `await ctx.{name}(...)` in the workflow"
    )

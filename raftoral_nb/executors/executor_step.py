"""The running step as a function sees it that runs on an executor: what `current_step()` returns there."""

from __future__ import annotations

import math
import threading
import time
from typing import Any, Final, NoReturn

from ..errors import WrongTaskError
from ..threads.seconds import Seconds
from ..workflow.codec import values
from ..workflow.codec.classes import View
from ..workflow.execution.running_step import PROGRESS_SECONDS, checked_progress
from ..workflow.execution.step_saving import Saving
from .checkpoint_outlet import CheckpointOutlet
from .step_work import Channel, Said, SavedValue, WorkHead, saved_bytes


class ExecutorStep:
    """A step whose function runs on an executor. See `RunningStep`, which it is in the place of.

    What the function says goes to the node by the way that the executor has.
    """

    def __init__(self, head: WorkHead, channel: Channel, saved: SavedValue | None, view: View) -> None:
        self.node: Final = head.node
        """The node that asked for it."""
        self.run_id: Final = head.run_id
        self.step_id: Final = head.step_id
        self.attempt: Final = head.attempt
        self._channel = channel
        self._told_at = -math.inf
        self._view = view
        self._before = saved
        self._looked = False
        self._asking = threading.Lock()
        self.outlet: Final = CheckpointOutlet(channel, head.run_id, head.step_id)
        """What its checkpoints go through."""

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
            self._channel(Said("progress", text, fraction))

    @property
    def has_last(self) -> bool:
        """Whether an attempt before this one left a checkpoint, which may be None."""
        return self._known() is not None

    @property
    def last(self) -> Any:
        """The last checkpoint of the attempts before this one, as `RunningStep.last` is."""
        known = self._known()
        if known is None:
            return None
        self._channel(Said("continues", ""))
        what = f"the last checkpoint of step {self.step_id!r} of run {self.run_id!r}"
        return values.decode(saved_bytes(known), what=what, view=self._view)

    def checkpoint(self, value: Any, every: Seconds | None = None) -> Saving:
        """Save how far the step has come, for the next attempt at it, as `RunningStep.checkpoint` does.

        Raises `WrongTaskError` where the executor has no way back to the node.
        """
        self._known()  # what it is from now on would be this attempt's own
        return self.outlet.take(value, every)

    def _known(self) -> SavedValue | None:
        with self._asking:
            if not self._looked:
                self._before = self._channel.kept() or self._before
                self._looked = True
            return self._before

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

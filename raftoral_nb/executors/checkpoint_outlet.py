"""What a function on an executor passes to `checkpoint`, on its way to the node: the latest value, not too often, one at a time."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import Final

from ..core.records import RunId, StepId
from ..errors import NotAcknowledgedError, WrongTaskError
from ..workflow.codec import values
from ..workflow.execution.step_saving import Saving, least_seconds, what_is_saved
from .step_work import Channel, Checkpoint, CheckpointAnswer, saved_value


class CheckpointOutlet:
    """What one attempt saves, on the function's side. From any thread.

    The node decides what is recorded and when (`StepSaver`). Here values are held back that would come faster than the way to it bears.
    """

    def __init__(self, channel: Channel, run_id: RunId, step_id: StepId) -> None:
        self._channel = channel
        self._what: Final = what_is_saved(run_id, step_id)
        self._lock = threading.Lock()
        # Invariant: the latest value that was not passed on, and those who wait for it. Nobody waits for one that is not there.
        self._latest: Checkpoint | None = None
        self._waiting: list[Saving] = []
        # Invariant: the value that is under way, and those who wait for it.
        self._sent: Checkpoint | None = None
        # Invariant: the value that was under way last, if the node did not take it.
        self._unsaved: Checkpoint | None = None
        self._under_way: list[Saving] = []
        self._sent_at = -math.inf
        self._timer: threading.Timer | None = None
        self._closed = False
        self._refused = ""

    def take(self, value: object, every: object) -> Saving:
        """See `RunningStep.checkpoint`. Raises `WrongTaskError` if there is no way to the node."""
        if self._refused:
            raise WrongTaskError(self._refused)
        least = least_seconds(every)
        saved = saved_value(values.encode(value, what=self._what))
        saving = Saving(self._what)
        with self._lock:
            closed = self._closed
            if not closed:
                self._latest = Checkpoint(saved, least)
                due = self._due()
                if due:
                    self._waiting.append(saving)
        if closed:
            saving.finish(NotAcknowledgedError(f"{self._what} is not needed any more", may_commit=False))
            return saving
        if not due:
            saving.finish()
        self._send()
        return saving

    def close(self, *, failed: bool) -> Checkpoint | None:
        """Take no more. Of an attempt that failed, return the latest value, unless the node is known to have it."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            left, self._latest = self._latest or self._sent or self._unsaved, None
            waiting, self._waiting = self._waiting, []
        for saving in waiting:
            saving.finish(NotAcknowledgedError(f"{self._what} was not saved: its function has ended", may_commit=True))
        return left if failed else None

    def _due(self) -> bool:
        assert self._latest is not None
        return time.monotonic() >= self._sent_at + min(self._latest.least, self._channel.spacing)

    def _send(self) -> None:
        """Pass on what is due, if nothing is under way."""
        with self._lock:
            if self._latest is None or self._sent is not None or self._closed:
                return
            if not self._due():
                if self._timer is None:
                    wait = self._sent_at + min(self._latest.least, self._channel.spacing) - time.monotonic()
                    self._timer = threading.Timer(max(0.0, wait), self._ring)
                    self._timer.daemon = True
                    self._timer.start()
                return
            checkpoint = self._sent = self._latest
            self._latest = None
            self._under_way, self._waiting = self._waiting, []
            self._sent_at = time.monotonic()
        try:
            self._channel.save(checkpoint, self._answered)
        except WrongTaskError as error:
            self._refused = str(error)
            raise

    def _ring(self) -> None:
        with self._lock:
            self._timer = None
        with contextlib.suppress(WrongTaskError):  # it is raised to whoever saves next
            self._send()

    def _answered(self, answer: CheckpointAnswer) -> None:
        with self._lock:
            self._unsaved = self._sent if answer.refused else None
            self._sent = None
            done, self._under_way = self._under_way, []
        for saving in done:
            saving.finish(
                NotAcknowledgedError(answer.refused, may_commit=answer.may_commit) if answer.refused else None
            )
        self._send()

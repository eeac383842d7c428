"""The runs that somebody holds a handle on: how they ended is known here for as long, whatever the state drops meanwhile.

A handle has a `HeldRun`, one for all handles on that run in this process; nothing else keeps it. So what is kept goes with the last
handle, and is the result's bytes, which the state has too until the run is evicted.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from ..core import retention
from ..core.blob_refs import reference
from ..core.events import (
    RunDeleted,
    RunEvicted,
    StateEvent,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from ..core.records import Failure, RunId
from ..core.run_record import Run
from ..core.state import State
from ..errors import RunNotFoundError
from ..workflow.codec import blobs

if TYPE_CHECKING:
    from ..core.statistics import RunStatus


def ending(record: Run | None) -> bytes | Failure | None:
    """Return how a run ended; None if it has not, or is not known."""
    return None if record is None else (record.failure if record.result is None else record.result)


class HeldRun:
    """What is known of a run for its handles. Written on the consensus loop, and when a handle is made; read from any thread."""

    __slots__ = ("__weakref__", "ended", "run_id")

    def __init__(self, run_id: RunId) -> None:
        self.run_id = run_id
        # Invariant: None until the run has ended, as far as is known here.
        self.ended: tuple[RunStatus, bytes | Failure] | None = None

    def take_along(self) -> None:
        """Hold the bytes of a large result too, whatever becomes of them elsewhere. Reads a disk, or asks nodes."""
        before = self.ended
        if before is not None and isinstance(before[1], bytes):
            kept = blobs.kept(before[1])
            if self.ended is before:
                self.ended = (before[0], kept)


def _value(found: bytes | Failure) -> bytes | None:
    return found if isinstance(found, bytes) else None


class HeldRuns:
    """The runs that handles of this process are on. `hold` may be called from any thread, the rest is for the consensus loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: weakref.WeakValueDictionary[RunId, HeldRun] = weakref.WeakValueDictionary()

    def hold(self, run_id: RunId, state: State) -> HeldRun:
        """Return what a handle on a run holds. `state` is the latest that is known."""
        with self._lock:
            held = self._held.get(run_id)
            if held is None:
                held = self._held[run_id] = HeldRun(run_id)
        # Looked at afterwards: what ends it from here on is told.
        self._look(held, state)
        return held

    def told(self, event: StateEvent) -> None:
        """Take an event about a run: its end, or that its id is another run's from here on."""
        match event:
            case WorkflowCompleted(run_id=run_id, result=result):
                self._end(run_id, "completed", result)
            case WorkflowFailed(run_id=run_id, failure=failure):
                self._end(run_id, "failed", failure)
            case WorkflowCancelled(run_id=run_id, failure=failure):
                self._end(run_id, "cancelled", failure)
            case WorkflowTerminated(run_id=run_id, failure=failure):
                self._end(run_id, "terminated", failure)
            case RunEvicted(run_id=run_id):
                held = self._held.get(run_id)
                if held is not None and held.ended is not None and reference(_value(held.ended[1])) is not None:
                    # Beside the loop: it may take a disk, or a node, some time. The nodes keep the bytes for a while.
                    threading.Thread(target=held.take_along, name="raftoral-nb-held-result", daemon=True).start()
            case WorkflowStarted(run_id=run_id) | RunDeleted(run_id=run_id):
                held = self._held.get(run_id)
                if held is not None:
                    held.ended = None

    def skipped(self, state: State) -> None:
        """Look for runs that ended in entries which a state has replaced."""
        for held in list(self._held.values()):
            self._look(held, state)

    def ended(self, run_id: RunId) -> bytes | Failure | None:
        """Return how a run ended that somebody holds; None if that is not known. From any thread."""
        held = self._held.get(run_id)
        return None if held is None or held.ended is None else held.ended[1]

    def _end(self, run_id: RunId, status: RunStatus, found: bytes | Failure) -> None:
        held = self._held.get(run_id)
        if held is not None:
            held.ended = (status, found)

    @staticmethod
    def _look(held: HeldRun, state: State) -> None:
        # A state may be older than what was told: that a run has not ended in it says nothing.
        record = state.runs.get(held.run_id)
        found = ending(record)
        if record is not None and found is not None:
            held.ended = (record.status, found)


def not_found(state: State, run_id: RunId) -> RunNotFoundError:
    """Return the error for a run that is not known, and say why it is not."""
    reason = retention.gone(state, run_id)
    if run_id in state.evicted:
        reason += ": cluster.set_retention(keep_runs=..., keep_bytes=...) keeps more of them"
    elif run_id not in state.deleted:
        reason += ": it was never started, or its records were evicted"
    return RunNotFoundError(reason)

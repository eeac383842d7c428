"""The progress of a run, read off one of its replicated variables: as numbers, as a line of text, and followed as it changes.

A workflow says how far it is with a variable (`epoch = await ctx.var("epoch", 0)`), which is recorded and the same on every
node; so a bar survives leaders and kernels, as the variable does. (`ctx.progress` is for what happens inside a step.)
"""

from __future__ import annotations

import math
import numbers
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from ..core.cluster_events import NodeChanged
from ..core.events import (
    CheckpointSet,
    RunPaused,
    RunResumed,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowTerminated,
)
from ..core.records import RunId
from ..core.statistics import RunStatus
from ..core.step_ids import check_key
from ..errors import BadArgumentError, ClusterError, RunNotFoundError
from ..hosts.variable_waits import VARIABLES
from ..threads.loop_thread import refuse_on_own_thread
from ..workflow.codec import values
from . import run_requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.events import ClusterEvent
    from ..hosts.backend_parts import RunsBackend


BAR_CELLS: Final = 20
"""The length of a bar of text, in characters."""
MOST_LOOKS: Final = 10.0
"""The most times a bar of text is drawn in a second."""
MOST_LINES: Final = 1.0
"""The most times a second where each bar is a line of its own: in a file, or in a log."""


class ProgressLook(msgspec.Struct, frozen=True):
    """The progress of a run at one moment. `str()` of it is one line: `training-1 epoch ██████░░░░ 3 of 5`."""

    run_id: RunId
    variable: str
    status: RunStatus
    fraction: float | None
    """A number from 0 to 1; None if the value does not tell."""
    words: str
    """`3 of 5`, `60 %`, the value itself, or `no value yet`; shortened."""
    stopped: bool = False
    """True if the cluster has stopped: this is the last look, though the run has not ended."""

    @property
    def ended(self) -> bool:
        """True if the run has ended: this is the last look."""
        return self.status not in ("running", "paused")

    @property
    def note(self) -> str:
        """The status of the run, if worth a word: `paused`, `failed` and the like; nothing while it runs, or when it is completed."""
        if self.stopped and not self.ended:
            return "the cluster has stopped"
        return "" if self.status in ("running", "completed") else self.status

    def __str__(self) -> str:
        full = 0 if self.fraction is None else int(self.fraction * BAR_CELLS)
        bar = "" if self.fraction is None else "█" * full + "░" * (BAR_CELLS - full)
        note = f"({self.note})" if self.note else ""
        return " ".join(part for part in (f"{self.run_id} {self.variable}", bar, self.words, note) if part)


class Progress:
    """The progress of one run; made by `run.progress(...)`. Handles are cheap and hold no resources."""

    def __init__(self, host: RunsBackend, run_id: RunId, variable: str, total: float | str | None) -> None:
        check_key(variable)
        given: object = total
        if isinstance(given, str):
            check_key(given)
        elif given is not None and (_number(given) is None or not _number(given)):
            raise BadArgumentError(
                f"the total is a number over 0, or the name of a variable that holds it, not {total!r}"
            )
        self._host = host
        self._run_id = run_id
        self._variable = variable
        self._total = total
        self._stopped = False

    @property
    def variable(self) -> str:
        """The key of the variable that it follows."""
        return self._variable

    def now(self) -> ProgressLook:
        """Return how far the run is, as the most advanced living node knows it. Raises `RunNotFoundError`."""
        run = self._host.run_record(self._run_id)
        asked = {self._variable} | ({self._total} if isinstance(self._total, str) else set())
        found: dict[str, Any] = {}
        # From the end, as the latest counts. The list grows meanwhile, and that does not matter.
        for step in reversed(run.steps):
            if step.key in asked and step.operation in VARIABLES and step.value is not None:
                found.setdefault(step.key, step.value)
                if len(found) == len(asked):
                    break
        read = {key: self._decoded(data, key) for key, data in found.items()}
        fraction, words = _told(read, self._variable, self._total)
        stopped = self._stopped or not self._host.thread.alive
        return ProgressLook(self._run_id, self._variable, run.status, fraction, words, stopped)

    def _decoded(self, data: bytes, key: str) -> Any:
        try:
            return values.decode(data, what=f"variable {key!r} of run {self._run_id!r}")
        except Exception as problem:  # a class that is gone: the bar is drawn all the same
            return _Unreadable(f"<not shown: {type(problem).__name__}>")

    def follow(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed()` called, on the cluster's observer thread, whenever `now()` may say something else; returns what ends it.

        Also when the cluster stops. Raises `ClusterError` if it has stopped already.
        """
        asked = {self._variable, self._total}

        def told(event: ClusterEvent) -> None:
            match event:
                case NodeChanged():
                    self._stopped = True
                    changed()
                case CheckpointSet(step=step):
                    if step.operation in VARIABLES and step.key in asked:
                        changed()
                case _ if isinstance(event, _CHANGES):
                    changed()

        return run_requests.subscribe(self._host, self._run_id, told)

    def show(self, file: TextIO | None = None) -> ProgressLook:
        """Draw a bar of text to `file` (else to stderr) as the run advances, and return how far it was when it ended.

        In a terminal it is one line that changes, elsewhere a line at most every second. Blocks until the run or the cluster
        ends; what the run returned, or raised, is not told here. Raises `RunNotFoundError`, and `BlockingCallError` on one of
        the cluster's own threads.
        """
        refuse_on_own_thread("progress.show()")
        out = sys.stderr if file is None else file
        terminal = out.isatty()
        pause = 1.0 / (MOST_LOOKS if terminal else MOST_LINES)
        changed = threading.Event()
        ended = threading.Event()
        look = self.now()
        width = 0
        try:
            unsubscribe = self.follow(changed.set)
        except ClusterError:
            print(look, file=out, flush=True)
            return look

        def end(_: object) -> None:
            ended.set()
            changed.set()

        forget = self._host.when_ended(self._run_id, end)
        try:
            while True:
                last = ended.is_set()
                changed.clear()
                look, before = self._again(look), look
                line = str(look)
                if terminal:
                    out.write(f"\r{line:<{width}}" + ("\n" if last else ""))
                    width = len(line)
                elif last or not width or look != before:
                    width = 1
                    out.write(f"{line}\n")
                out.flush()
                if last:
                    return look
                drawn = time.monotonic()
                changed.wait()
                # What follows soon is drawn together; the end is not waited for.
                ended.wait(max(0.0, drawn + pause - time.monotonic()))
        finally:
            forget()
            unsubscribe()

    def _again(self, before: ProgressLook) -> ProgressLook:
        try:
            return self.now()
        except RunNotFoundError:  # its records were evicted meanwhile
            return before

    def __repr__(self) -> str:
        try:
            return str(self.now())
        except RunNotFoundError:
            return f"{self._run_id} {self._variable} (unknown)"


_CHANGES: Final = (
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowCancelled,
    WorkflowTerminated,
    WorkflowContinued,
    RunPaused,
    RunResumed,
)
"""Events after which it is another look, besides records of the variables."""


class _Unreadable(str):
    """A placeholder for a value that cannot be decoded here."""

    __slots__ = ()


def _number(value: object) -> float | None:
    """Return a finite number that is not negative; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _told(read: dict[str, Any], variable: str, total: float | str | None) -> tuple[float | None, str]:
    if variable not in read:
        return None, "no value yet"
    value, whole = read[variable], read.get(total) if isinstance(total, str) else total
    if whole is None and isinstance(value, tuple | list) and len(value) == 2:
        value, whole = value
    done, of = _number(value), _number(whole)
    if isinstance(value, _Unreadable):
        return None, str(value)
    if done is None:
        return None, values.shorten(value)
    if of:
        return min(1.0, done / of), f"{_plain(done)} of {_plain(of)}"
    if total is None and not isinstance(value, int) and done <= 1:
        return done, f"{100 * done:.0f} %"
    return None, _plain(done)


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:,.6g}"

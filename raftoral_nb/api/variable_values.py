"""Waiting, from outside, until a replicated variable of a run has a value that is wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio

from ..core.records import RunId
from ..core.step_ids import check_key
from ..errors import CompletionTimeoutError, RaftoralError, RunEndedError
from ..hosts.variable_waits import LookedAt, values_behind
from ..threads.user_loop import current_poster, wait_for
from ..workflow.codec import values

if TYPE_CHECKING:
    from ..hosts.backend_parts import RunEnding, RunsBackend


class VariableWait:
    """One wait for a value. `wanted` is a function of a value, or the value itself."""

    def __init__(self, host: RunsBackend, run_id: RunId, variable: str, wanted: object, longest: float | None) -> None:
        check_key(variable)
        self._host = host
        self._run_id = run_id
        self._variable = variable
        self._wanted: Callable[[Any], Any] = wanted if callable(wanted) else lambda value: value == wanted
        self._longest = longest
        self._until = None if longest is None else time.monotonic() + longest
        self._place: LookedAt | None = None
        self._ending: RunEnding | None = None
        self._value: Any = None
        self._has_value = False

    def block(self) -> Any:
        """Wait, and return the value. Raises as `WorkflowRun.wait_for` does."""
        while not self._found():
            changed = threading.Event()
            forget = self._watch(changed.set)
            try:
                if not changed.wait(self._left()):
                    raise self._too_late()
            finally:
                forget()
        return self._value

    async def wait(self) -> Any:
        """Do the same, and let the caller's loop run meanwhile."""
        while not self._found():
            changed = anyio.Event()
            post = current_poster()
            forget = self._watch(lambda post=post, changed=changed: post(changed.set))  # type: ignore[misc]
            try:
                with anyio.move_on_after(self._left()):
                    await wait_for(changed)
                if not changed.is_set():
                    raise self._too_late()
            finally:
                forget()
        return self._value

    def _watch(self, changed: Callable[[], object]) -> Callable[[], None]:
        def told(ending: RunEnding | None) -> None:
            self._ending = ending
            changed()

        assert self._place is not None  # it was looked
        return self._host.when_set(self._run_id, self._variable, self._place, told)

    def _left(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def _found(self) -> bool:
        """Look at the values that were recorded since the last look (at first, at the present one)."""
        if isinstance(self._ending, RaftoralError):
            raise self._ending
        first = self._place is None
        run = self._host.run_record(self._run_id)
        ended = not run.unfinished  # before the records, which are complete then
        new, self._place = values_behind(run, self._variable, self._place)
        for data in new[-1:] if first else new:
            self._value = values.hand_back(data, what=f"variable {self._variable!r} of run {self._run_id!r}")
            self._has_value = True
            if self._wanted(self._value):
                return True
        if ended:
            raise RunEndedError(f"run {self._run_id!r} has ended ({run.status}), and {self._words}")
        return False

    @property
    def _words(self) -> str:
        what = f"its variable {self._variable!r}"
        if not self._has_value:
            return f"{what} was never recorded"
        return f"{what} never was what was waited for: it is {values.shorten(self._value)}"

    def _too_late(self) -> CompletionTimeoutError:
        return CompletionTimeoutError(
            f"waited {self._longest:g} s for run {self._run_id!r}, which continues, and {self._words}"
        )

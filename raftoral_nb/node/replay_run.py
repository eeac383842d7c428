"""Replays a recorded run against code, without effects: does the code still ask for what is recorded?

The engine's own executor does it, as that of a follower that never acts: it gets the whole record and nothing else, on a
virtual clock. Where nothing is recorded it waits, and that is the end of the replay. No step's function runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ..core.blob_refs import BlobRef
from ..core.cluster_events import OutputLine
from ..core.commands import Command, Outcome
from ..core.events import ClusterEvent
from ..core.held_keys import HeldKey
from ..core.records import CachedStep, Definition, Difference, MoveRecord, RunId, StepId, StepState
from ..core.run_record import Run
from ..core.state import State
from ..core.statistics import STUCK
from ..errors import NonDeterminismError, UnreadableError
from ..limits import MAX_VALUE_BYTES
from ..threads.step_threads import InlineSteps
from ..virtual_time.clock import VirtualClockLoop
from ..virtual_time.nested_loop import without_outer_loop
from ..workflow.execution.large_values import HeldStore
from .captured_output import capture
from .executor import Executor
from .hand_over import difference

MAX_REPLAY_JUMPS: Final = 100_000
"""The number of times that the clock may move in a replay: code that waits in a loop of its own would never come to
rest.
"""


class Replayed(msgspec.Struct, frozen=True):
    """A replay in which nothing differed: how many steps were recorded and asked for again, and whether the run had ended."""

    run_id: RunId
    workflow: str
    version: int
    steps: int
    ended: bool


class _Loop(VirtualClockLoop):
    """A loop that stops when nothing is left to do."""

    jumps = 0

    def _find_work(self, due: float | None) -> bool:
        self.jumps += 1
        if due is None or self.jumps > MAX_REPLAY_JUMPS:
            self.stop()
            return True
        return False


class _Alone:
    """The environment of an executor alone, without a cluster (`executor.ExecutorEnv`)."""

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop

    def propose(self, command: Command, timeout: float, done: Callable[[Outcome], None]) -> None:
        """Refuse to propose: it never acts."""

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        """Call it soon."""
        self._loop.call_soon(fn, *args)

    def arm(self, seconds: float, callback: Callable[[], None]) -> None:
        """Do nothing: there is no watchdog."""

    def tell(self, event: ClusterEvent) -> None:
        """Do nothing: there are no observers."""

    def write(self, line: OutputLine) -> None:
        """Drop output: it was printed before."""

    def yield_leadership(self) -> None:
        """Do nothing: it has no leadership."""

    def holds_blob(self, digest: str) -> bool:  # noqa: ARG002 - a replay reads what this process has
        """Return True: what is not in this process is told when it is read."""
        return True

    def fetch_blob(self, ref: BlobRef, ready: Callable[[], None]) -> None:
        """Do nothing: there is no other node."""

    @property
    def max_value_bytes(self) -> int:
        """See `HoldingNode`: it records nothing."""
        return MAX_VALUE_BYTES

    def bring_held(self, key: HeldKey, done: Callable[[bytes | None], None]) -> None:
        """Do nothing: it holds nothing."""

    def drop_held(self, drop: Callable[[HeldStore], object]) -> None:
        """Do nothing: it holds nothing."""

    def definition(self, workflow: str, version: int | None) -> Definition | None:
        """Return None: it starts nothing."""

    def step_state(self, run_id: RunId, step_id: StepId) -> StepState | None:
        """Return None: it runs no step."""

    def cached_step(self, key: str) -> CachedStep | None:
        """Return None: it runs no step."""


def replay_run(run: Run, definition: Definition | None = None) -> Replayed:
    """Replay a recorded run against its own code, or that of `definition`. Blocks; runs the workflow here, but no step.

    Raises `NonDeterminismError` with the first difference: the code asks for another step than the one recorded, computes
    another value or result, or does not ask for a recorded step. Not promised: that code which fits does the same from here
    on, nor that functions of steps are the same.
    """
    if definition is not None:
        # As a move would leave it: gates that it has not passed yet lie behind the move.
        moved = MoveRecord(definition.version, run.time)
        run = msgspec.structs.replace(run, definition=definition, records=[*run.records, moved])
    recorded = State()
    recorded.runs[run.run_id] = run
    loop = _Loop()
    loop.set_exception_handler(lambda loop, context: None)
    executor = Executor(0, _Alone(loop), InlineSteps(), loop.time, loop.time)
    capture.install()
    try:
        with without_outer_loop():
            main = loop.create_task(executor.main())
            executor.hand_over(tuple(difference(State(), recorded)))
            loop.run_forever()
            found = _difference(executor, run)
            unreadable = _is_unreadable(executor, run)
            executor.closed = True
            main.cancel()
            loop.run_forever()
    finally:
        capture.uninstall()
        with contextlib.suppress(RuntimeError):
            loop.close()
    if found is not None and unreadable:
        raise UnreadableError(f"the history of run {run.run_id!r} cannot be replayed: {found.reason}")
    if found is not None:
        which = f"{run.definition.workflow!r} version {run.definition.version}"
        raise NonDeterminismError(f"workflow {which} does not fit what is recorded of run {run.run_id!r}", found)
    return Replayed(run.run_id, run.definition.workflow, run.definition.version, len(run.steps), not run.unfinished)


def _is_unreadable(executor: Executor, run: Run) -> bool:
    execution = executor.execution(run.run_id)
    return execution is not None and execution.status == "unreadable"


def _difference(executor: Executor, run: Run) -> Difference | None:
    execution = executor.execution(run.run_id)
    assert execution is not None
    if execution.status in STUCK:
        return execution.difference or Difference(execution.reason)
    return None

"""The environment of an execution: what it needs of its executor."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...core.commands import Command, Outcome
from ...core.records import NodeId, RunId, StepId
from ..codec.classes import Known
from .alarms import Alarms
from .elsewhere import StepsElsewhere
from .large_values import LargeValues

if TYPE_CHECKING:
    from ...core.blob_refs import BlobRef
    from ...core.cluster_events import MessageTaken, StepProgress, StepRetrying, ValueHeld
    from ...core.records import CachedStep, StepState
    from ...threads.step_threads import Steps


FINAL_REFUSALS: Final = frozenset(
    {"stale_epoch", "stale_assignment", "stale_generation", "stale_version", "already_recorded", "run_ended"}
)
"""Refusals after which a record, an epoch or the run's end is on its way to us."""


class Once:
    """A filter that says each text once."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        """Say it, unless it was said before."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)


class LoadedWorkflow(Protocol):
    """A node's copy of a workflow."""

    @property
    def function(self) -> Callable[..., Any]:
        """The function of the workflow."""
        ...

    @property
    def classes(self) -> Known:
        """The classes that its code knows."""
        ...


class ExecutionEnv(Protocol):
    """The environment of an execution: what it needs of its executor."""

    node: NodeId
    acting: int | None
    steps: Steps
    timers: Alarms
    """On a clock that only goes forward: for waits that begin and end here."""
    alarms: Alarms
    """On the wall clock: for times that are recorded."""
    executors: StepsElsewhere | None
    """The runners of steps that name an executor; None if those run here as all others do, which is so in tests."""
    closed: bool
    """Whether the node stops."""
    binds: bool
    """Whether steps that name a label go to a node that has it; if not, which is so in tests, labels say nothing."""
    large_values: LargeValues
    """What is larger than the cluster keeps."""

    def spawn(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `fn()` in a task of the node's own loop, in the current context."""
        ...

    def prepare(self, execution: Any) -> tuple[Coroutine[Any, Any, Any], contextvars.Context]:
        """Return what an `Execution` is to run, and the context to run it in. Raises `UnreadableError`."""
        ...

    def wall_clock(self) -> float:
        """Return the time of day by this node's clock, in Unix seconds."""
        ...

    def propose(self, command: Command, refused: Callable[[Outcome], None]) -> None:
        """Propose a command; `refused` is called on this loop unless it was committed."""
        ...

    def ask(self, command: Command, done: Callable[[Outcome], None]) -> None:
        """Propose a command; `done(outcome)` is called once, on another thread. From any thread."""
        ...

    def holds_blob(self, digest: str) -> bool:
        """Return whether this node has stored a blob."""
        ...

    def fetch_blob(self, ref: BlobRef, ready: Callable[[], None]) -> None:
        """Have a blob fetched from another node; `ready()` is called on the node's loop when it is here."""
        ...

    def goes_on(self, execution: Any) -> None:
        """Let an `Execution` take the turns that it could not take before."""

    def post(self, fn: Callable[[], object]) -> None:
        """Call `fn()` on the node's own loop, soon. From any thread."""
        ...

    def step_state(self, run_id: RunId, step_id: StepId) -> StepState | None:
        """Return what an attempt at an open step saved last, as far as this node has applied the log. From any thread."""
        ...

    def cached_step(self, key: str) -> CachedStep | None:
        """Return what is in the cache of steps, as far as this node has applied the log. From any thread."""
        ...

    def is_outcome(self, error: BaseException) -> bool:
        """Return whether user code raised `error` of its own accord.

        If so, this task is neither being cancelled nor dropped.
        """
        ...

    def step_function(self, run_id: RunId, step_id: StepId, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function to run for a step whose function is `fn`."""
        ...

    def workflow(self, workflow: str, version: int | None) -> LoadedWorkflow | None:
        """Return this node's copy of a registered workflow; None if there is none, or it cannot be loaded here."""
        ...

    def effect_started(self, run_id: RunId, step_id: StepId) -> None:
        """Count and tell that a step's function begins to run here."""
        ...

    def tell(self, event: MessageTaken | StepRetrying | StepProgress | ValueHeld) -> None:
        """Publish an event. From any thread."""
        ...

    def say(self, run_id: RunId, text: str) -> None:
        """Write a line of the engine's own into the run's log."""
        ...

    def broke(self, execution: Any, what: str, error: BaseException) -> None:
        """Log a bug of ours, found in an `Execution` while doing `what`."""
        ...

    def execution_stopped(self, execution: Any, reason: str) -> None:
        """Tell that an `Execution` ended otherwise than its run did."""
        ...

    def execution_done(self, execution: Any) -> None:
        """Note that an `Execution` runs no code any more, however it ended."""
        ...

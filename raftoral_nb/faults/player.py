"""The player of a scenario: a thread that waits for each step's condition, and does the step."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from ..core.cluster_events import EffectStarted, RoleChanged, ScenarioChanged
from ..core.events import CheckpointSet, ClusterEvent, WorkflowCompleted, WorkflowFailed
from ..core.records import NodeId
from ..errors import ClusterError, CompletionTimeoutError, RaftoralError, ScenarioError
from ..threads.loop_thread import refuse_on_own_thread
from ..threads.seconds import Seconds, patience
from .fault_lines import FaultTarget, cause
from .scenario import Scenario, ScenarioStep, steps_awaited

if TYPE_CHECKING:
    from ..hosts.backend_parts import ScenarioBackend

logger = logging.getLogger(__name__)

CONDITION_SECONDS: Final = 60.0
"""The time a step waits for its condition before the scenario fails (seconds)."""

PlayStatus = Literal["running", "completed", "stopped", "failed"]


class _Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The play was stopped."""


class PlayedOn(FaultTarget, Protocol):
    """The cluster that a scenario is played on: a `Cluster`."""

    @property
    def running(self) -> bool:
        """True if it was started and not stopped."""


class ScenarioPlay:
    """A scenario being played, on a thread of its own. What it did is in `lines`, and each step is an event.

    It ends by itself, by `stop`, or with the cluster. What it broke and did not mend stays broken: `cluster.heal()`.
    """

    def __init__(self, cluster: PlayedOn, host: ScenarioBackend, scenario: Scenario) -> None:
        self.scenario = scenario
        self._cluster = cluster
        self._host = host
        self._lines: list[str] = []
        self._change = threading.Condition()
        self._status: PlayStatus = "running"
        self._error: ScenarioError | None = None
        self._done = threading.Event()
        self._halted = False
        self._former: NodeId | None = None
        # Both belong to the consensus loop.
        self._events: asyncio.Queue[ClusterEvent] = asyncio.Queue()
        self._halt: asyncio.Event = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name=f"{host.name}-scenario", daemon=True)

    def start(self) -> ScenarioPlay:
        """Begin. Called once, by the cluster."""
        self._thread.start()
        return self

    @property
    def status(self) -> PlayStatus:
        """The status of the play."""
        return self._status

    @property
    def lines(self) -> tuple[str, ...]:
        """The acts so far: magic lines with the numbers of the nodes, and what was said, as comments."""
        return tuple(self._lines)

    def wait(self, timeout: Seconds | None = None) -> tuple[str, ...]:
        """Wait until it has ended, and return `lines`.

        Raises `ScenarioError` if it failed, which says at which step and why, and `CompletionTimeoutError` if it has not ended
        within `timeout` seconds, or a `timedelta` (it continues).
        """
        refuse_on_own_thread("play.wait()")
        longest = patience(timeout, "play.wait")
        if not self._done.wait(longest):
            raise CompletionTimeoutError(
                f"scenario {self.scenario.name} has not ended within {longest:g} s; it is still playing"
            )
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self.lines

    def __iter__(self) -> Iterator[str]:
        """Yield the lines from the first one on, each as soon as it is there, until the play has ended.

        Waits in between.
        """
        refuse_on_own_thread("iterating over a play")
        given = 0
        while True:
            with self._change:
                self._change.wait_for(lambda: len(self._lines) > given or self._done.is_set())  # noqa: B023
                new = self._lines[given:]
            if not new:
                return
            yield from new
            given += len(new)

    def halt(self) -> None:
        """Have it end before its next step, without waiting for that. Idempotent."""
        self._halted = True
        self._host.thread.post(self._halt.set)

    def stop(self, timeout: Seconds | None = 15.0) -> bool:
        """End it before its next step; False if the step it is at takes longer than `timeout` seconds (or a `timedelta`). Idempotent."""
        longest = patience(timeout, "play.stop")
        self.halt()
        if threading.current_thread() is not self._thread:
            self._thread.join(longest)
        return not self._thread.is_alive()

    def __repr__(self) -> str:
        return f"<ScenarioPlay {self.scenario.name}: {self._status}, {len(self._lines)} lines>"

    # --- on its thread

    def _main(self) -> None:
        detach = self._host.observers.attach(
            lambda event: self._host.thread.post(self._events.put_nowait, event), lambda: None
        )
        status: PlayStatus = "failed"
        text = ""
        self._tell("started", self.scenario.description)
        try:
            for number, step in enumerate(self.scenario.steps, 1):
                self._play(number, step)
            status = "completed"
        except _Stopped:
            status = "stopped"
        except ScenarioError as error:
            text, self._error = str(error), error
        except Exception as error:  # of an operating system that has no more processes, say
            logger.exception("scenario %s failed", self.scenario.name)
            text = f"scenario {self.scenario.name} failed: {type(error).__name__}: {error}"
            self._error = ScenarioError(text)
            self._error.__cause__ = error
        finally:
            detach()
            self._status = status
            self._tell(status, text)
            self._done.set()
            with self._change:
                self._change.notify_all()

    def _play(self, number: int, step: ScenarioStep) -> None:
        where = f"scenario {self.scenario.name}, step {number} ({step.what})"
        try:
            self._host.thread.run(self._on_await, step, timeout=_patience(step))
        except TimeoutError:
            hint = " Is a run unfinished? Start one." if self.scenario.needs_run else ""
            raise ScenarioError(
                f"{where} waited {CONDITION_SECONDS:g} s for {step.when!r}, which did not happen.{hint}"
            ) from None
        except ClusterError:
            raise _Stopped from None  # the cluster has stopped
        if self._halted:
            raise _Stopped
        fault = step.fault
        if fault is None:
            self._say(f"# {step.said}")
            self._tell("noted", step.said)
            return
        try:
            self._former = self._host.thread.call(self._on_begin)
            done = cause(self._cluster, fault)
        except RaftoralError as error:
            if not self._cluster.running:
                raise _Stopped from None
            raise ScenarioError(f"{where} failed: {error}") from error
        self._say(f"%raftoral {done}")
        self._tell("acted", str(done))

    def _say(self, line: str) -> None:
        with self._change:
            self._lines.append(line)
            self._change.notify_all()

    def _tell(self, change: Any, text: str) -> None:
        self._host.announce(ScenarioChanged(self.scenario.name, change, text))

    # --- on the consensus loop

    def _on_begin(self) -> NodeId | None:
        """Begin an act: what happened before it counts for no condition. Returns the leader."""
        while not self._events.empty():
            self._events.get_nowait()
        return self._host.leader

    async def _on_await(self, step: ScenarioStep) -> None:
        """Wait for what a step waits for, or until the play is stopped."""
        waiting = asyncio.ensure_future(self._on_condition(step))
        halting = asyncio.ensure_future(self._halt.wait())
        try:
            await asyncio.wait({waiting, halting}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            for task in (waiting, halting):
                task.cancel()
            with contextlib.suppress(BaseException):
                await asyncio.gather(waiting, halting, return_exceptions=True)

    async def _on_condition(self, step: ScenarioStep) -> None:
        match step.when:
            case float() as seconds:
                await asyncio.sleep(seconds)
            case "leader":
                await self._host.on_await_leader()
            case "leader changed":
                await self._host.on_await_other_leader(self._former)
            case "level":
                await self._host.on_await_level()
            case "candidate":
                await self._on_event(lambda event: isinstance(event, RoleChanged) and event.role == "candidate")
            case "step started":
                await self._on_event(lambda event: isinstance(event, EffectStarted))
            case "run ended":
                await self._on_event(lambda event: isinstance(event, WorkflowCompleted | WorkflowFailed))
            case when:
                for _ in range(steps_awaited(when)):
                    await self._on_event(lambda event: isinstance(event, CheckpointSet))

    async def _on_event(self, wanted: Callable[[ClusterEvent], bool]) -> None:
        while not wanted(await self._events.get()):
            pass


def _patience(step: ScenarioStep) -> float:
    """Return how long a step may wait (seconds)."""
    return CONDITION_SECONDS if isinstance(step.when, str) else step.when + CONDITION_SECONDS

"""Spans of runs and steps for OpenTelemetry, made from a cluster's events. Nothing happens unless it is installed and set up.

A run is one span, from its start to its end. A step whose function runs is a span below it: from the start of the function on
the node that acts to its record, so a step that was done twice has two, and the first one says that it was not recorded. Other
steps are events of the run's span. Inputs, values and results are in none of them; types, messages and tracebacks of failures are.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..core.cluster_events import EffectStarted, StepRetrying
from ..core.events import (
    CheckpointSet,
    ClusterEvent,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from ..core.records import Failure, NodeId, RunId, StepId
from ..limits import MAX_EVENTS_KEPT, MAX_RUNS_KEPT

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..hosts.observers import Observers

logger = logging.getLogger(__name__)

_FOLLOWED: Final = (
    WorkflowStarted,
    WorkflowContinued,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowCancelled,
    WorkflowTerminated,
    EffectStarted,
    StepRetrying,
    CheckpointSet,
)


@dataclass
class _OpenStep:
    """The span of a step that is not recorded yet."""

    node: NodeId
    span: Any
    retrying: bool = False
    """True if the node said that it will retry the function: the next call is then no new beginning."""


class Tracing:
    """Makes the spans of one cluster, on a thread of its own: an exporter that is slow delays nobody.

    Once `MAX_EVENTS_KEPT` events wait, those that come are not traced.
    """

    @classmethod
    def begin(cls, name: str, observers: Observers) -> Tracing | None:
        """Follows a cluster, if somebody has set up a tracer provider; else None, at the cost of a look."""
        # Whoever has set up a provider has imported this.
        if "opentelemetry.trace" not in sys.modules:
            return None
        trace: Any = sys.modules["opentelemetry.trace"]  # optional, and so not imported by name
        provider = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
            return None
        from ..core.version import __version__

        return cls(name, observers, provider.get_tracer("raftoral_nb", __version__), trace)

    def __init__(self, name: str, observers: Observers, tracer: Any, trace: Any) -> None:
        self._name = name
        self._tracer = tracer
        self._trace = trace
        self._runs: dict[RunId, Any] = {}
        self._steps: dict[tuple[RunId, StepId], _OpenStep] = {}
        # What a deposed leader says of a run may come after its end.
        self._ended: deque[RunId] = deque(maxlen=MAX_RUNS_KEPT)
        # Of the open runs. Nodes in processes of their own tell of a step's beginning by another way than of its record, and may be late.
        self._known: dict[RunId, set[StepId]] = {}
        self._queue: queue.SimpleQueue[tuple[int, ClusterEvent] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=f"{name}-tracing", daemon=True)
        self._thread.start()
        self._detach = observers.attach(self._happened, lambda: self._queue.put(None))

    def end(self, timeout: float) -> bool:
        """Ends what is open and the thread; False if an exporter keeps it for more than `timeout` seconds. Idempotent."""
        self._detach()
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _happened(self, event: ClusterEvent) -> None:
        """Take an event. Runs wherever it is published, and must not wait."""
        if isinstance(event, _FOLLOWED) and self._queue.qsize() < MAX_EVENTS_KEPT:
            self._queue.put((time.time_ns(), event))

    def _main(self) -> None:
        while (item := self._queue.get()) is not None:
            self._guarded(self._follow, *item)
        now = time.time_ns()
        for run_id in [*self._runs]:
            self._guarded(self._end_stopped, run_id, now)

    def _guarded(self, follow: Callable[..., None], *about: Any) -> None:
        """Span processors are somebody else's code, and what they raise must not end the spans of everything else."""
        try:
            follow(*about)
        except Exception:
            logger.exception("%s: a span could not be made", self._name)

    def _end_stopped(self, run_id: RunId, now: int) -> None:
        self._end_run(run_id, now, "the cluster stopped", failed=False)

    def _follow(self, at: int, event: ClusterEvent) -> None:
        match event:
            case WorkflowStarted(run_id=run_id, workflow=workflow, version=version, parent=parent):
                with contextlib.suppress(ValueError):  # the run before under this id, which is gone
                    self._ended.remove(run_id)
                self._start_run(run_id, at, workflow, version, parent)
            case EffectStarted(run_id=run_id) | CheckpointSet(run_id=run_id) if run_id in self._ended:
                pass
            case EffectStarted(node=node, run_id=run_id, step_id=step_id):
                self._start_step(run_id, step_id, node, at)
            case StepRetrying():
                self._retrying(event, at)
            case CheckpointSet(run_id=run_id, step=step):
                self._recorded(run_id, step.step_id, step.operation, step.node, step.failure, at)
            case WorkflowContinued(run_id=run_id):
                self._known.pop(run_id, None)
                self._run(run_id, at).add_event("continued as new", None, at)
            case WorkflowCompleted(run_id=run_id):
                self._end_run(run_id, at, None, failed=False)
            case WorkflowFailed(run_id=run_id, failure=failure):
                self._fail(self._run(run_id, at), failure, at)
                self._end_run(run_id, at, str(failure), failed=True)
            case WorkflowCancelled(run_id=run_id) | WorkflowTerminated(run_id=run_id):
                word = "cancelled" if isinstance(event, WorkflowCancelled) else "terminated"
                self._run(run_id, at).add_event(word, None, at)
                self._end_run(run_id, at, word, failed=True)

    # --- runs

    def _start_run(self, run_id: RunId, at: int, workflow: str, version: int, parent: RunId | None) -> Any:
        above = self._runs.get(parent) if parent is not None else None
        attributes: dict[str, str | int] = {"raftoral.cluster": self._name, "raftoral.run_id": run_id}
        if workflow:
            attributes |= {"raftoral.workflow": workflow, "raftoral.version": version}
        span = self._tracer.start_span(
            f"run {workflow or run_id}",
            context=self._context(above),
            kind=self._trace.SpanKind.INTERNAL,
            attributes=attributes,
            start_time=at,
        )
        self._runs[run_id] = span
        return span

    def _run(self, run_id: RunId, at: int) -> Any:
        """Return the span of a run; one that began before this cluster did has one from now on."""
        span = self._runs.get(run_id)
        return span if span is not None else self._start_run(run_id, at, "", 0, None)

    def _end_run(self, run_id: RunId, at: int, why: str | None, *, failed: bool) -> None:
        span = self._run(run_id, at)
        for key in [key for key in self._steps if key[0] == run_id]:
            self._abandon(key, at, why or "the run ended")
        del self._runs[run_id]
        self._known.pop(run_id, None)
        self._ended.append(run_id)
        codes = self._trace.StatusCode
        if failed:
            span.set_status(codes.ERROR, why)
        elif why is None:
            span.set_status(codes.OK)
        else:
            span.add_event(why, None, at)
        span.end(at)

    # --- steps

    def _start_step(self, run_id: RunId, step_id: StepId, node: NodeId, at: int) -> None:
        if step_id in self._known.get(run_id, ()):
            return
        key = (run_id, step_id)
        before = self._steps.get(key)
        if before is not None and before.retrying and before.node == node:
            before.retrying = False
            return
        if before is not None:
            self._abandon(key, at, f"not recorded: node {node} does it again")
        span = self._tracer.start_span(
            f"step {step_id.partition('/')[2]}",
            context=self._context(self._run(run_id, at)),
            kind=self._trace.SpanKind.INTERNAL,
            attributes={"raftoral.run_id": run_id, "raftoral.step_id": step_id, "raftoral.node": node},
            start_time=at,
        )
        self._steps[key] = _OpenStep(node, span)

    def _retrying(self, event: StepRetrying, at: int) -> None:
        step = self._steps.get((event.run_id, event.step_id))
        if step is None or step.node != event.node:
            return
        step.retrying = True
        told = {
            "raftoral.attempt": event.attempt,
            "raftoral.wait_seconds": event.seconds,
            "exception.message": event.failure,
        }
        step.span.add_event("retry", told, at)

    def _recorded(
        self, run_id: RunId, step_id: StepId, operation: str, node: NodeId, failure: Failure | None, at: int
    ) -> None:
        self._known.setdefault(run_id, set()).add(step_id)
        found = self._steps.pop((run_id, step_id), None)
        if found is None:
            attributes = {"raftoral.step_id": step_id, "raftoral.operation": operation, "raftoral.node": node}
            self._run(run_id, at).add_event("recorded", attributes, at)
            return
        by, span = found.node, found.span
        span.set_attribute("raftoral.recorded", by == node)
        if by != node:
            span.add_event(f"recorded by node {node}", None, at)
        if failure is not None:
            self._fail(span, failure, at)
            span.set_status(self._trace.StatusCode.ERROR, str(failure))
        else:
            span.set_status(self._trace.StatusCode.OK)
        span.end(at)

    def _abandon(self, key: tuple[RunId, StepId], at: int, why: str) -> None:
        span = self._steps.pop(key).span
        span.set_attribute("raftoral.recorded", False)
        span.set_status(self._trace.StatusCode.ERROR, why)
        span.end(at)

    # --- the library's words

    def _context(self, above: Any) -> Any:
        return None if above is None else self._trace.set_span_in_context(above)

    @staticmethod
    def _fail(span: Any, failure: Failure, at: int) -> None:
        """Record a failure as `Span.record_exception` does, without the exception itself: it may have been raised elsewhere."""
        attributes = {"exception.type": failure.type_name, "exception.message": failure.message}
        span.add_event("exception", {**attributes, "exception.stacktrace": failure.traceback}, at)

"""Spans of runs and steps, as an OpenTelemetry exporter gets them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from raftoral_nb import Cluster, Retry, WorkflowFailedError, WorkflowStarted, step
from raftoral_nb.cli.course import Door, Watch
from raftoral_nb.core.cluster_events import EffectStarted
from raftoral_nb.core.events import CheckpointSet, WorkflowCompleted
from raftoral_nb.core.records import Step
from raftoral_nb.hosts.observers import Observers
from raftoral_nb.observability.tracing import Tracing
from tests.tools import require_module

Spans = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Ended spans by name, in the order of their beginnings; a provider is set up for the clusters that start meanwhile."""
    sdk = require_module("opentelemetry.sdk.trace", get_it="pip install opentelemetry-sdk")
    export = require_module("opentelemetry.sdk.trace.export", get_it="pip install opentelemetry-sdk")
    memory = require_module(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter", get_it="pip install opentelemetry-sdk"
    )
    api = require_module("opentelemetry.trace", get_it="pip install opentelemetry-api")
    exporter = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    # The real one can be set once in the life of a process, and would stay for other tests.
    monkeypatch.setattr(api, "get_tracer_provider", lambda: provider)

    def ended() -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for span in sorted(exporter.get_finished_spans(), key=lambda span: span.start_time):
            found.setdefault(span.name, []).append(span)
        return found

    yield ended
    provider.shutdown()


async def greet(ctx: Any, name: str) -> str:
    await ctx.var("asked", name)
    greeting: str = await ctx.compute("greeting", str.upper, f"hello {name}")
    return greeting


def test_a_run_is_a_span_and_a_step_one_below_it_on_the_node_that_executed_it(spans: Spans) -> None:
    with Cluster(3, network="memory") as cluster:
        leader = cluster.leader
        cluster.start_workflow(greet, "world", run_id="hello").wait_for_completion(timeout=30)
    (run,) = spans()["run greet"]
    (step_span,) = spans()["step greeting"]  # three nodes execute the run, and one the step
    assert step_span.attributes == {
        "raftoral.run_id": "hello",
        "raftoral.step_id": "1/greeting",
        "raftoral.node": leader,
        "raftoral.recorded": True,
    }
    assert step_span.parent.span_id == run.context.span_id
    assert run.start_time <= step_span.start_time <= step_span.end_time <= run.end_time
    assert (run.attributes["raftoral.workflow"], run.attributes["raftoral.version"]) == ("greet", 1)
    assert [(event.name, event.attributes["raftoral.step_id"]) for event in run.events] == [("recorded", "0/asked")]
    assert {span.status.status_code.name for span in (run, step_span)} == {"OK"}
    assert "world" not in str([span.to_json() for span in (run, step_span)]).lower()


def test_the_next_run_of_a_deleted_runs_id_has_spans_of_its_own(spans: Spans) -> None:
    with Cluster(1, network="memory") as cluster:
        for name in ("world", "moon"):
            run = cluster.start_workflow(greet, name, run_id="hello")
            run.wait_for_completion(timeout=30)
            run.delete()
    runs, steps = spans()["run greet"], spans()["step greeting"]
    assert [one.parent.span_id for one in steps] == [run.context.span_id for run in runs]
    assert len(runs) == 2


def test_a_step_that_died_with_its_leader_has_a_span_that_says_so_and_another_one(spans: Spans) -> None:
    door = Door()

    async def order(ctx: Any, _: None) -> None:
        await ctx.compute("charge", door.wait)

    with Cluster(3, network="memory") as cluster:
        run = cluster.start_workflow(order)
        door.await_arrival()
        killed = cluster.kill("leader")
        door.await_arrival(2)
        door.open()
        run.wait_for_completion(timeout=30)
    first, second = spans()["step charge"]
    assert (first.attributes["raftoral.node"], first.attributes["raftoral.recorded"]) == (killed, False)
    assert first.status.status_code.name == "ERROR"
    assert "not recorded" in first.status.description
    assert second.attributes["raftoral.node"] != killed
    assert second.attributes["raftoral.recorded"] is True


def test_failures_and_attempts_are_on_the_spans(spans: Spans) -> None:
    @step(retry=Retry(attempts=2, first_wait=0.001))
    def divide(number: int) -> float:
        return 1 / number

    async def broken(ctx: Any, number: int) -> float:
        return await divide(number)

    with Cluster(1, network="memory") as cluster, pytest.raises(WorkflowFailedError):
        cluster.start_workflow(broken, 0).wait_for_completion(timeout=30)
    (run,) = spans()["run broken"]
    (step_span,) = spans()["step divide"]
    assert [event.name for event in step_span.events] == ["retry", "exception"]
    assert step_span.events[1].attributes["exception.type"] == "ZeroDivisionError"
    assert {span.status.status_code.name for span in (run, step_span)} == {"ERROR"}
    assert "division by zero" in run.status.description


def test_a_run_that_has_not_ended_with_its_cluster_has_a_span_without_a_verdict(spans: Spans) -> None:
    async def patient(ctx: Any, _: None) -> None:
        await ctx.receive("never")

    with Cluster(1, network="memory") as cluster:
        cluster.start_workflow(patient)
    (run,) = spans()["run patient"]
    assert run.status.status_code.name == "UNSET"
    assert run.events[-1].name == "the cluster stopped"


def test_a_child_is_below_its_parent_and_a_cancelled_run_says_so(spans: Spans) -> None:
    async def child(ctx: Any, _: None) -> None:
        await ctx.receive("never")

    async def parent(ctx: Any, _: None) -> None:
        await ctx.run_child("child", None)

    with Cluster(1, network="memory") as cluster:
        cluster.register_workflow(child)
        with Watch(cluster) as watch:
            run = cluster.start_workflow(parent)
            watch.wait_for(WorkflowStarted, workflow="child")
        run.terminate("enough")
    (above,) = spans()["run parent"]
    (below,) = spans()["run child"]
    assert below.parent.span_id == above.context.span_id
    assert above.status.description == "terminated"


def test_a_step_whose_beginning_is_told_after_its_record_is_not_taken_for_one_that_was_not_recorded(
    spans: Spans,
) -> None:
    told = Observers("late")
    tracing = Tracing.begin("late", told)
    assert tracing is not None
    done = Step(step_id="1/tea", operation="compute", value=b"", failure=None, node=1, epoch=1)
    told.publish(WorkflowStarted("one", "order", 1))
    told.publish(CheckpointSet("one", done))
    told.publish(EffectStarted(1, "one", "1/tea"))  # by way of a node's event log
    told.publish(WorkflowCompleted("one", b""))
    assert tracing.end(20)
    told.close(20)
    (run,) = spans()["run order"]
    assert [event.name for event in run.events] == ["recorded"]
    assert "step tea" not in spans()


def test_a_span_processor_that_raises_costs_only_the_span_that_it_raised_at(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    told = Observers("raising")
    tracing = Tracing.begin("raising", told)
    assert tracing is not None
    real = tracing._tracer.start_span

    def raising(name: str, **more: Any) -> Any:
        if name == "run bad":
            raise RuntimeError("no span of this one")
        return real(name, **more)

    tracing._tracer = SimpleNamespace(start_span=raising)
    told.publish(WorkflowStarted("one", "bad", 1))
    told.publish(WorkflowStarted("two", "good", 1))
    told.publish(WorkflowCompleted("two", b""))
    assert tracing.end(20)
    told.close(20)
    assert list(spans()) == ["run good"]
    assert "a span could not be made" in caplog.text


def test_without_a_provider_nothing_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    with Cluster(1, network="memory"):
        assert [thread.name for thread in threading.enumerate() if thread.name.endswith("-tracing")] == []

"""Executors of others: what is made when, what comes back, and what a broken one costs."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import Cluster, Retry, StepTimeoutError, UnknownExecutorError, WorkerDiedError, current_step, step
from tests.cluster.helpers import PATIENCE, gate, note, notes


@pytest.fixture(autouse=True, scope="module")
def tracker_of_this_process() -> None:
    """The process that Python keeps for pools is there before the first test looks at what it leaves behind."""
    resource_tracker.ensure_running()


def threads() -> ThreadPoolExecutor:
    note("made")
    return ThreadPoolExecutor(2, thread_name_prefix="theirs")


def spawned() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def ran(cluster: Cluster, fn: Callable[..., Any], on: str, *args: Any, **options: Any) -> Any:
    """What a workflow of one step on an executor returns."""

    async def flow(ctx: Any, given: Any) -> Any:
        return await ctx.compute("it", step(fn, on=on, **options), *given)

    return cluster.start_workflow(flow, args).wait_for_completion(PATIENCE)


def error_of(cluster: Cluster, fn: Callable[..., Any], on: str, *args: Any, **options: Any) -> Any:
    """What the same raises in the workflow."""

    async def flow(ctx: Any, given: Any) -> Any:
        try:
            await ctx.compute("it", step(fn, on=on, **options), *given)
        except Exception as error:
            return error

    return cluster.start_workflow(flow, args).wait_for_completion(PATIENCE)


def test_one_is_made_by_the_node_that_asks_when_it_first_asks() -> None:
    def name() -> str:
        return threading.current_thread().name

    with Cluster(3, executors={"pool": threads}) as cluster:
        assert notes() == []
        assert ran(cluster, name, "pool").startswith("theirs")
        assert ran(cluster, name, "pool").startswith("theirs")
        assert notes() == ["made"]


def test_what_is_printed_comes_with_the_outcome_and_the_step_knows_which_one_it_is() -> None:
    def speak(_: int) -> str:
        print("spoken")
        current_step().progress(0.5)
        return current_step().idempotency_key

    with Cluster(1, executors={"pool": threads, "spawned": spawned}) as cluster:
        for on in ("pool", "spawned"):
            key = ran(cluster, speak, on, 1)
            assert [line.text for line in cluster.log(key.partition("/")[0])] == ["spoken"]


def test_exceptions_of_the_workflows_classes_come_back() -> None:
    class OddError(Exception):
        def __init__(self, *, x: int) -> None:
            super().__init__("odd")
            self.x = x

    def fail() -> None:
        raise OddError(x=3)

    async def flow(ctx: Any, _: None) -> Any:
        try:
            await ctx.compute("fail", step(fail, on="spawned"))
        except OddError as error:
            return error.x

    with Cluster(1, executors={"spawned": spawned}) as cluster:
        assert cluster.start_workflow(flow).wait_for_completion(PATIENCE) == 3


def dies_once(folder: str) -> int:
    try:
        Path(folder, "died").touch(exist_ok=False)
    except FileExistsError:
        return current_step().attempt
    os._exit(3)


def test_a_broken_pool_fails_the_attempt_and_is_made_anew_for_the_next(tmp_path: Path) -> None:
    with Cluster(1, executors={"spawned": spawned}) as cluster:
        retry = Retry(attempts=2, first_wait=0.0)
        assert ran(cluster, dies_once, "spawned", str(tmp_path), retry=retry) == 2
        (tmp_path / "died").unlink()
        assert isinstance(error_of(cluster, dies_once, "spawned", str(tmp_path)), WorkerDiedError)


def test_a_late_one_goes_on_and_its_result_is_dropped() -> None:
    def late() -> None:
        gate("late").enter()
        note("ended")

    with Cluster(1, executors={"pool": threads}) as cluster:
        assert isinstance(error_of(cluster, late, "pool", timeout=0.2), StepTimeoutError)
        assert notes() == ["made"]
        gate("late").open()


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with Cluster(1, executors={"pool": threads}) as cluster:
        error = error_of(cluster, os.getcwd, "dask")
        assert isinstance(error, UnknownExecutorError)
        assert "those there are: 'processes', 'pool'" in str(error)
        assert "did you mean" not in str(error)
        assert "did you mean 'processes'?" in str(error_of(cluster, os.getcwd, "process"))


def test_what_cannot_be_made_or_is_no_executor_is_told() -> None:
    def broken() -> Any:
        raise OSError("no such cluster")

    with Cluster(1, executors={"broken": broken, "number": lambda: 3}) as cluster:
        assert "no such cluster" in str(error_of(cluster, os.getcwd, "broken"))
        assert "made an int; it must make" in str(error_of(cluster, os.getcwd, "number"))


def test_nodes_in_processes_of_their_own_make_theirs() -> None:
    def pid() -> int:
        return os.getpid()

    def pool() -> concurrent.futures.Executor:
        return ThreadPoolExecutor(1)

    with Cluster(1, processes=True, executors={"pool": pool}) as cluster:
        node = ran(cluster, pid, "pool")
        assert node != os.getpid()
        assert ran(cluster, pid, "processes") not in (node, os.getpid())

"""Steps on Dask: a task goes on when the node dies that asked for it, or its whole kernel, and is attached to, not begun anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import (
    Cluster,
    NotAcknowledgedError,
    Retry,
    StepProgress,
    StepStateSaved,
    UnknownExecutorError,
    WorkflowCancelledError,
    current_step,
    dask_executor,
    step,
)
from raftoral_nb.hosts.remote import connect as _imported_before_dask_watches_the_garbage_collector  # noqa: F401
from tests.cluster.helpers import PATIENCE, Watch
from tests.executors.dask_cluster import DaskProcesses, dask_processes
from tests.executors.steps_elsewhere import (
    killed_and_started_again,
    lines,
    nothing_of_ours_is_left,
    one_step,
    until,
)
from tests.ports import free_ports
from tests.tools import require_module

distributed = require_module("distributed", get_it="pip install 'raftoral-nb[dask]'")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Dask keeps threads for the whole process: only what is ours is looked at."""
    yield
    nothing_of_ours_is_left(lambda name: "dask-tcp" in name)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    """A scheduler and a worker that no test ends."""
    with dask_processes(tmp_path_factory.mktemp("dask")) as running:
        yield running


def tasks_of(address: str) -> list[str]:
    """The keys that the scheduler has."""
    with distributed.Client(address, set_as_default=False) as client:
        found: list[str] = client.run_on_scheduler(lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks])
        return found


def test_values_exceptions_prints_and_progress_come_from_there(dask: DaskProcesses) -> None:
    class OddError(Exception):
        def __init__(self, *, x: int) -> None:
            super().__init__("odd")
            self.x = x

    def fit(x: int) -> tuple[int, str]:
        print("fitting")
        current_step().progress(1.0, "fitted")
        if x:
            raise OddError(x=x)
        return os.getpid(), current_step().idempotency_key

    async def flow(ctx: Any, _: None) -> Any:
        found = await ctx.compute("fit", step(fit, on="dask"), 0)
        try:
            await ctx.compute("fail", step(fit, on="dask"), 3)
        except OddError as error:
            return found, error.x

    with Cluster(1, executors={"dask": dask_executor(dask.address)}) as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(flow, run_id="r")
        (pid, key), x = run.wait_for_completion(PATIENCE)
        assert pid == dask.workers[0].pid
        assert (key, x) == ("r/0/fit", 3)
        assert watch.until(StepProgress, times=2).text == "fitted"
        assert [line.text for line in cluster.log("r")] == ["fitting", "fitting"]
    until(lambda: not tasks_of(dask.address), "tasks are kept after their records")


@pytest.mark.parametrize("moment", ["running", "done"])
@pytest.mark.parametrize("once", [False, True], ids=["at least once", "at most once"])
def test_when_the_leader_dies_the_next_one_attaches_to_the_task_and_it_ran_once(
    dask: DaskProcesses, tmp_path: Path, moment: str, once: bool
) -> None:
    with Cluster(3, executors={"dask": dask.address}) as cluster, Watch(cluster) as watch:
        leader = cluster.wait_for_leader()
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "dask", "at_most_once": once}))
        watch.until(StepProgress)
        if moment == "done":
            cluster.pause(leader)  # it does not hear of the outcome
            (tmp_path / "go").touch()
        cluster.kill(leader)
        cluster.wait_for_leader()
        # What it said before is told where it is waited for now.
        assert watch.until(StepProgress, lambda event: event.node != leader).text == "begun"
        (tmp_path / "go").touch()
        assert run.wait_for_completion(PATIENCE) == "done"
    assert len(lines(tmp_path)) == 1
    until(lambda: not tasks_of(dask.address), "tasks are kept after their records")


@pytest.mark.parametrize("once", ["once", "repeatedly"])
def test_when_the_kernel_is_killed_and_started_again_the_run_goes_on_with_the_task_that_ran_meanwhile(
    dask: DaskProcesses, tmp_path: Path, once: str
) -> None:
    assert killed_and_started_again(tmp_path, dask.address, once) == "done"
    assert lines(tmp_path) == ["r/0/write"]


def test_cancelling_a_run_has_the_scheduler_forget_its_task(dask: DaskProcesses, tmp_path: Path) -> None:
    with Cluster(1, executors={"dask": dask.address}) as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "dask"}))
        watch.until(StepProgress)
        run.cancel()
        with pytest.raises(WorkflowCancelledError):
            run.wait_for_completion(PATIENCE)
        until(lambda: not tasks_of(dask.address), "the task is kept")
        (tmp_path / "go").touch()


def test_a_late_attempt_is_forgotten_too(dask: DaskProcesses, tmp_path: Path) -> None:
    with Cluster(1, executors={"dask": dask.address}) as cluster:
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "dask", "timeout": 0.3}))
        assert run.wait_for_completion(PATIENCE) == "StepTimeoutError"
        until(lambda: not tasks_of(dask.address), "the task is kept")
        (tmp_path / "go").touch()


def test_what_runs_for_a_cluster_in_memory_ends_with_it_as_nobody_will_ask_again(
    dask: DaskProcesses, tmp_path: Path
) -> None:
    with Cluster(3, executors={"dask": dask.address}) as cluster, Watch(cluster) as watch:
        cluster.start_workflow(one_step, (str(tmp_path), {"on": "dask"}))
        watch.until(StepProgress)
    until(lambda: not tasks_of(dask.address), "the task is kept")
    (tmp_path / "go").touch()


def test_nodes_in_processes_of_their_own_use_it_too(dask: DaskProcesses) -> None:
    def pid() -> int:
        return os.getpid()

    async def flow(ctx: Any, _: None) -> Any:
        return await ctx.compute("pid", step(pid, on="dask"))

    with Cluster(1, processes=True, executors={"dask": dask.address}) as cluster:
        assert cluster.start_workflow(flow).wait_for_completion(PATIENCE) == dask.workers[0].pid


def test_runs_of_one_name_in_two_clusters_have_tasks_of_their_own(dask: DaskProcesses) -> None:
    async def flow(ctx: Any, value: int) -> Any:
        return await ctx.compute("it", step(abs, on="dask"), value)

    with (
        Cluster(1, executors={"dask": dask.address}) as one,
        Cluster(1, executors={"dask": dask.address}) as other,
    ):
        runs = [cluster.start_workflow(flow, number, run_id="r") for number, cluster in enumerate((one, other))]
        assert [run.wait_for_completion(PATIENCE) for run in runs] == [0, 1]


@pytest.mark.parametrize("once", [False, True], ids=["at least once", "at most once"])
def test_when_the_worker_dies_the_step_is_done_again_unless_it_runs_at_most_once(tmp_path: Path, once: bool) -> None:
    with (
        dask_processes(tmp_path) as dask,
        Cluster(1, executors={"dask": dask.address}) as cluster,
        Watch(cluster) as watch,
    ):
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "dask", "at_most_once": once}))
        watch.until(StepProgress)
        dask.workers[0].kill()
        dask.start_worker()
        if not once:
            until(lambda: len(lines(tmp_path)) == 2, "it was not done again")
        (tmp_path / "go").touch()
        assert run.wait_for_completion(PATIENCE) == ("OutcomeUnknown" if once else "done")
        assert len(lines(tmp_path)) == (1 if once else 2)


@pytest.mark.parametrize("once", [False, True], ids=["at least once", "at most once"])
def test_when_the_scheduler_dies_the_attempt_is_made_again_unless_it_runs_at_most_once(
    tmp_path: Path, once: bool
) -> None:
    with (
        dask_processes(tmp_path) as dask,
        Cluster(1, executors={"dask": dask.address}) as cluster,
        Watch(cluster) as watch,
    ):
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "dask", "at_most_once": once}))
        watch.until(StepProgress)
        (tmp_path / "go").touch()
        for process in (dask.scheduler, dask.workers[0]):
            process.kill()
            process.wait(PATIENCE)
        dask.start_scheduler()
        dask.start_worker()
        assert run.wait_for_completion(PATIENCE) == ("OutcomeUnknown" if once else "done")


def write_and_save(folder: str) -> Any:
    """Note what is found, save twice with a pause between, and say it each time."""
    here = current_step()
    with Path(folder, "begun").open("a") as file:
        print(here.last, file=file)
    here.checkpoint("first", every=0).wait()
    here.progress(0.5, "first")
    until(lambda: Path(folder, "second").exists(), "the test did not go on")
    here.checkpoint("second", every=0).wait()
    here.progress(1.0, "second")
    until(lambda: Path(folder, "go").exists(), "the test did not go on")
    return here.last


async def saving(ctx: Any, folder: str) -> Any:
    return await ctx.compute("save", step(write_and_save, on="dask"), folder)


def test_a_retry_continues_from_the_last_checkpoint_though_it_was_not_due(dask: DaskProcesses) -> None:
    def climb(top: int) -> Any:
        here = current_step()
        if here.has_last:
            return here.last, here.attempt
        for height in range(1, top + 1):
            here.checkpoint([height] * 200_000)
        raise OSError("slipped")

    async def flow(ctx: Any, top: int) -> Any:
        last, attempt = await ctx.compute("it", step(climb, on="dask", retry=Retry(attempts=2, first_wait=0.0)), top)
        return last == [top] * 200_000, attempt

    with Cluster(1, executors={"dask": dask.address}) as cluster:
        assert cluster.start_workflow(flow, 5).wait_for_completion(PATIENCE) == (True, 2)


def test_when_the_leader_dies_the_next_one_records_what_the_task_saves_from_then_on(
    dask: DaskProcesses, tmp_path: Path
) -> None:
    with Cluster(3, executors={"dask": dask.address}) as cluster, Watch(cluster) as watch:
        leader = cluster.wait_for_leader()
        run = cluster.start_workflow(saving, str(tmp_path))
        watch.until(StepStateSaved)
        watch.until(StepProgress)
        cluster.kill(leader)
        (tmp_path / "second").touch()
        # It waits until a majority has recorded that, which the dead node cannot bring about.
        assert watch.until(StepProgress, lambda event: event.text == "second").node != leader
        (tmp_path / "go").touch()
        assert run.wait_for_completion(PATIENCE) is None
    assert lines(tmp_path) == ["None"]


@pytest.mark.parametrize("scheduler", ["stays", "dies too"])
def test_when_the_worker_dies_its_task_continues_from_what_it_saved(tmp_path: Path, scheduler: str) -> None:
    with (
        dask_processes(tmp_path) as dask,
        Cluster(1, executors={"dask": dask.address}) as cluster,
        Watch(cluster) as watch,
    ):
        run = cluster.start_workflow(saving, str(tmp_path))
        watch.until(StepProgress)
        (tmp_path / "second").touch()
        watch.until(StepProgress, lambda event: event.text == "second")
        for process in (dask.workers[0], *([dask.scheduler] if scheduler == "dies too" else [])):
            process.kill()
            process.wait(PATIENCE)
        if scheduler == "dies too":
            dask.start_scheduler()
        dask.start_worker()
        (tmp_path / "go").touch()
        assert run.wait_for_completion(PATIENCE) == "second"
        assert lines(tmp_path) == ["None", "second"]


def test_a_task_that_nobody_waits_for_any_more_cannot_save(dask: DaskProcesses, tmp_path: Path) -> None:
    def late(folder: str) -> None:
        Path(folder, "begun").touch()
        until(lambda: Path(folder, "go").exists(), "the test did not go on")
        try:
            current_step().checkpoint(1, every=0).wait()
        except NotAcknowledgedError as error:
            Path(folder, "refused").write_text(str(error))

    async def flow(ctx: Any, folder: str) -> None:
        await ctx.compute("late", step(late, on="dask"), folder)

    with Cluster(1, executors={"dask": dask.address}) as cluster:
        run = cluster.start_workflow(flow, str(tmp_path))
        until((tmp_path / "begun").exists, "it did not begin")
        run.cancel()
        with pytest.raises(WorkflowCancelledError):
            run.wait_for_completion(PATIENCE)
        until(lambda: not tasks_of(dask.address), "the task is kept")
        (tmp_path / "go").touch()
        until((tmp_path / "refused").exists, "it was not refused")
    assert "nobody waits" in (tmp_path / "refused").read_text()


def test_where_no_scheduler_answers_the_step_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from raftoral_nb.executors import dask_adapter

    monkeypatch.setattr(dask_adapter, "CONNECT_SECONDS", 0.3)
    (port,) = free_ports(1)

    async def flow(ctx: Any, _: None) -> Any:
        try:
            await ctx.compute("it", step(abs, on="dask", retry=Retry(attempts=2, first_wait=0.0)), 3)
        except UnknownExecutorError as error:
            return str(error)

    with Cluster(1, executors={"dask": f"tcp://127.0.0.1:{port}"}) as cluster:
        said = cluster.start_workflow(flow).wait_for_completion(PATIENCE)
    assert f"the Dask scheduler at tcp://127.0.0.1:{port} cannot be used" in said

"""Steps on Ray: each attempt is an actor that outlives whoever asked for it. Run where Ray is installed; it is too large for the extra `test`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import (
    BadArgumentError,
    Cluster,
    Retry,
    StepProgress,
    StepStateSaved,
    WorkerDiedError,
    WorkflowCancelledError,
    current_step,
    ray_executor,
    step,
)
from tests.cluster.helpers import PATIENCE, Watch
from tests.executors.killed_kernel import write_and_wait
from tests.executors.ray_cluster import ray_cluster
from tests.executors.steps_elsewhere import (
    fitting,
    killed_and_started_again,
    lines,
    nothing_of_ours_is_left,
    one_step,
    until,
)

ray: Any = pytest.importorskip("ray", reason="Ray is not installed: pip install 'raftoral-nb[ray]'")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Ray keeps threads for as long as it is connected: only what is ours is looked at."""
    yield
    nothing_of_ours_is_left(lambda name: name == "ray")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ray_cluster(tmp_path_factory.mktemp("ray")) as address:
        until_connected(address)
        yield address
        ray.shutdown()


def until_connected(address: str) -> None:
    """Connect this process; adapters use that."""
    end = time.monotonic() + 2 * PATIENCE
    while True:
        try:
            ray.init(address=address, namespace="test", log_to_driver=False, configure_logging=False)
        except Exception:
            assert time.monotonic() < end, "Ray did not start"
            threading.Event().wait(0.5)
        else:
            return


def actors() -> list[str]:
    """The names of our actors."""
    return [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == "raftoral-nb"]


def test_values_exceptions_prints_progress_and_checkpoints_come_from_there(address: str) -> None:
    with Cluster(1, executors={"ray": ray_executor(address)}) as cluster, Watch(cluster) as watch:
        (pid, key, last), x = cluster.start_workflow(fitting("ray"), run_id="r").wait_for_completion(2 * PATIENCE)
        assert pid != os.getpid()
        assert (key, last, x) == ("r/0/fit", "half", 3)
        assert watch.until(StepProgress, times=4).text == "fitted"
        assert len(watch.of(StepStateSaved)) == 2
        assert [line.text for line in cluster.log("r") if line.stream == "stdout"] == ["fitting"] * 4
        until(lambda: not actors(), "actors are kept after their records")


def write_and_save(folder: str) -> str:
    here = current_step()
    with Path(folder, "begun").open("a") as file:
        print(here.last, file=file)
    here.progress(0.5, "begun")
    until(lambda: Path(folder, "go").exists(), "the test did not go on")
    here.checkpoint("later", every=0).wait()
    return "done"


@pytest.mark.parametrize("moment", ["running", "done"])
def test_when_the_leader_dies_the_next_one_attaches_and_records_what_is_saved_from_then_on(
    address: str, tmp_path: Path, moment: str
) -> None:
    fn = write_and_save if moment == "running" else write_and_wait

    async def flow(ctx: Any, folder: str) -> Any:
        return await ctx.compute("write", step(fn, on="ray"), folder)

    with Cluster(3, executors={"ray": ray_executor(address)}) as cluster, Watch(cluster) as watch:
        leader = cluster.wait_for_leader()
        run = cluster.start_workflow(flow, str(tmp_path))
        watch.until(StepProgress)
        if moment == "done":
            cluster.pause(leader)  # it does not hear of the outcome
            (tmp_path / "go").touch()
        cluster.kill(leader)
        assert watch.until(StepProgress, lambda event: event.node != leader).text == "begun"
        (tmp_path / "go").touch()
        assert run.wait_for_completion(PATIENCE) == "done"
        assert len(watch.of(StepStateSaved)) == (1 if moment == "running" else 0)
        until(lambda: not actors(), "actors are kept after their records")
    assert len(lines(tmp_path)) == 1


def test_when_the_kernel_is_killed_and_started_again_the_run_goes_on_with_the_task_that_ran_meanwhile(
    address: str, tmp_path: Path
) -> None:
    assert killed_and_started_again(tmp_path, f"ray:{address}") == "done"
    assert lines(tmp_path) == ["r/0/write"]


def test_one_that_runs_at_most_once_is_not_tried_again(address: str, tmp_path: Path) -> None:
    with Cluster(3, executors={"ray": ray_executor(address)}) as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "ray", "at_most_once": True}))
        watch.until(StepProgress)
        cluster.kill(cluster.wait_for_leader())
        assert run.wait_for_completion(PATIENCE) == "OutcomeUnknown"
    assert len(lines(tmp_path)) == 1
    for name in actors():
        ray.kill(ray.get_actor(name, namespace="raftoral-nb"))
    until(lambda: not actors(), "the test's actor is kept")


@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_a_task_that_was_given_up_is_ended(address: str, tmp_path: Path, how: str) -> None:
    with Cluster(1, executors={"ray": ray_executor(address)}) as cluster, Watch(cluster) as watch:
        late = {"timeout": 8} if how == "late" else {}
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "ray", **late}))
        watch.until(StepProgress)
        if how == "cancelled":
            run.cancel()
            with pytest.raises(WorkflowCancelledError):
                run.wait_for_completion(PATIENCE)
        else:
            assert run.wait_for_completion(PATIENCE) == "StepTimeoutError"
        until(lambda: not actors(), "the actor is kept")


def test_the_death_of_a_worker_fails_that_attempt_and_the_next_continues_from_its_checkpoint(address: str) -> None:
    def dies(_: None) -> Any:
        here = current_step()
        if here.has_last:
            return here.last
        here.checkpoint("before", every=0).wait()
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    async def flow(ctx: Any, _: None) -> Any:
        retry = Retry(attempts=2, first_wait=0.0, on=(WorkerDiedError,))
        return await ctx.compute("dies", step(dies, on="ray", retry=retry), None)

    with Cluster(1, executors={"ray": ray_executor(address)}) as cluster:
        assert cluster.start_workflow(flow).wait_for_completion(2 * PATIENCE) == "before"


def test_an_address_is_text() -> None:
    with pytest.raises(BadArgumentError, match="the address of a Ray cluster is text"):
        ray_executor(6379)  # type: ignore[arg-type]

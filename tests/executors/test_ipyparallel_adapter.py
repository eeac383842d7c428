"""Steps on engines of ipyparallel: the controller keeps tasks under labels, and the next node finds them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import (
    BadArgumentError,
    Cluster,
    StepProgress,
    StepStateSaved,
    UnknownExecutorError,
    WorkerDiedError,
    WorkflowCancelledError,
    ipyparallel_executor,
    step,
)
from tests.cluster.helpers import PATIENCE, Watch
from tests.executors.steps_elsewhere import (
    ROOT,
    fitting,
    killed_and_started_again,
    lines,
    nothing_of_ours_is_left,
    one_step,
    until,
)
from tests.tools import require_module

ipyparallel = require_module("ipyparallel", get_it="pip install 'raftoral-nb[ipyparallel]'")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """The library keeps a thread for its loops: only what is ours is looked at."""
    yield
    nothing_of_ours_is_left(lambda name: "ipyparallel" in name)


class Engines:
    """A controller and engines of their own, and the file by which clients find them."""

    def __init__(self, folder: Path, engines: int) -> None:
        self.cluster: Any = ipyparallel.Cluster(
            n=engines, profile_dir=str(folder / "profile"), log_level=40, send_engines_connection_env=False
        )
        self.cluster.start_cluster_sync()
        self.client: Any = self.cluster.connect_client_sync()
        self.client.wait_for_engines(engines, timeout=PATIENCE, interactive=False)
        (self.file,) = map(str, (folder / "profile" / "security").glob("ipcontroller-*client.json"))

    def pids(self) -> set[int]:
        return set(self.client[:].apply_sync(os.getpid))

    def rows(self) -> list[Any]:
        """What the controller keeps of ours."""
        rows = self.client.db_query({"label": {"$ne": None}}, keys=["msg_id", "label", "completed"])
        return [row for row in rows if row["label"].startswith("raftoral-nb:")]

    def labels(self) -> list[str]:
        return [row["label"] for row in self.rows()]

    def end(self) -> None:
        self.client.close()
        self.cluster.stop_cluster_sync()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    folder = tmp_path_factory.mktemp("ipp")
    (folder / "profile" / "security").mkdir(parents=True)
    running = Engines(folder, 2)
    try:
        yield running
    finally:
        running.end()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def test_values_exceptions_prints_progress_and_checkpoints_come_from_there(engines: Engines) -> None:
    executors = {"engines": ipyparallel_executor(engines.file)}
    with Cluster(1, executors=executors) as cluster, Watch(cluster) as watch:
        (pid, key, last), x = cluster.start_workflow(fitting("engines"), run_id="r").wait_for_completion(PATIENCE)
        assert pid in engines.pids()
        assert (key, last, x) == ("r/0/fit", "half", 3)
        assert watch.until(StepProgress, times=4).text == "fitted"
        assert len(watch.of(StepStateSaved)) == 2
        assert [line.text for line in cluster.log("r") if line.stream == "stdout"] == ["fitting"] * 4
    until(lambda: not engines.labels(), "tasks are kept after their records")


@pytest.mark.parametrize("moment", ["running", "done"])
def test_when_the_leader_dies_the_next_one_finds_the_task_and_it_ran_once(
    engines: Engines, tmp_path: Path, moment: str
) -> None:
    executors = {"engines": ipyparallel_executor(engines.file)}
    with Cluster(3, executors=executors) as cluster, Watch(cluster) as watch:
        leader = cluster.wait_for_leader()
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "engines"}))
        watch.until(StepProgress)
        if moment == "done":
            cluster.pause(leader)  # it does not hear of the outcome
            (tmp_path / "go").touch()
        cluster.kill(leader)
        cluster.wait_for_leader()
        (tmp_path / "go").touch()
        assert run.wait_for_completion(PATIENCE) == "done"
    assert len(lines(tmp_path)) == 1
    until(lambda: not engines.labels(), "tasks are kept after their records")


def test_one_that_runs_at_most_once_is_not_tried_again_and_its_task_is_forgotten_with_the_next_connection(
    engines: Engines, tmp_path: Path
) -> None:
    async def other(ctx: Any, _: None) -> Any:
        return await ctx.compute("other", step(abs, on="engines"), -3)

    executors = {"engines": ipyparallel_executor(engines.file)}
    with Cluster(3, executors=executors) as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "engines", "at_most_once": True}))
        watch.until(StepProgress)
        cluster.kill(cluster.wait_for_leader())
        assert run.wait_for_completion(PATIENCE) == "OutcomeUnknown"
        (tmp_path / "go").touch()
        until(lambda: all(row["completed"] for row in engines.rows()), "it did not end")
        assert len(lines(tmp_path)) == len(engines.labels()) == 1
        assert cluster.start_workflow(other).wait_for_completion(PATIENCE) == 3
        until(lambda: not engines.labels(), "the task is kept")


def test_when_the_kernel_is_killed_and_started_again_the_run_goes_on_with_the_task_that_ran_meanwhile(
    engines: Engines, tmp_path: Path
) -> None:
    assert killed_and_started_again(tmp_path, engines.file) == "done"
    assert lines(tmp_path) == ["r/0/write"]


@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_a_task_that_was_given_up_is_forgotten_when_it_has_ended(engines: Engines, tmp_path: Path, how: str) -> None:
    executors = {"engines": ipyparallel_executor(engines.file)}
    with Cluster(1, executors=executors) as cluster, Watch(cluster) as watch:
        late = {"timeout": 5} if how == "late" else {}
        run = cluster.start_workflow(one_step, (str(tmp_path), {"on": "engines", **late}))
        watch.until(StepProgress)
        if how == "cancelled":
            run.cancel()
            with pytest.raises(WorkflowCancelledError):
                run.wait_for_completion(PATIENCE)
        else:
            assert run.wait_for_completion(PATIENCE) == "StepTimeoutError"
        assert engines.labels()
        (tmp_path / "go").touch()
        until(lambda: not engines.labels(), "the task is kept")


def test_nodes_in_processes_of_their_own_use_it_too(engines: Engines) -> None:
    def pid() -> int:
        return os.getpid()

    async def flow(ctx: Any, _: None) -> Any:
        return await ctx.compute("pid", step(pid, on="engines"))

    executors = {"engines": ipyparallel_executor(engines.file)}
    with Cluster(1, processes=True, executors=executors) as cluster:
        assert cluster.start_workflow(flow).wait_for_completion(PATIENCE) in engines.pids()


def test_the_death_of_an_engine_fails_that_attempt(tmp_path: Path) -> None:
    def dies(folder: str) -> int:
        Path(folder, "pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    async def flow(ctx: Any, folder: str) -> Any:
        try:
            return await ctx.compute("dies", step(dies, on="engines"), folder)
        except WorkerDiedError as error:
            return str(error)

    (tmp_path / "profile" / "security").mkdir(parents=True)
    engines = Engines(tmp_path, 1)
    try:
        with Cluster(1, executors={"engines": ipyparallel_executor(engines.file)}) as cluster:
            said = cluster.start_workflow(flow, str(tmp_path)).wait_for_completion(2 * PATIENCE)
        assert "the engine on which step" in said
        assert "retry=Retry" in said
    finally:
        engines.end()


def test_where_no_controller_answers_the_step_fails_and_says_so(tmp_path: Path) -> None:
    async def flow(ctx: Any, _: None) -> Any:
        try:
            await ctx.compute("it", step(abs, on="engines"), 3)
        except UnknownExecutorError as error:
            return str(error)

    missing = str(tmp_path / "ipcontroller-client.json")
    with Cluster(1, executors={"engines": ipyparallel_executor(missing)}) as cluster:
        said = cluster.start_workflow(flow).wait_for_completion(PATIENCE)
    assert f"the ipyparallel controller {missing} cannot be used" in said


@pytest.mark.parametrize("given", ["", 3])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(BadArgumentError, match=r"ipcontroller-client\.json"):
        ipyparallel_executor(given)

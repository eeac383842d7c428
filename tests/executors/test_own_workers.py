"""`on="processes"`: what runs there, what comes back, and what a death or a cancellation costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raftoral_nb import (
    Cluster,
    LostChangeError,
    OutcomeUnknown,
    Retry,
    StepProgress,
    StepTimeoutError,
    ValueNotShippableError,
    WorkerDiedError,
    WorkflowCancelledError,
    WrongTaskError,
    current_step,
    step,
)
from raftoral_nb.executors import own_workers
from raftoral_nb.executors.own_workers import OwnWorkers, core_count
from tests.cluster.helpers import PATIENCE, Watch, followers

ROOT = Path(__file__).parents[2]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, within the patience of tests; one that nobody has reaped counts as ended."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        threading.Event().wait(0.01)
    return False


def told(_: Any = None) -> dict[str, Any]:
    one = current_step()
    return {
        "pid": os.getpid(),
        "key": one.key,
        "idempotency_key": one.idempotency_key,
        "attempt": one.attempt,
        "node": one.node,
        "run_id": one.run_id,
    }


def for_ever(_: Any = None) -> None:
    current_step().progress(0.5, str(os.getpid()))
    while True:
        pass


def dies_once(folder: str) -> int:
    try:
        Path(folder, "died").touch(exist_ok=False)
    except FileExistsError:
        return current_step().attempt
    os._exit(3)


def test_a_step_runs_in_a_process_of_its_own_and_knows_which_one_it_is(cluster: Cluster) -> None:
    async def flow(ctx: Any, _: None) -> Any:
        return await ctx.compute("fit", step(told, on="processes"))

    run = cluster.start_workflow(flow, run_id="r")
    found = run.wait_for_completion(PATIENCE)
    assert found.pop("pid") != os.getpid()
    assert found == {
        "key": "fit",
        "idempotency_key": "r/0/fit",
        "attempt": 1,
        "node": cluster.wait_for_leader(),
        "run_id": "r",
    }


def test_a_worker_is_kept_for_the_next_step(cluster: Cluster) -> None:
    async def flow(ctx: Any, _: None) -> Any:
        return [(await ctx.compute("fit", step(told, on="processes")))["pid"] for _ in range(3)]

    assert len(set(cluster.start_workflow(flow).wait_for_completion(PATIENCE))) == 1


def test_exceptions_of_the_workflows_classes_come_back_with_their_attributes_and_the_place(cluster: Cluster) -> None:
    class OddError(Exception):
        def __init__(self, *, x: int) -> None:
            super().__init__("odd")
            self.x = x

    def fail(x: int) -> None:
        raise OddError(x=x)

    async def flow(ctx: Any, _: None) -> Any:
        retry = Retry(attempts=2, on=(OddError,), first_wait=0.0)
        try:
            await ctx.compute("fail", step(fail, on="processes", retry=retry), 3)
        except OddError as error:
            return error.x, error.__notes__

    run = cluster.start_workflow(flow)
    assert run.wait_for_completion(PATIENCE) == (3, ["(step '0/fail' was given up after attempt 2)"])
    (failed,) = [one for one in run.steps if one.failure is not None]
    assert failed.failure is not None
    assert "raise OddError(x=x)" in failed.failure.traceback
    assert "given up after attempt 2" in failed.failure.traceback
    assert "raftoral_nb" not in failed.failure.traceback.replace("raftoral_nb.errors", "")


def test_classes_of_arguments_and_values_are_the_workflows(cluster: Cluster) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    def twice(point: Point) -> Point:
        assert type(point) is Point
        return Point(2 * point.x)

    async def flow(ctx: Any, _: None) -> Any:
        found = await ctx.compute("twice", step(twice, on="processes"), Point(4))
        return type(found) is Point, found.x

    assert cluster.start_workflow(flow).wait_for_completion(PATIENCE) == (True, 8)


def test_asynchronous_functions_run_there_too(cluster: Cluster) -> None:
    async def pid(_: Any) -> int:
        await asyncio.sleep(0)
        return os.getpid()

    async def flow(ctx: Any, _: None) -> Any:
        return await ctx.compute("pid", step(pid, on="processes"), None)

    assert cluster.start_workflow(flow).wait_for_completion(PATIENCE) != os.getpid()


def test_what_a_worker_prints_is_in_the_log_of_the_run_and_its_progress_is_told(cluster: Cluster) -> None:
    def speak(_: None) -> None:
        print("one\ntwo")
        print("three", file=sys.stderr)
        current_step().progress(1.0, "done")

    async def flow(ctx: Any, _: None) -> None:
        await ctx.compute("speak", step(speak, on="processes"), None)

    with Watch(cluster) as watch:
        run = cluster.start_workflow(flow)
        run.wait_for_completion(PATIENCE)
        assert watch.until(StepProgress).text == "done"
    lines = [(line.stream, line.text) for line in cluster.log(run.run_id)]
    assert lines == [("stdout", "one"), ("stdout", "two"), ("stderr", "three")]


def test_a_large_array_goes_there_and_can_be_written_to(cluster: Cluster) -> None:
    def fill(array: Any) -> Any:
        array = array + 0 if not array.flags.writeable else array.copy()
        return float(array.sum()), array[:3]

    def writeable(array: Any) -> bool:
        return bool(array.flags.writeable)

    async def flow(ctx: Any, _: None) -> Any:
        array = np.ones(1_000_000)
        assert await ctx.compute("writeable", step(writeable, on="processes"), array)
        return await ctx.compute("fill", step(fill, on="processes"), array)

    total, first = cluster.start_workflow(flow).wait_for_completion(PATIENCE)
    assert total == 1_000_000
    assert list(first) == [1.0, 1.0, 1.0]


def test_the_limits_of_steps_and_lost_changes_are_told_as_ever(cluster: Cluster) -> None:
    def lock(_: None) -> Any:
        return threading.Lock()

    def change(given: list[int]) -> None:
        given.append(1)

    async def flow(ctx: Any, _: None) -> Any:
        found = []
        for name, fn, given in (("lock", lock, None), ("change", change, []), ("open", change, threading.Lock())):
            try:
                await ctx.compute(name, step(fn, on="processes"), given)
            except Exception as error:
                found.append(type(error))
        return [kind.__name__ for kind in found]

    names = cluster.start_workflow(flow).wait_for_completion(PATIENCE)
    assert names == [ValueNotShippableError.__name__, LostChangeError.__name__, ValueNotShippableError.__name__]


def test_a_death_fails_that_attempt_which_is_retried_and_touches_no_other(cluster: Cluster, tmp_path: Path) -> None:
    async def flow(ctx: Any, folder: str) -> Any:
        dying = step(dies_once, on="processes", retry=Retry(attempts=2, first_wait=0.0))
        other = step(told, on="processes")
        return await asyncio.gather(
            ctx.compute("dies", dying, folder), ctx.compute("told", other), ctx.compute("told", other)
        )

    attempt, *others = cluster.start_workflow(flow, str(tmp_path)).wait_for_completion(PATIENCE)
    assert attempt == 2
    assert [one["attempt"] for one in others] == [1] * 2


def test_without_retries_a_death_fails_the_step_and_says_how_the_process_ended(
    cluster: Cluster, tmp_path: Path
) -> None:
    async def flow(ctx: Any, folder: str) -> str:
        try:
            await ctx.compute("dies", step(dies_once, on="processes"), folder)
        except WorkerDiedError as error:
            return str(error)
        return ""

    said = cluster.start_workflow(flow, str(tmp_path)).wait_for_completion(PATIENCE)
    assert "'0/dies'" in said
    assert "with exit code 3" in said
    assert "retry=Retry" in said


def test_a_timeout_ends_the_process_and_the_next_step_has_another(cluster: Cluster) -> None:
    async def flow(ctx: Any, _: None) -> Any:
        await ctx.compute("first", step(told, on="processes"))  # it takes a while until a process is there
        try:
            await ctx.compute("late", step(for_ever, on="processes", timeout=1.5))
        except StepTimeoutError as error:
            said = str(error)
        return said, (await ctx.compute("next", step(told, on="processes")))["pid"]

    with Watch(cluster) as watch:
        said, after = cluster.start_workflow(flow).wait_for_completion(2 * PATIENCE)
        late = int(watch.until(StepProgress).text)
    assert is_gone(late)
    assert late != after
    assert "executor 'processes' was told to end it" in said


def test_cancelling_a_run_ends_the_process_of_its_step(cluster: Cluster) -> None:
    async def flow(ctx: Any, _: None) -> None:
        await ctx.compute("late", step(for_ever, on="processes"))

    with Watch(cluster) as watch:
        run = cluster.start_workflow(flow)
        pid = int(watch.until(StepProgress).text)
        run.cancel()
        with pytest.raises(WorkflowCancelledError):
            run.wait_for_completion(PATIENCE)
    assert is_gone(pid)


def waits_on_first(leader: int) -> int:
    one = current_step()
    one.progress(0.5, str(os.getpid()))
    while one.node == leader:
        pass
    return one.node


def test_a_node_that_loses_the_epoch_ends_the_process_and_the_next_one_does_the_step_again(cluster: Cluster) -> None:
    async def flow(ctx: Any, leader: int) -> Any:
        return await ctx.compute("late", step(waits_on_first, on="processes"), leader)

    leader = cluster.wait_for_leader()
    with Watch(cluster) as watch:
        run = cluster.start_workflow(flow, leader)
        pid = int(watch.until(StepProgress).text)
        cluster.transfer(followers(cluster)[0])
        assert run.wait_for_completion(PATIENCE) != leader
    assert is_gone(pid)


def test_one_that_runs_at_most_once_is_not_done_again(cluster: Cluster) -> None:
    async def flow(ctx: Any, leader: int) -> Any:
        try:
            await ctx.compute("late", step(waits_on_first, on="processes", at_most_once=True), leader)
        except OutcomeUnknown as error:
            return error.idempotency_key

    with Watch(cluster) as watch:
        run = cluster.start_workflow(flow, cluster.wait_for_leader(), run_id="r")
        watch.until(StepProgress)
        cluster.transfer(followers(cluster)[0])
        assert run.wait_for_completion(PATIENCE) == "r/0/late"


def test_the_end_of_the_cluster_ends_its_workers() -> None:
    async def flow(ctx: Any, _: None) -> None:
        await ctx.compute("late", step(for_ever, on="processes"))

    with Cluster(1) as cluster, Watch(cluster) as watch:
        cluster.start_workflow(flow)
        pid = int(watch.until(StepProgress).text)
    assert is_gone(pid)


def test_signals_are_refused_with_a_word_on_what_to_do(cluster: Cluster) -> None:
    def send(_: None) -> None:
        current_step().signal("other", "go")

    async def flow(ctx: Any, _: None) -> str:
        try:
            await ctx.compute("send", step(send, on="processes"), None)
        except WrongTaskError as error:
            return str(error)
        return ""

    assert "ctx.signal" in cluster.start_workflow(flow).wait_for_completion(PATIENCE)


ORPHAN = """
import os, sys, time
from raftoral_nb import Cluster, current_step, step

async def flow(ctx, argument):
    await ctx.compute("late", step(write, on="processes"), argument)

def write(path):
    child = os.fork()
    if child == 0:
        time.sleep(60)
    with open(path + ".part", "w") as file:
        print(os.getpid(), child, file=file)
    os.rename(path + ".part", path)
    while True:
        pass

if __name__ == "__main__":
    with Cluster(1) as cluster:
        cluster.start_workflow(flow, sys.argv[1])
        time.sleep(60)
"""


def test_no_worker_outlives_a_process_that_is_killed_nor_does_what_it_started(tmp_path: Path) -> None:
    script, found = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(ORPHAN)
    parent = subprocess.Popen([sys.executable, str(script), str(found)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        until = time.monotonic() + PATIENCE
        while not found.exists() and time.monotonic() < until:
            threading.Event().wait(0.01)
        worker, child = map(int, found.read_text().split())
    finally:
        parent.kill()
        parent.wait()
    assert is_gone(worker)
    assert is_gone(child)


def test_in_a_browser_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_workers.sys, "platform", "emscripten")  # type: ignore[attr-defined]
    with pytest.raises(Exception, match=r'on="processes" needs processes'):
        OwnWorkers("workers")


def test_there_are_as_many_as_cores() -> None:
    assert OwnWorkers("workers")._most == core_count() >= 1


CELL = """
import os
from raftoral_nb import Cluster, Retry, current_step, step

class Odd(Exception):
    def __init__(self, *, x):
        super().__init__("odd")
        self.x = x

loaded = []

def helper(x):
    loaded.append(x)
    return len(loaded)

def count(x):
    return helper(x), os.getpid()

def fail(x):
    raise Odd(x=x)

async def sweep(ctx, n):
    found = [await ctx.compute("count", step(count, on="processes"), n) for _ in range(2)]
    try:
        await ctx.compute("fail", step(fail, on="processes", retry=Retry(attempts=2, on=(Odd,), first_wait=0.0)), n)
    except Odd as error:
        return [counted for counted, _ in found], os.getpid() in {pid for _, pid in found}, type(error) is Odd, error.x

with Cluster(3, processes=PROCESSES) as cluster:
    print(cluster.start_workflow(sweep, 4).wait_for_completion(60))
"""

KERNEL = """
import linecache, sys, types, warnings
warnings.simplefilter("ignore")
source = sys.argv[1]
main = types.ModuleType("__main__")  # as IPython does: nobody can import it
sys.modules["__main__"] = main
linecache.cache["/tmp/ipykernel_1/1.py"] = (len(source), None, source.splitlines(keepends=True), "/tmp/ipykernel_1/1.py")
exec(compile(source, "/tmp/ipykernel_1/1.py", "exec"), main.__dict__)
"""


@pytest.mark.parametrize("processes", [False, True], ids=["here", "nodes in processes"])
def test_functions_and_classes_of_cells_go_there_and_globals_stay_for_the_next_task(processes: bool) -> None:
    cell = CELL.replace("PROCESSES", str(processes))
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, cell],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "([1, 2], False, True, 4)", done.stderr

"""Checkpoints, progress and prints of functions on executors: they reach the node while the function runs, whatever runs it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from raftoral_nb import (
    Cluster,
    NotAcknowledgedError,
    Retry,
    StepProgress,
    StepStateSaved,
    ValueNotShippableError,
    WrongTaskError,
    current_step,
    step,
)
from raftoral_nb.executors import calling
from raftoral_nb.executors.node_channel import NodeChannels, SocketChannel
from raftoral_nb.executors.step_work import ChannelName, Said, Work, WorkHead, decoded_answer
from raftoral_nb.workflow.codec import pickling
from tests.cluster.helpers import PATIENCE, Watch, followers

KINDS = ["processes", "threads", "spawned"]
AGAIN = Retry(attempts=2, first_wait=0.0)


@pytest.fixture(autouse=True, scope="module")
def tracker_of_this_process() -> None:
    """The process that Python keeps for pools is there before the first test looks at what it leaves behind."""
    resource_tracker.ensure_running()


def spawned() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="theirs")


def executors() -> dict[str, Any]:
    return {"threads": threads, "spawned": spawned}


async def one_step(ctx: Any, given: tuple[Any, str, Any]) -> Any:
    fn, on, argument = given
    return await ctx.compute("it", step(fn, on=on, retry=AGAIN), argument)


def wait_for(path: Path) -> None:
    """Wait, on whichever machine of this test, until a file is there."""
    until = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize("on", KINDS)
def test_a_retry_continues_from_the_last_checkpoint_though_it_was_not_due(on: str) -> None:
    def climb(top: int) -> Any:
        here = current_step()
        if here.has_last:
            return here.last, here.attempt
        for height in range(1, top + 1):
            here.checkpoint(height)
        assert here.last is None  # not its own
        raise OSError("slipped")

    with Cluster(1, executors=executors()) as cluster:
        assert cluster.start_workflow(one_step, (climb, on, 5)).wait_for_completion(PATIENCE) == (5, 2)


@pytest.mark.parametrize("on", ["processes", "spawned"])
def test_when_the_process_dies_the_next_attempt_continues_from_what_was_recorded(on: str) -> None:
    def dies(_: None) -> Any:
        here = current_step()
        if here.has_last:
            return here.last
        here.checkpoint("first", every=0).wait()
        here.checkpoint("second", every=0).wait()
        os._exit(3)

    with Cluster(1, executors=executors()) as cluster:
        assert cluster.start_workflow(one_step, (dies, on, None)).wait_for_completion(PATIENCE) == "second"


def continues_elsewhere(given: tuple[int, str]) -> Any:
    leader, folder = given
    here = current_step()
    if here.node != leader:
        return here.last
    here.checkpoint({"epoch": 3}, every=0).wait()
    Path(folder, "saved").touch()
    wait_for(Path(folder, "go"))
    return None


@pytest.mark.parametrize("on", KINDS)
def test_the_next_leader_continues_from_the_checkpoint_and_the_view_says_so(on: str, tmp_path: Path) -> None:
    with Cluster(3, executors=executors()) as cluster, Watch(cluster) as watch:
        leader = cluster.wait_for_leader()
        run = cluster.start_workflow(one_step, (continues_elsewhere, on, (leader, str(tmp_path))))
        assert watch.until(StepStateSaved).step_id == "0/it"
        wait_for(tmp_path / "saved")
        cluster.transfer(followers(cluster)[0])
        assert run.wait_for_completion(PATIENCE) == {"epoch": 3}
        (tmp_path / "go").touch()


def continuing(folder: str) -> None:
    here = current_step()
    if here.attempt == 1:
        here.checkpoint(1)
        raise OSError("first")
    assert here.last == 1
    here.checkpoint(2, every=0).wait()  # so the node has heard what was said before
    Path(folder, "continues").touch()
    wait_for(Path(folder, "go"))


@pytest.mark.parametrize("on", KINDS)
def test_statistics_say_that_a_step_continues(on: str, tmp_path: Path) -> None:
    with Cluster(1, executors=executors()) as cluster:
        run = cluster.start_workflow(one_step, (continuing, on, str(tmp_path)))
        wait_for(tmp_path / "continues")
        (activity,) = cluster.nodes[1].statistics().runs[run.run_id].activities
        assert (activity.attempt, activity.text) == (2, "continues from its last checkpoint")
        (tmp_path / "go").touch()
        run.wait_for_completion(PATIENCE)


@pytest.mark.parametrize("on", KINDS)
def test_large_arrays_and_classes_of_the_workflow_are_saved_and_may_be_changed_afterwards(on: str) -> None:
    class Model:
        def __init__(self) -> None:
            self.weights = np.zeros(500_000)

    def train(_: None) -> Any:
        here = current_step()
        if here.has_last:
            return type(here.last) is Model, float(here.last.weights.sum()), here.last.weights.flags.writeable
        model = Model()
        model.weights += 2
        here.checkpoint(model)
        model.weights += 2
        raise OSError("interrupted")

    with Cluster(1, executors=executors()) as cluster:
        found = cluster.start_workflow(one_step, (train, on, None)).wait_for_completion(PATIENCE)
        assert found == (True, 1_000_000.0, True)


@pytest.mark.parametrize("on", KINDS)
def test_an_asynchronous_function_awaits_its_checkpoints_and_what_does_not_pickle_is_refused(on: str) -> None:
    async def saves(_: None) -> Any:
        here = current_step()
        if here.has_last:
            return here.last
        await here.checkpoint("kept", every=0)
        try:
            here.checkpoint(threading.Lock())
        except ValueNotShippableError:
            raise OSError("again") from None

    with Cluster(1, executors=executors()) as cluster:
        assert cluster.start_workflow(one_step, (saves, on, None)).wait_for_completion(PATIENCE) == "kept"


def hurried(count: int) -> Any:
    here = current_step()
    if here.has_last:
        return here.last
    for number in range(count):
        here.checkpoint(number)
    here.checkpoint(count, every=0).wait()
    raise OSError("again")


@pytest.mark.parametrize("on", KINDS)
def test_of_many_checkpoints_few_are_recorded_and_the_last_counts(on: str) -> None:
    with Cluster(1, executors=executors()) as cluster, Watch(cluster) as watch:
        assert cluster.start_workflow(one_step, (hurried, on, 2000)).wait_for_completion(PATIENCE) == 2000
        assert len(watch.of(StepStateSaved)) < 100


def speak_and_wait(folder: str) -> None:
    print("spoken")
    current_step().progress(0.5, "half")
    wait_for(Path(folder, "go"))
    print("done")


@pytest.mark.parametrize("on", KINDS)
def test_progress_and_prints_come_while_the_function_runs_and_none_is_missing_in_the_end(
    on: str, tmp_path: Path
) -> None:
    with Cluster(1, executors=executors()) as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(one_step, (speak_and_wait, on, str(tmp_path)))
        assert watch.until(StepProgress).text == "half"
        assert [line.text for line in cluster.log(run.run_id)] == ["spoken"]
        (tmp_path / "go").touch()
        run.wait_for_completion(PATIENCE)
        assert [line.text for line in cluster.log(run.run_id)] == ["spoken", "done"]


def test_nodes_in_processes_of_their_own_pass_it_on_too(tmp_path: Path) -> None:
    with Cluster(1, processes=True, executors=executors()) as cluster, Watch(cluster) as watch:
        for number, on in enumerate(KINDS, 1):
            folder = tmp_path / on
            folder.mkdir()
            run = cluster.start_workflow(one_step, (speak_and_wait, on, str(folder)))
            assert watch.until(StepProgress, times=number).text == "half"
            (folder / "go").touch()
            run.wait_for_completion(PATIENCE)
            printed = [line.text for line in cluster.log(run.run_id) if line.stream == "stdout"]
            assert printed == ["spoken", "done"]
            assert cluster.start_workflow(one_step, (hurried, on, 3)).wait_for_completion(PATIENCE) == 3


def work_of(fn: Callable[[], None], channel: ChannelName | None) -> Work:
    """An attempt as its node would send it."""
    head = WorkHead(
        key="k",
        node=1,
        run_id="r",
        step_id="0/speak",
        attempt=1,
        once=False,
        place="",
        sources={},
        arithmetic={},
        channel=channel,
    )
    return Work(head, pickling.dumps_code(fn, 1 << 20), pickling.dumps(((), {}), 1 << 20))


@pytest.mark.parametrize("elsewhere", ["without a channel", "where its socket is not"])
def test_where_the_node_cannot_be_reached_prints_come_in_the_end_and_a_checkpoint_says_what_to_do(
    elsewhere: str, tmp_path: Path
) -> None:
    def speak() -> None:
        print("spoken")
        current_step().progress(0.5)
        for _ in range(2):  # each time, not only the first
            with pytest.raises(WrongTaskError, match=r"no way to the node from here.*Leave on= out"):
                current_step().checkpoint(1)

    name = None if elsewhere == "without a channel" else ChannelName("token", 0, str(tmp_path / "node"), b"secret")
    work = work_of(speak, name)
    answer = decoded_answer(calling.call(work.packed()))
    assert answer.ran.failure is None
    assert [said.text for said in answer.said] == ["spoken\n"]


def test_whoever_does_not_know_the_key_is_not_heard(tmp_path: Path) -> None:
    heard: list[Any] = []

    class Hears:
        def __call__(self, said: Any) -> None:
            heard.append(said)

        def save(self, checkpoint: Any, answered: Any) -> None:
            heard.append(checkpoint)

    ways = NodeChannels("ways")
    try:
        ways.listen("k", Hears())
        name = ways.lead("k", work_of(lambda: None, None), socket=True).head.channel
        assert name is not None
        folder = Path(name.address).parent
        assert folder.stat().st_mode & 0o077 == 0
        for number, key in enumerate((b"another", name.secret)):
            channel = SocketChannel(ChannelName(name.token, 0, name.address, key))
            channel(Said("stdout", "heard"))
            channel.close()
            assert len(heard) == number
            assert len(channel.said()) == 1 - number
    finally:
        ways.close()
    assert not folder.exists()


def test_where_the_node_has_ended_since_a_checkpoint_fails_nothing_and_comes_with_the_outcome() -> None:
    ways = NodeChannels("ways")

    class Hears:
        def __call__(self, said: Said) -> None:
            ways.close()

        def save(self, checkpoint: Any, answered: Any) -> None:
            raise AssertionError

    def goes_on() -> None:
        current_step().progress(0.5)  # which ends the node
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                current_step().checkpoint("late", every=0).wait()
            except NotAcknowledgedError:
                break
        print("still here")
        raise OSError("in the end")

    ways.listen("k", Hears())
    name = ways.lead("k", work_of(goes_on, None), socket=True).head.channel
    assert name is not None
    # As in another process.
    answer = decoded_answer(calling.call(work_of(goes_on, msgspec.structs.replace(name, process=0)).packed()))
    assert answer.ran.failure is not None
    assert answer.ran.failure.message == "in the end"
    assert answer.checkpoint is not None
    assert pickle.loads(answer.checkpoint.saved.value) == "late"
    assert [said.text for said in answer.said] == ["still here\n"]

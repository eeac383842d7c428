"""A result that is larger than the cluster keeps costs no work: its run waits, says what to do, and goes on when the limit is raised."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raftoral_nb import Cluster, ValueHeld, ValueLimitSet, WorkflowContext, step
from raftoral_nb.core.events import CheckpointSet
from raftoral_nb.errors import (
    ClusterError,
    ValueNotShippableError,
    WorkflowCancelledError,
    WorkflowFailedError,
    WorkflowTerminatedError,
)
from raftoral_nb.storage.directory_blobs import FOLDER, NOTES
from tests.cluster.helpers import PATIENCE, Watch, engine, note, notes

LARGE = 200_000
"""Numbers in an array of 1.6 MB."""

LIMIT = 1_000_000


def made(first: int) -> Any:
    note("made")
    return np.arange(first, first + LARGE)


async def sums(ctx: WorkflowContext, first: int) -> int:
    return int((await ctx.compute("make", made, first)).sum())


async def returns(ctx: WorkflowContext, first: int) -> Any:
    return np.arange(first, first + LARGE)


def total(first: int) -> int:
    return int(np.arange(first, first + LARGE).sum())


def held(cluster: Cluster, workflow: Any = sums, first: int = 5, run_id: str = "large") -> Any:
    """A run that is held by a value."""
    with Watch(cluster) as watch:
        run = cluster.start_workflow(workflow, first, run_id=run_id)
        watch.until(ValueHeld, lambda event: event.run_id == run_id)
    return run


@pytest.fixture(params=["memory", "tcp", "disk", "processes"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    kinds: dict[str, dict[str, Any]] = {
        "memory": {"network": "memory"},
        "tcp": {},
        "disk": {"data_dir": tmp_path / "data", "durability": "disk"},
        "processes": {"processes": True},
    }
    with Cluster(3, max_value_bytes=LIMIT, **kinds[request.param]) as cluster:
        yield cluster


def test_a_raised_limit_lets_the_run_go_on_from_the_result_that_it_had(cluster: Cluster) -> None:
    run = held(cluster)
    assert run.status == "running"
    assert run.steps == ()
    assert "takes 1,600," in run.held_value
    assert "more than max_value_bytes (1,000,000)" in run.held_value
    assert 'cluster.set_max_value_bytes("2 MB")' in run.held_value
    assert "run.terminate()" in run.held_value
    assert cluster.statistics().runs["large"].why_held == run.held_value
    assert any(run.held_value in line.text for line in cluster.log("large"))
    begun = cluster.statistics().effects_run
    cluster.set_max_value_bytes("2 MB")
    assert cluster.max_value_bytes == 2_000_000
    assert run.wait_for_completion(PATIENCE) == total(5)
    assert cluster.statistics().effects_run == begun == 1
    assert run.held_value is None
    for node in cluster.nodes.values():
        assert node.result("large", timeout=PATIENCE) == total(5)


def test_a_limit_that_is_raised_too_little_keeps_the_run_held() -> None:
    with Cluster(1, network="memory", max_value_bytes=LIMIT) as cluster, Watch(cluster) as watch:
        run = held(cluster)
        cluster.set_max_value_bytes(LIMIT + 1)
        watch.until(ValueHeld, lambda event: "(1,000,001)" in event.reason)
        cluster.set_max_value_bytes("2MB")
        assert run.wait_for_completion(PATIENCE) == total(5)
        assert notes().count("made") == 1
        assert [event.max_value_bytes for event in watch.of(ValueLimitSet)] == [LIMIT + 1, 2_000_000]


def test_what_a_run_returns_may_be_held_as_well(cluster: Cluster) -> None:
    run = held(cluster, returns)
    cluster.set_max_value_bytes("2MB")
    np.testing.assert_array_equal(run.wait_for_completion(PATIENCE), np.arange(5, 5 + LARGE))


def test_a_child_that_is_given_too_much_and_a_signal_wait_too() -> None:
    async def child(ctx: WorkflowContext, given: Any) -> int:
        return int(given.sum())

    async def parent(ctx: WorkflowContext, first: int) -> Any:
        if first:
            return await ctx.run_child("child", np.arange(first, first + LARGE))
        await ctx.signal("other", "word", np.arange(LARGE))
        return "sent"

    async def other(ctx: WorkflowContext, given: None) -> int:
        return int((await ctx.receive("word")).sum())

    with Cluster(1, network="memory", max_value_bytes=LIMIT) as cluster:
        cluster.register_workflow("child", child)
        receiver = cluster.start_workflow(other, run_id="other")
        runs = [held(cluster, parent, 5, "starts"), held(cluster, parent, 0, "sends")]
        cluster.set_max_value_bytes("2MB")
        assert [run.wait_for_completion(PATIENCE) for run in runs] == [total(5), "sent"]
        assert receiver.wait_for_completion(PATIENCE) == total(0)


def test_a_held_run_can_be_terminated_and_its_value_is_let_go(tmp_path: Path) -> None:
    with Cluster(1, data_dir=tmp_path / "data", max_value_bytes=LIMIT) as cluster:
        run = held(cluster)
        blobs = engine(cluster)._incarnations[1].member.blobs
        assert len(blobs.held.by_key) == 1
        run.terminate("too much")
        with pytest.raises(WorkflowTerminatedError):
            run.wait_for_completion(PATIENCE)
        cluster.start_workflow(returns_nothing).wait_for_completion(PATIENCE)  # the node has had the end by now
        assert len(blobs.held.by_key) == 0
    assert list((tmp_path / "data" / "node-1" / NOTES).iterdir()) == []


def test_a_held_run_can_be_cancelled() -> None:
    with Cluster(1, network="memory", max_value_bytes=LIMIT) as cluster:
        run = held(cluster)
        run.cancel()
        with pytest.raises(WorkflowCancelledError):
            run.wait_for_completion(PATIENCE)
        assert run.held_value is None
        cluster.start_workflow(returns_nothing).wait_for_completion(PATIENCE)
        assert not engine(cluster)._incarnations[1].member.blobs.held.by_key


async def returns_nothing(ctx: WorkflowContext, given: None) -> None:
    return None


@pytest.mark.parametrize("codec", [False, True])
def test_after_a_restart_with_a_higher_limit_the_kept_result_is_used(tmp_path: Path, codec: bool) -> None:
    options: dict[str, Any] = {"data_dir": tmp_path / "data"}
    if codec:
        options["codec"] = Turned()
    with Cluster(1, max_value_bytes=LIMIT, **options) as cluster:
        held(cluster)
    with Cluster(1, max_value_bytes="2MB", **options) as cluster:
        assert cluster.run("large").wait_for_completion(PATIENCE) == total(5)
        assert notes().count("made") == 1
    assert list((tmp_path / "data" / "node-1" / NOTES).iterdir()) == []


class Turned:
    """A codec that nobody would use."""

    def encode(self, data: bytes, /) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, /) -> bytes:
        return data[::-1]


def test_after_a_restart_with_the_same_limit_the_run_is_still_held_and_nothing_ran_again(tmp_path: Path) -> None:
    with Cluster(1, data_dir=tmp_path / "data", max_value_bytes=LIMIT) as cluster:
        held(cluster)
    with Cluster(1, data_dir=tmp_path / "data") as cluster, Watch(cluster) as watch:
        assert cluster.max_value_bytes == LIMIT
        if cluster.run("large").held_value is None:
            watch.until(ValueHeld)
        cluster.set_max_value_bytes("2MB")
        assert cluster.run("large").wait_for_completion(PATIENCE) == total(5)
        assert notes().count("made") == 1


def test_a_kept_result_that_is_damaged_meanwhile_is_computed_again(tmp_path: Path) -> None:
    with Cluster(1, data_dir=tmp_path / "data", max_value_bytes=LIMIT) as cluster:
        held(cluster)
    (file,) = (tmp_path / "data" / "node-1" / FOLDER).iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with Cluster(1, data_dir=tmp_path / "data", max_value_bytes="2MB") as cluster:
        assert cluster.run("large").wait_for_completion(PATIENCE) == total(5)
        assert notes().count("made") == 2


def test_a_leader_that_comes_back_still_has_it_and_another_leader_computes_it_again() -> None:
    with Cluster(3, network="memory", max_value_bytes=LIMIT) as cluster, Watch(cluster) as watch:
        run = held(cluster)
        first = cluster.wait_for_leader()
        other = next(number for number in cluster.nodes if number != first)
        cluster.transfer(other)
        watch.until(ValueHeld, lambda event: event.node == other)
        assert notes().count("made") == 2
        cluster.transfer(first)
        watch.until(ValueHeld, lambda event: event.node == first, times=1)
        cluster.set_max_value_bytes("2MB")
        assert run.wait_for_completion(PATIENCE) == total(5)
        assert notes().count("made") == 2


def test_a_step_that_runs_at_most_once_is_not_given_up_while_its_result_is_held(tmp_path: Path) -> None:
    async def once(ctx: WorkflowContext, first: int) -> int:
        return int((await ctx.compute("make", step(made, at_most_once=True), first)).sum())

    with Cluster(1, data_dir=tmp_path / "data", max_value_bytes=LIMIT) as cluster:
        held(cluster, once)
    with Cluster(1, data_dir=tmp_path / "data", max_value_bytes="2MB") as cluster:
        assert cluster.run("large").wait_for_completion(PATIENCE) == total(5)
        assert notes().count("made") == 1


def test_what_a_worker_returns_may_be_held() -> None:
    async def flow(ctx: WorkflowContext, first: int) -> int:
        return int((await ctx.compute("make", step(lambda: np.arange(5, 5 + LARGE), on="processes"))).sum())

    with Cluster(1, network="memory", max_value_bytes=LIMIT) as cluster:
        run = held(cluster, flow)
        cluster.set_max_value_bytes("2MB")
        assert run.wait_for_completion(PATIENCE) == total(5)


def test_what_comes_from_outside_is_refused_at_once_and_the_error_names_the_option() -> None:
    async def waits(ctx: WorkflowContext, given: Any) -> Any:
        return await ctx.receive("word")

    with Cluster(1, network="memory", max_value_bytes=LIMIT) as cluster:
        large = np.arange(LARGE)
        with pytest.raises(ValueNotShippableError, match=r"max_value_bytes \(1,000,000\). cluster.set_max_value_bytes"):
            cluster.start_workflow(waits, large)
        run = cluster.start_workflow(waits)
        with pytest.raises(ValueNotShippableError, match="max_value_bytes"):
            run.signal("word", large)
        cluster.set_max_value_bytes("2MB")
        run.signal("word", large)
        np.testing.assert_array_equal(run.wait_for_completion(PATIENCE), large)


def test_a_lowered_limit_touches_nothing_that_is_recorded() -> None:
    async def passes_on(ctx: WorkflowContext, first: int) -> Any:
        array = await ctx.compute("make", made, first)
        await ctx.receive("go on")
        return array

    with Cluster(3, network="memory") as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(passes_on, 5)
        watch.until(CheckpointSet)
        cluster.set_max_value_bytes(LIMIT)
        run.signal("go on")
        np.testing.assert_array_equal(run.wait_for_completion(PATIENCE), np.arange(5, 5 + LARGE))


def test_a_result_that_does_not_pickle_fails_as_ever() -> None:
    async def opens(ctx: WorkflowContext, given: None) -> Any:
        return await ctx.compute("open", threading.Lock)

    with (
        Cluster(1, network="memory", max_value_bytes=LIMIT) as cluster,
        pytest.raises(WorkflowFailedError, match="does not pickle"),
    ):
        cluster.start_workflow(opens).wait_for_completion(PATIENCE)


@pytest.mark.parametrize("given", [0, -1, "x", "0kB", 1.5, True, "65 GiB", 2**37])
def test_what_is_no_limit_is_refused(given: Any) -> None:
    with pytest.raises(ClusterError, match="max_value_bytes is the encoded size up to which a value is kept"):
        Cluster(1, max_value_bytes=given)
    with Cluster(1, network="memory") as cluster:
        with pytest.raises(ClusterError, match="max_value_bytes"):
            cluster.set_max_value_bytes(given)
        assert cluster.max_value_bytes == 1024**3

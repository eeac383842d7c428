"""Exceptions of steps, children and runs keep their type on every node, through the death of leaders, restarts and processes."""

from __future__ import annotations

import threading
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import Cluster, WorkflowContext, WorkflowFailedError, check_determinism
from raftoral_nb.testing import workflow_test
from tests.cluster.helpers import PATIENCE


class CardDeclined(Exception):  # noqa: N818
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Busy(Exception):  # noqa: N818
    def __init__(self, *, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def declined() -> None:
    raise CardDeclined(402, "no funds")


def group() -> None:
    nested = ExceptionGroup("nested", [Busy(status=503, detail="later")])
    raise ExceptionGroup("outer", [CardDeclined(1, "a"), ValueError("b"), nested])


def missing() -> None:
    raise urllib.error.HTTPError("http://127.0.0.1/x", 404, "Not Found", None, None)  # type: ignore[arg-type]


def with_lock() -> None:
    error: Any = Busy(status=503, detail="later")
    error.lock = threading.Lock()
    raise error


async def pay(ctx: WorkflowContext, _: None) -> list[Any]:
    seen: list[Any] = []
    try:
        await ctx.compute("declined", declined)
    except CardDeclined as error:
        seen.append((error.code, str(error)))
    try:
        await ctx.compute("group", group)
    except* CardDeclined as errors:
        seen.append([error.code for error in errors.exceptions])  # type: ignore[union-attr]
    except* Busy:
        seen.append("busy")
    except* ValueError as errors:
        seen.append(str(errors.exceptions[0]))
    try:
        await ctx.compute("missing", missing)
    except urllib.error.HTTPError as error:
        seen.append((error.code, error.filename))
    for _again in range(2):
        try:
            await ctx.compute("locked", with_lock)
        except Busy as error:
            seen.append((error.status, hasattr(error, "lock")))
    return seen


SEEN = [(402, "no funds"), [1], "busy", "b", (404, "http://127.0.0.1/x"), (503, False), (503, False)]


async def fails(ctx: WorkflowContext, _: None) -> None:
    raise CardDeclined(402, "no funds")


async def parent(ctx: WorkflowContext, _: None) -> Any:
    try:
        await ctx.run_child("fails", None)
    except WorkflowFailedError as error:
        return error.__cause__.code if isinstance(error.__cause__, CardDeclined) else "another"


def test_exceptions_match_whenever_the_leader_dies() -> None:
    check_determinism(pay)
    with workflow_test() as test:
        run = test.start(pay, None)
        test.kill_leader_at("group", when="after")
        assert test.finish(run) == SEEN


def test_what_is_not_recorded_of_an_exception_is_said_once() -> None:
    with workflow_test() as test:
        run = test.start(pay, None)
        test.finish(run)
        said = [line.text for line in test.log(run) if "recorded without" in line.text]
    assert len(said) == 1
    assert "Busy.lock (TypeError: cannot pickle '_thread.lock' object)" in said[0]


def test_the_cause_of_a_failed_child_and_run_has_its_type_and_attributes() -> None:
    with workflow_test() as test:
        test.cluster.register_workflow(fails)
        run = test.start(parent, None)
        test.kill_leader_at("fails", when="after")
        assert test.finish(run) == 402
        with pytest.raises(WorkflowFailedError) as caught:
            test.finish(test.start(fails, None))
    assert isinstance(caught.value.__cause__, CardDeclined)
    assert caught.value.__cause__.code == 402


def test_exceptions_match_on_every_node_and_in_a_replay_from_a_data_directory(tmp_path: Path) -> None:
    with Cluster(3, data_dir=tmp_path / "lab") as cluster:
        run = cluster.start_workflow(pay, None, run_id="one")
        assert run.wait_for_completion(PATIENCE) == SEEN
        assert [node.result("one", PATIENCE) for node in cluster.nodes.values()] == [SEEN] * 3
        failed = cluster.start_workflow(fails, None, run_id="two")
        with pytest.raises(WorkflowFailedError):
            failed.wait_for_completion(PATIENCE)
    with Cluster(data_dir=tmp_path / "lab") as cluster:
        assert [node.result("one", PATIENCE) for node in cluster.nodes.values()] == [SEEN] * 3
        with pytest.raises(CardDeclined) as caught:
            cluster.run("one").value("declined")
        assert caught.value.code == 402
        with pytest.raises(WorkflowFailedError) as ended:
            cluster.run("two").wait_for_completion(PATIENCE)
        assert isinstance(ended.value.__cause__, CardDeclined)


def test_exceptions_match_in_processes_and_come_back_from_there() -> None:
    with Cluster(3, processes=True) as cluster:
        run = cluster.start_workflow(pay, None)
        assert run.wait_for_completion(PATIENCE) == SEEN
        assert [node.result(run.run_id, PATIENCE) for node in cluster.nodes.values()] == [SEEN] * 3
        with pytest.raises(WorkflowFailedError) as ended:
            cluster.start_workflow(fails, None).wait_for_completion(PATIENCE)
    assert isinstance(ended.value.__cause__, CardDeclined)
    assert ended.value.__cause__.code == 402

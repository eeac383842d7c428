"""Recorded histories as files, replays of them against today's code, and the check with a failover at every step."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from raftoral_nb import HistoryFileError, NonDeterminismError, WorkflowContext, WorkflowFailedError
from raftoral_nb.testing import check_determinism, replay_history, workflow_test

CALLS: list[str] = []


def charge(item: str) -> str:
    CALLS.append(item)
    return f"{item} paid"


async def order(ctx: WorkflowContext, item: str) -> str:
    total = await ctx.var("total", 1)
    paid = await ctx.compute("charge", charge, item)
    await total.update(lambda number: number + 1)

    async def branch(inner: WorkflowContext) -> int:
        return await inner.compute("in a branch", lambda: 3)

    return f"{paid} {sum(await ctx.gather(branch, branch))}"


async def renamed(ctx: WorkflowContext, item: str) -> str:
    await ctx.var("total", 1)
    return await ctx.compute("pay", charge, item)


async def shorter(ctx: WorkflowContext, item: str) -> str:
    await ctx.var("total", 1)
    return await ctx.compute("charge", charge, item)


async def another_value(ctx: WorkflowContext, item: str) -> str:
    await ctx.var("total", 2)
    return ""


async def longer(ctx: WorkflowContext, item: str) -> str:
    said = await order(ctx, item)
    await ctx.compute("mail", charge, item)
    return said


async def another_result(ctx: WorkflowContext, item: str) -> str:
    return (await order(ctx, item)).upper()


async def fails(ctx: WorkflowContext, item: str) -> None:
    await ctx.compute("charge", charge, item)
    raise ValueError(item)


async def waits(ctx: WorkflowContext, item: str) -> None:
    await ctx.compute("charge", charge, item)
    await ctx.compute("wait", asyncio.Event().wait)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    with workflow_test() as test:
        run = test.start(order, "A1")
        test.finish(run)
        return run.save_history(tmp_path / "order.json")


def test_a_history_fits_the_code_that_made_it_and_no_step_is_run(history: Path) -> None:
    CALLS.clear()
    replayed = replay_history(history, order)
    assert (replayed.steps, replayed.ended) == (5, True)
    assert CALLS == []


@pytest.mark.parametrize(
    ("code", "recorded", "asked"),
    [
        (renamed, "compute '1/charge' = 'A1 paid'", "compute '1/pay'"),
        (shorter, "update '2/total' = 2", "the end of the workflow"),
        (another_value, "var 'total' = 1", "var 'total' = 2"),
        (longer, "the end of the run", "compute '4/mail'"),
        (another_result, "the end of the run", "the end of the workflow"),
        (fails, "var '0/total' = 1", "compute '0/charge'"),
    ],
)
def test_the_first_difference_is_raised(history: Path, code: Any, recorded: str, asked: str) -> None:
    with pytest.raises(NonDeterminismError, match="does not fit what is recorded of run 'order-1'") as caught:
        replay_history(history, code)
    assert caught.value.difference is not None
    assert (caught.value.difference.recorded, caught.value.difference.asked) == (recorded, asked)


def test_a_history_of_an_unfinished_run_is_replayed_as_far_as_it_goes(tmp_path: Path) -> None:
    with workflow_test() as test:
        run = test.start(waits, "A1")
        test.settle()
        path = run.save_history(tmp_path / "waits.json")
    replayed = replay_history(path, waits)
    assert (replayed.steps, replayed.ended) == (1, False)
    with pytest.raises(NonDeterminismError, match="0/mail"):
        replay_history(path, mails)


async def mails(ctx: WorkflowContext, item: str) -> None:
    await ctx.compute("mail", charge, item)


def test_a_history_of_a_failed_run_fits_as_well(tmp_path: Path) -> None:
    with workflow_test() as test:
        run = test.start(fails, "A1")
        with pytest.raises(WorkflowFailedError):
            test.finish(run)
        path = run.save_history(tmp_path / "fails.json")
    assert replay_history(path, fails).ended


def test_a_file_says_what_it_holds_in_plain_words(history: Path) -> None:
    found = json.loads(history.read_text())
    assert (found["format"], found["workflow"], found["version"]) == (2, "order", 1)
    assert [(one["record"], one["step_id"]) for one in found["run"]["records"]][:2] == [
        ("step", "0/total"),
        ("step", "1/charge"),
    ]
    assert found["run"]["status"] == "completed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a recorded history"),
        (b"[]", "is not a recorded history"),
        (b'{"format": 1}', "is not a recorded history"),
        (b'{"format":9,"raftoral_nb":"9","python":"3","workflow":"a","version":1,"run":{}}', "has format 9"),
        (b'{"format":1,"raftoral_nb":"9","python":"3","workflow":"a","version":1,"run":{}}', "has format 1"),
        (b'{"format":2,"raftoral_nb":"9","python":"3","workflow":"a","version":1,"run":{"run_id":3}}', "damaged"),
    ],
)
def test_what_is_no_history_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "history.json"
    path.write_bytes(content)
    with pytest.raises(HistoryFileError, match=message):
        replay_history(path, order)


def test_a_replay_works_inside_a_running_loop(history: Path) -> None:
    async def main() -> int:
        return replay_history(history, order).steps

    assert anyio.run(main) == 5


# --- with a failover at every step


def test_a_deterministic_workflow_is_checked_at_every_step() -> None:
    checked = check_determinism(order, "A1")
    assert (checked.workflow, checked.steps, checked.failovers) == ("order", 5, 10)


TICKS = iter(range(10_000))


async def by_the_clock(ctx: WorkflowContext, _: None) -> None:
    await ctx.compute("first", lambda: 1)
    if next(TICKS) >= 3:  # the nodes of the first run agree; whoever replays does not
        await ctx.compute("second", lambda: 1)


def test_a_difference_that_only_a_failover_shows_is_found() -> None:
    with pytest.raises(NonDeterminismError) as caught:
        check_determinism(by_the_clock)
    assert caught.value.difference is not None
    assert "0/first" in caught.value.difference.reason or "1/second" in caught.value.difference.reason


class Thing:
    def __init__(self, value: int) -> None:
        self.value = value


async def many_types(ctx: WorkflowContext, _: None) -> dict[str, Any]:
    await ctx.var("nan", float("nan"))
    await ctx.var("set", {str(number) for number in range(20)} | {frozenset({1, 2})})
    await ctx.var("frame", pd.DataFrame({"a": [1.0, float("nan")], "b": ["x", "y"]}))
    await ctx.var("array", np.array([[1.0, np.nan], [3.0, 4.0]]).T)
    await ctx.var("thing", Thing(3))
    await ctx.var("error", ValueError("x"))
    return {"thing": Thing(4), "set": {"a", "b"}, "nan": float("nan"), "frame": pd.DataFrame({"a": [1]})}


def test_sets_nan_frames_arrays_and_instances_raise_no_false_alarm() -> None:
    checked = check_determinism(many_types)
    assert checked.steps == 6


def test_functions_with_effects_are_replaced() -> None:
    CALLS.clear()
    check_determinism(order, "A1", replace={"charge": lambda item: "nothing"})
    assert CALLS == []


def test_a_run_that_fails_is_checked_like_any_other() -> None:
    assert check_determinism(fails, "A1").failovers == 2

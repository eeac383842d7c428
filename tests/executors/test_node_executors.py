"""The executors of a node: what is asked of an adapter, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftoral_nb import UnknownExecutorError
from raftoral_nb.executors.executor_table import ExecutorFactory
from raftoral_nb.executors.node_executors import NodeExecutors
from raftoral_nb.executors.step_adapter import Keeps
from raftoral_nb.executors.step_work import (
    Checkpoint,
    CheckpointAnswer,
    Hear,
    Said,
    SavedValue,
    Work,
    WorkAnswer,
    encoded_answer,
)
from raftoral_nb.threads.step_threads import InlineSteps
from raftoral_nb.workflow.execution.elsewhere import AskedElsewhere, RanElsewhere
from raftoral_nb.workflow.execution.running_step import RunningStep
from raftoral_nb.workflow.execution.telling import Sender


class Keeper:
    """An adapter that writes down what is asked of it, and keeps tasks until they are ended by the test."""

    keeps: Keeps = "running and done"

    def __init__(self, held: Sequence[str] = ()) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.works: list[Work] = []
        self.outcomes: dict[str, asyncio.Future[bytes]] = {}
        self._held = held
        self.came: asyncio.Queue[str] = asyncio.Queue()

    async def place(self) -> str:
        return "here"

    async def submit(self, key: str, work: Work) -> None:
        self.asked.append(("submit", key))
        self.works.append(work)
        self.outcomes[key] = asyncio.get_running_loop().create_future()
        self.came.put_nowait(key)

    async def outcome(self, key: str) -> bytes:
        return await asyncio.shield(self.outcomes[key])

    def progress(self, key: str, hear: Hear) -> None:
        hear(Said("progress", "heard", 0.25))

    def cancel(self, key: str) -> None:
        self.asked.append(("cancel", key))

    def release(self, keys: Sequence[str]) -> None:
        self.asked.append(("release", *keys))

    def held(self) -> Sequence[str]:
        return self._held

    def close(self) -> None:
        self.asked.append(("close",))


def executors(adapter: object, on: str = "kept") -> NodeExecutors:
    factories: dict[str, ExecutorFactory] = {on: lambda: adapter}
    return NodeExecutors("node", factories, InlineSteps())


def asked(*, attempt: int = 1, given_up: bool = False, told: list[Any] | None = None) -> AskedElsewhere:
    tell = (lambda event: None) if told is None else told.append
    running = RunningStep(
        1,
        "r",
        "0/fit",
        attempt,
        lambda: 0.0,
        tell,
        cast("Sender", None),
        cast(
            "Any",
            SimpleNamespace(
                run_id="r",
                rights=SimpleNamespace(now=lambda step_id: None),
                around=SimpleNamespace(step_state=lambda *_: None),
            ),
        ),
    )
    return AskedElsewhere("kept", "digest/r/0/fit", running, (abs, (-3,), {}), {}, False, None, lambda: given_up)


async def submitted(adapter: Keeper, count: int) -> None:
    async with asyncio.timeout(10):
        for _ in range(count):
            await adapter.came.get()


def test_the_key_has_the_attempt_and_all_of_a_steps_keys_are_released_with_its_record() -> None:
    async def body() -> None:
        adapter = Keeper()
        node = executors(adapter)
        for attempt in (1, 2):
            run = asyncio.create_task(node.run(asked(attempt=attempt)))
            await submitted(adapter, 1)
            ran = RanElsewhere(value=b"3")
            adapter.outcomes[f"digest/r/0/fit/{attempt}"].set_result(encoded_answer(WorkAnswer(ran)))
            assert await run == ran
        node.recorded("kept", "digest/r/0/fit")
        node.recorded("kept", "digest/r/0/fit")
        assert adapter.asked[2:] == [("release", "digest/r/0/fit/1", "digest/r/0/fit/2")]

    asyncio.run(body())


@pytest.mark.parametrize("given_up", [True, False], ids=["the step is given up", "the node ceases to act"])
def test_what_an_executor_keeps_is_cancelled_only_if_nobody_will_ask_for_it(given_up: bool) -> None:
    async def body() -> None:
        adapter = Keeper()
        node = executors(adapter)
        run = asyncio.create_task(node.run(asked(given_up=given_up)))
        await submitted(adapter, 1)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert (("cancel", "digest/r/0/fit/1") in adapter.asked) is given_up

    asyncio.run(body())


def test_what_is_heard_is_told_of_the_step_that_runs_here() -> None:
    async def body() -> None:
        adapter, told = Keeper(), list[Any]()
        run = asyncio.create_task(executors(adapter).run(asked(told=told)))
        await submitted(adapter, 1)
        assert [(event.fraction, event.text) for event in told] == [(0.25, "heard")]
        run.cancel()

    asyncio.run(body())


def test_what_a_dead_node_did_not_release_is_released_by_the_next_that_connects() -> None:
    async def body() -> None:
        adapter = Keeper(held=["digest/r/0/fit/1", "digest/r/1/other/1"])
        node = executors(adapter)
        node.recorded("kept", "digest/r/0/fit")  # from the log
        assert await node.place("kept", "digest/r/2/next") == "here"
        assert adapter.asked == [("release", "digest/r/0/fit/1")]

    asyncio.run(body())


def test_one_that_runs_at_most_once_says_where_it_may_begin() -> None:
    async def body() -> None:
        adapter = Keeper()
        node = executors(adapter)
        await node.place("kept", "digest/r/0/fit")
        run = asyncio.create_task(node.run(asked()))
        await submitted(adapter, 1)
        assert adapter.works[0].head.place == "here"
        run.cancel()

    asyncio.run(body())


def test_closing_leaves_what_is_kept_unless_it_is_to_be_dropped() -> None:
    async def body(drop: bool) -> list[tuple[Any, ...]]:
        adapter = Keeper()
        node = executors(adapter)
        run = asyncio.create_task(node.run(asked()))
        await submitted(adapter, 1)
        if drop:
            node.drop_kept()
        node.close()
        node.close()
        run.cancel()
        return adapter.asked[1:]

    assert asyncio.run(body(False)) == [("close",)]
    assert asyncio.run(body(True)) == [("cancel", "digest/r/0/fit/1"), ("close",)]


def test_a_browser_has_no_executors(monkeypatch: pytest.MonkeyPatch) -> None:
    from raftoral_nb.executors import node_executors

    async def body() -> None:
        with pytest.raises(UnknownExecutorError, match="runs in a browser"):
            await executors(Keeper()).run(asked())

    monkeypatch.setattr(node_executors.sys, "platform", "emscripten")  # type: ignore[attr-defined]
    asyncio.run(body())


@pytest.mark.parametrize("keeps", ["running and done", "nothing"])
def test_a_checkpoint_that_comes_late_is_answered_by_the_next_node_if_its_function_goes_on(keeps: Keeps) -> None:
    answers: list[CheckpointAnswer] = []

    class Saves(Keeper):
        def progress(self, key: str, hear: Hear) -> None:
            hear.save(Checkpoint(SavedValue(b"1"), 0.0), answers.append)

    async def body() -> None:
        adapter = Saves()
        adapter.keeps = keeps
        run = asyncio.create_task(executors(adapter).run(asked()))  # the node does not act
        await submitted(adapter, 1)
        run.cancel()
        assert [answer.refused for answer in answers] == (
            ["a checkpoint of step '0/fit' of run 'r' is not needed any more"] if keeps == "nothing" else []
        )

    asyncio.run(body())

"""Updates with handlers: `ctx.on_update`, with validators, several at once, and what becomes of them at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raftoral_nb import (
    Cluster,
    MessageSent,
    MessageTaken,
    UpdateRefusedError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
)
from raftoral_nb.api import run_requests
from raftoral_nb.core.records import Message
from tests.cluster.helpers import PATIENCE, Watch, in_thread


def results(cluster: Cluster, run_id: str) -> list[Any]:
    return [node.result(run_id, timeout=PATIENCE) for node in cluster.nodes.values() if node.alive]


def messages(run: Any) -> list[str]:
    return [one.name for one in run._host.run_record(run.run_id).records if isinstance(one, Message)]


async def account(ctx: WorkflowContext, limit: int) -> list[Any]:
    seen: list[Any] = []
    limits = await ctx.var("limit", limit)

    def not_negative(value: int) -> None:
        if value < 0:
            raise ValueError(f"a limit is not negative, and now it is {limits.value}")

    @ctx.on_update("set limit", validator=not_negative)
    async def set_limit(value: int) -> int:
        before = limits.value
        seen.append(value)
        await ctx.compute("look", lambda: value)
        if value == 13:
            raise LookupError("not thirteen")
        await limits.set(value)
        return before

    ctx.on_update("limit", lambda _: limits.value)
    await ctx.receive("close")
    return seen


def test_a_handler_answers_with_what_it_returns_and_fails_the_update_alone_with_what_it_raises(
    cluster: Cluster,
) -> None:
    run = cluster.start_workflow(account, 10)
    assert run.update("set limit", 20, timeout=PATIENCE) == 10
    with pytest.raises(LookupError, match="not thirteen"):
        run.update("set limit", 13, timeout=PATIENCE)
    assert run.update("limit", timeout=PATIENCE) == 20
    run.signal("close")
    assert run.wait_for_completion(PATIENCE) == [20, 13]
    assert results(cluster, run.run_id) == [[20, 13]] * 3


def test_a_validator_refuses_before_anything_is_recorded(cluster: Cluster) -> None:
    run = cluster.start_workflow(account, 10)
    assert run.update("set limit", 20, timeout=PATIENCE) == 10
    with pytest.raises(
        UpdateRefusedError, match="refused the update 'set limit': a limit is not negative, and now it is 20"
    ):
        run.update("set limit", -1, timeout=PATIENCE)
    assert messages(run) == ["set limit"]
    run.terminate()


def test_what_nobody_could_be_asked_about_is_refused_in_its_turn(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_requests, "_have_it_validated", lambda *_: None)
    run = cluster.start_workflow(account, 10)
    with pytest.raises(UpdateRefusedError, match="a limit is not negative"):
        run.update("set limit", -1, timeout=PATIENCE)
    assert messages(run) == ["set limit"]
    run.signal("close")
    assert run.wait_for_completion(PATIENCE) == []
    assert results(cluster, run.run_id) == [[]] * 3


def test_an_update_that_was_sent_before_is_waited_for_again_whatever_the_validator_says_now(cluster: Cluster) -> None:
    async def once(ctx: WorkflowContext, _: None) -> list[int]:
        seen: list[int] = []

        def new(value: int) -> None:
            if value in seen:
                raise ValueError("again")

        async def note(value: int) -> int:
            seen.append(value)
            return len(seen)

        ctx.on_update("note", note, validator=new)
        await ctx.receive("end")
        return seen

    run = cluster.start_workflow(once)
    assert [run.update("note", 7, timeout=PATIENCE, update_id="mine") for _ in range(2)] == [1, 1]
    run.signal("end")
    assert run.wait_for_completion(PATIENCE) == [7]


def test_several_handlers_run_at_once_also_for_what_came_before_them_and_a_restart_changes_nothing(
    cluster: Cluster,
) -> None:
    async def meeting(ctx: WorkflowContext, size: int) -> list[str]:
        come: list[str] = []
        all_there = asyncio.Event()
        await ctx.receive("open")

        async def join(name: str) -> int:
            come.append(name)
            place = len(come)
            if place == size:
                all_there.set()
            await all_there.wait()
            await ctx.compute("greet", lambda: name)
            return place

        ctx.on_update("join", join)
        await all_there.wait()
        return come

    with Watch(cluster) as watch:
        run = cluster.start_workflow(meeting, 3)
        early = [in_thread(lambda name=name: run.update("join", name, timeout=PATIENCE)) for name in "ab"]  # type: ignore[misc]
        watch.until(MessageSent, times=2)
        run.signal("open")
        last = in_thread(lambda: run.update("join", "c", timeout=PATIENCE))
        assert sorted([*(one() for one in early), last()]) == [1, 2, 3]
    came = run.wait_for_completion(PATIENCE)
    assert sorted(came) == ["a", "b", "c"]
    cluster.kill(3)
    cluster.restart(3)
    assert results(cluster, run.run_id) == [came] * 3


@pytest.mark.parametrize("unfinished", ["wait", "cancel"])
def test_a_handler_that_runs_when_the_workflow_returns_is_waited_for_or_cancelled(
    cluster: Cluster, unfinished: str
) -> None:
    async def ends(ctx: WorkflowContext, how: Any) -> str:
        begun = asyncio.Event()

        async def slow(value: str) -> Any:
            begun.set()
            return await ctx.receive(value)

        ctx.on_update("slow", slow, unfinished=how)
        await begun.wait()
        return "returned"

    with Watch(cluster) as watch:
        run = cluster.start_workflow(ends, unfinished)
        answer = in_thread(lambda: run.update("slow", "go", timeout=PATIENCE))
        watch.until(MessageTaken)
        if unfinished == "wait":
            run.signal("go", "on")
            assert answer() == "on"
        else:
            with pytest.raises(UpdateRefusedError, match="its handler was cancelled before it had an answer"):
                answer()
    assert run.wait_for_completion(PATIENCE) == "returned"
    assert results(cluster, run.run_id) == ["returned"] * 3


def test_an_update_that_comes_after_the_code_has_ended_begins_no_handler_and_its_sender_is_told(
    cluster: Cluster,
) -> None:
    async def ends(ctx: WorkflowContext, _: None) -> list[str]:
        seen: list[str] = []

        async def slow(value: str) -> None:
            seen.append(value)
            await ctx.receive("go")

        ctx.on_update("slow", slow)
        await ctx.receive("end")
        return seen

    with Watch(cluster) as watch:
        run = cluster.start_workflow(ends)
        first = in_thread(lambda: run.update("slow", "first", timeout=PATIENCE))
        watch.until(MessageTaken)
        run.signal("end")
        watch.until(MessageTaken, times=2)
        late = in_thread(lambda: run.update("slow", "late", timeout=PATIENCE))
        watch.until(MessageSent, lambda event: event.message.kind == "update", times=2)
        run.signal("go")
        assert first() is None
        with pytest.raises(UpdateRefusedError, match="ended without having answered"):
            late()
    assert run.wait_for_completion(PATIENCE) == ["first"]


def test_the_next_generation_gets_the_updates_that_no_handler_began_for(cluster: Cluster) -> None:
    async def again(ctx: WorkflowContext, generation: int) -> int:
        if generation == 1:
            await ctx.receive("anew")
            raise ctx.continue_as_new(2)
        done = asyncio.Event()

        async def ask(value: str) -> str:
            done.set()
            return f"{value} in generation {generation}"

        ctx.on_update("ask", ask)
        await done.wait()
        return generation

    with Watch(cluster) as watch:
        run = cluster.start_workflow(again, 1)
        answer = in_thread(lambda: run.update("ask", "tea", timeout=PATIENCE))
        watch.until(MessageSent)
        run.signal("anew")
        assert answer() == "tea in generation 2"
    assert run.wait_for_completion(PATIENCE) == 2


def test_a_cancelled_run_cancels_its_handlers_which_may_clean_up(cluster: Cluster) -> None:
    async def waits(ctx: WorkflowContext, _: None) -> None:
        async def slow(_: None) -> None:
            try:
                await ctx.receive("never")
            finally:
                await ctx.compute("clean up", lambda: "cleaned")

        ctx.on_update("slow", slow)
        await ctx.receive("end")

    with Watch(cluster) as watch:
        run = cluster.start_workflow(waits)
        answer = in_thread(lambda: run.update("slow", timeout=PATIENCE))
        watch.until(MessageTaken)
        run.cancel("enough")
        with pytest.raises(UpdateRefusedError):
            answer()
    with pytest.raises(WorkflowCancelledError, match="enough"):
        run.wait_for_completion(PATIENCE)
    assert run.value("clean up") == "cleaned"


def test_what_is_no_handler_fails_the_workflow_and_says_so(cluster: Cluster) -> None:
    async def wrong(ctx: WorkflowContext, what: str) -> None:
        async def looks(_: Any) -> None: ...

        if what == "handler":
            ctx.on_update("a", 3)  # type: ignore[call-overload]
        elif what == "validator":
            ctx.on_update("a", looks, validator=looks)
        else:
            ctx.on_update("a", looks, unfinished="perhaps")  # type: ignore[call-overload]

    for what, said in (("handler", "takes a function"), ("validator", "not async"), ("option", '"wait" or "cancel"')):
        with pytest.raises(WorkflowFailedError, match=said):
            cluster.start_workflow(wrong, what).wait_for_completion(PATIENCE)


def test_taking_a_message_is_told_once_by_the_node_that_acts(cluster: Cluster) -> None:
    async def takes(ctx: WorkflowContext, _: None) -> list[Any]:
        ctx.on_update("up", lambda value: value)
        return [await ctx.receive("a"), await ctx.receive("a")]

    with Watch(cluster) as watch:
        run = cluster.start_workflow(takes)
        sent = [run.signal("b"), run.signal("a", 1)]
        run.update("up", 2, timeout=PATIENCE, update_id="mine")
        sent.append(run.signal("a", 3))
        assert run.wait_for_completion(PATIENCE) == [1, 3]
        watch.until(MessageTaken, times=3)
        told = watch.of(MessageTaken)
    assert [event.message_id for event in told] == [sent[1], "mine", sent[2]]
    assert {event.node for event in told} == {cluster.leader}

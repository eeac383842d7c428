"""The code of a run, and the line that each node is at."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb.core.statistics import RunCode
from raftoral_nb.errors import RunNotFoundError
from raftoral_nb.hosts.code_positions import MAX_PLACES
from raftoral_nb.testing import workflow_test


def lines_at(code: RunCode, node: int) -> dict[str, str]:
    """By branch, the line of the workflow's text that the node is at."""
    return {place.branch: code.lines[place.line - code.first_line].strip() for place in code.places[node]}


async def wait_for(ctx: Any, name: str) -> Any:
    return await ctx.receive(name)


async def approval(ctx: Any, item: str) -> Any:
    await ctx.compute("price", lambda: 3)
    first = await ctx.receive("approve")
    return first, await wait_for(ctx, "again")


async def both(ctx: Any, _: None) -> Any:
    async def left(ctx: Any) -> None:
        await ctx.receive("left")

    async def right(ctx: Any) -> None:
        await ctx.compute("quick", lambda: 1)
        await ctx.receive("right")

    await ctx.gather(left, right)


def test_the_code_of_a_run_comes_with_the_line_that_each_node_waits_at() -> None:
    with workflow_test(nodes=3) as test:
        run = test.start(approval, "tea")
        test.settle()
        code = run.code()
        assert code.lines[0] == "async def approval(ctx: Any, item: str) -> Any:"
        assert code.lines[-1].strip().startswith("return first")
        assert (code.workflow, code.version, code.file) == ("approval", 1, "test_run_code.py")
        assert [lines_at(code, node) for node in (1, 2, 3)] == [{"": 'first = await ctx.receive("approve")'}] * 3
        run.signal("approve", True)
        test.settle()
        place = run.code().places[2][0]
        assert (place.function, place.own, place.file) == ("wait_for", True, "test_run_code.py")
        run.signal("again", True)
        assert test.finish(run) == (True, True)
        assert set(run.code().places.values()) == {()}
        assert run.code().lines == code.lines


def test_each_branch_that_runs_has_a_place_and_a_node_that_is_held_stays_where_it_is() -> None:
    with workflow_test(nodes=3) as test:
        late = next(node for node in (1, 2, 3) if node != test.cluster.leader)
        test.cluster.hold(late)
        run = test.start(both, None)
        test.settle()
        code = run.code()
        assert code.places[late] == ()
        assert lines_at(code, test.cluster.leader or 0) == {
            "": "await ctx.gather(left, right)",
            "0.0.": 'await ctx.receive("left")',
            "0.1.": 'await ctx.receive("right")',
        }
        test.cluster.kill(late)
        assert late not in run.code().places
        run.signal("left")
        run.signal("right")
        test.finish(run)


def test_a_run_that_is_not_known_has_no_code() -> None:
    with workflow_test() as test, pytest.raises(RunNotFoundError):
        test.cluster.run("nobody").code()


def test_of_many_branches_some_have_a_place_and_the_others_are_counted() -> None:
    async def many(ctx: Any, number: int) -> None:
        async def one(ctx: Any, index: int) -> None:
            await ctx.receive(f"go {index}")

        await ctx.map(one, range(number))

    with workflow_test(nodes=1) as test:
        run = test.start(many, 30)
        test.settle()
        code = run.code()
        assert [place.branch for place in code.places[1]] == ["", *(f"0.{index}." for index in range(MAX_PLACES - 1))]
        assert code.more[1] == 31 - MAX_PLACES
        run.terminate()
        test.settle()
        assert code.more[1] + len(run.code().places[1]) == 31 - MAX_PLACES

"""The fixture `workflow_test` and the function of that name can each be used as the other is."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from raftoral_nb import WorkflowContext, testing
from raftoral_nb.testing import WorkflowTest, workflow_test
from raftoral_nb.testing.workflow_tests import WorkflowTestFactory


async def order(ctx: WorkflowContext, item: str) -> str:
    return await ctx.compute("charge", "{} paid".format, item)


def test_the_fixture_is_a_test_that_has_begun(workflow_test: WorkflowTest) -> None:
    run = workflow_test.start(order, "A1")
    workflow_test.kill_leader_at("charge")
    assert workflow_test.finish(run) == "A1 paid"
    assert workflow_test.effects("charge") == 2


def test_the_fixture_can_be_called_as_the_function(workflow_test: WorkflowTest) -> None:
    with workflow_test(nodes=5, seed=3) as test:
        assert len(test.cluster.nodes) == 5
        assert test.finish(test.start(order, "A1")) == "A1 paid"
    assert workflow_test.finish(workflow_test.start(order, "A2")) == "A2 paid"


def test_the_fixture_can_be_entered_and_goes_on_after_the_block(workflow_test: WorkflowTest) -> None:
    with workflow_test as test:
        assert test.finish(test.start(order, "A1")) == "A1 paid"
    assert workflow_test.finish(workflow_test.start(order, "A2")) == "A2 paid"


def test_so_it_can_asynchronously(workflow_test: WorkflowTest) -> None:
    async def main() -> None:
        async with workflow_test as test, workflow_test(nodes=1) as other:
            for one in (test, other):
                assert await one.finished(one.start(order, "A1")) == "A1 paid"

    anyio.run(main)


def test_the_function_can_be_entered_without_a_call() -> None:
    with workflow_test as outer, workflow_test as inner:
        assert outer is not inner
        for test in (inner, outer):
            assert test.finish(test.start(order, "A1")) == "A1 paid"


own: list[Any] = []


@pytest.mark.parametrize("turn", [1, 2])
def test_the_function_can_be_used_as_the_fixture_and_each_test_has_its_own(turn: int) -> None:
    like_the_fixture: Any = workflow_test
    run = like_the_fixture.start(order, "A1", run_id="same in every test")
    assert like_the_fixture.finish(run) == "A1 paid"
    assert like_the_fixture.effects("charge") == 1
    own.append(like_the_fixture.cluster)
    assert len({id(one) for one in own}) == turn
    assert [one.running for one in own] == [False] * (turn - 1) + [True]


def test_elsewhere_than_in_a_test_it_says_how_it_is_used() -> None:
    fresh: Any = WorkflowTestFactory()
    with pytest.raises(AttributeError, match=r"with workflow_test\(\) as test"):
        fresh.start(order, "A1")
    with pytest.raises(AttributeError, match="has no 'begin'"):
        fresh.begin()
    assert testing.workflow_test is workflow_test

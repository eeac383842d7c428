"""How many records programs leave: whatever the order of the log says needs none of its own."""

from __future__ import annotations

from typing import Any

from raftoral_nb import WorkflowContext
from raftoral_nb.testing import workflow_test


def test_a_race_of_three_branches_with_timeouts_leaves_two_records() -> None:
    """The first format had nine: three deadlines, three sleeps, one waking, the step, and who won."""

    async def racing(ctx: WorkflowContext, _: Any) -> int:
        async def branch(c: WorkflowContext, seconds: int) -> int:
            async with c.deadline(10 + seconds):
                await c.sleep(seconds)
                return await c.compute("made", lambda: seconds)

        return await ctx.race(lambda c: branch(c, 3), lambda c: branch(c, 1), lambda c: branch(c, 2))

    with workflow_test() as test:
        run = test.start(racing, None)
        assert test.finish(run) == 1
        records = run._host.run_record(run.run_id).records
    assert [type(record).__name__ for record in records] == ["TimersFired", "Step"]

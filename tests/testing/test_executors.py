"""In tests of workflows steps with `on=` run where all others do, whichever executor they name."""

from __future__ import annotations

import threading
from typing import Any

from raftoral_nb import current_step, step
from raftoral_nb.testing import WorkflowTest


def test_a_step_on_an_executor_runs_inline_and_can_be_replaced(workflow_test: WorkflowTest) -> None:
    thread = threading.get_ident()

    def where(_: None) -> tuple[bool, str]:
        return threading.get_ident() == thread, current_step().key

    async def flow(ctx: Any, _: None) -> Any:
        return [
            await ctx.compute("where", step(where, on="processes"), None),
            await ctx.compute("other", step(where, on="dask", at_most_once=True), None),
        ]

    run = workflow_test.start(flow, None)
    assert workflow_test.finish(run) == [(True, "where"), (True, "other")]

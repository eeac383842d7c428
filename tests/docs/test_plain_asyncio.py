"""What `docs/workflows.md` says of plain asyncio: tasks share state, and what came first stays first, whoever leads and whatever restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from raftoral_nb.testing import workflow_test

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = ["four", "a", "bb", "ccc"]
BY_WAKING: Final = [1, 2, 3, 4]
"""Two are measured at the same time, and each sleeps as long as it is."""


def shown() -> Any:
    """The workflow below the heading."""
    page = (ROOT / "docs" / "workflows.md").read_text(encoding="utf-8")
    section = page.partition("\n## What a workflow can do\n")[2]
    space: dict[str, Any] = {"__name__": "page", "asyncio": asyncio, "measure": len}
    exec(section.partition("```python\n")[2].partition("```")[0], space)
    return space["sweep"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step_id", [f"t{task}.0/measure" for task in (1, 2, 3, 4)])
def test_the_sweep_of_the_page_has_one_result_wherever_its_leader_dies(step_id: str, when: Any) -> None:
    with workflow_test(nodes=3) as test:
        run = test.start(shown(), FILES)
        test.kill_leader_at(step_id, when=when, restart=True)
        assert test.finish(run) == BY_WAKING
        test.settle()
        assert [node.result(run.run_id) for node in test.cluster.nodes.values()] == [BY_WAKING] * 3


def test_every_node_that_is_restarted_in_the_middle_has_the_same_list() -> None:
    async def watched(ctx: Any, seconds: list[float]) -> list[float]:
        woke: list[float] = []
        ctx.on_query("woke", lambda: list(woke))

        async def one(length: float) -> None:
            await asyncio.sleep(length)
            woke.append(length)

        await asyncio.gather(*map(one, seconds), ctx.receive("go"))
        return woke

    with workflow_test(nodes=3) as test:
        run = test.start(watched, [2, 1, 3])
        test.advance(10)
        for number in test.cluster.nodes:
            test.cluster.kill(number)
            test.advance(5)
            test.cluster.restart(number)
            test.advance(5)
            assert run.query("woke", node=number) == [1, 2, 3]
        run.signal("go")
        assert test.finish(run) == [1, 2, 3]

"""What an executor does with what it is handed, alone: without a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from raftoral_nb import limits
from raftoral_nb.core.blob_refs import BlobRef
from raftoral_nb.core.commands import Command, ContinueRun, TerminateRun
from raftoral_nb.core.validation import Limits
from raftoral_nb.node.executor import Executor
from raftoral_nb.node.hand_over import handed_over
from raftoral_nb.node.stepping_aside import SteppingAside
from raftoral_nb.threads.step_threads import InlineSteps
from raftoral_nb.workflow.codec import values
from raftoral_nb.workflow.execution.execution import Execution
from raftoral_nb.workflow.execution.inbox import HandedOver, OwnerChanged, RunContinued, RunEnded, RunStarted
from raftoral_nb.workflow.language.context import WorkflowContext
from raftoral_nb.workflow.shipping import definitions
from tests.core.commands import definition, done, running, start


class Alone:
    """The environment of an executor that never acts (`executor.ExecutorEnv`)."""

    def propose(self, *what: Any) -> None:
        raise AssertionError("it does not act")

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        asyncio.get_running_loop().call_soon(fn, *args)

    def arm(self, seconds: float, callback: Callable[[], None]) -> None:
        """Do nothing: there is no watchdog."""

    def tell(self, event: object) -> None:
        """Do nothing: there are no observers."""

    def write(self, line: object) -> None:
        """Do nothing: output is of no interest."""

    def yield_leadership(self) -> None:
        """Do nothing: it has none."""

    def definition(self, workflow: str, version: int | None) -> None:
        """Return None: it starts nothing."""

    def holds_blob(self, digest: str) -> bool:
        """Return True: what it is given is small."""
        return True

    def fetch_blob(self, ref: BlobRef, ready: Callable[[], None]) -> None:
        """Do nothing: there is no other node."""

    max_value_bytes = limits.MAX_VALUE_BYTES

    def bring_held(self, *what: Any) -> None:
        raise AssertionError("it holds nothing")

    def drop_held(self, drop: object) -> None:
        raise AssertionError("it holds nothing")

    def step_state(self, run_id: str, step_id: str) -> None:
        """Return None: it runs no step."""

    def cached_step(self, key: str) -> None:
        """Return None: it runs no step."""


async def countdown(ctx: WorkflowContext, left: int) -> str:
    if left:
        raise ctx.continue_as_new(left - 1)
    return "done"


def generations(count: int) -> list[HandedOver]:
    """A run that began anew so many times, and has ended."""
    definition = definitions.build("countdown", 1, countdown)[0]

    def encoded(value: object) -> bytes:
        return values.encode(value, what="a value")

    return [
        RunStarted("r", definition, encoded(count)),
        *(RunContinued("r", definition, 2 + past, encoded(count - 1 - past), 0.0, ()) for past in range(count)),
        RunEnded("r", encoded("done"), None),
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_run_that_began_anew_several_times_meanwhile_is_executed_to_its_end(count: int) -> None:
    """A node that restarts gets all generations at once; the third waited for the second, which nobody woke."""

    async def main() -> tuple[str, int, bytes | None]:
        executor = Executor(1, Alone(), InlineSteps(), asyncio.get_running_loop().time)
        running = asyncio.create_task(executor.main())
        await asyncio.sleep(0)
        executor.hand_over(generations(count))
        execution = executor.execution("r")
        assert execution is not None
        async with asyncio.timeout(10):
            await execution.done.wait()
        running.cancel()
        return execution.status, execution.generation, execution.result

    assert asyncio.run(main()) == ("completed", count + 1, values.encode("done", what="a value"))


def test_runs_that_were_evicted_in_the_entry_in_which_they_began_are_not_begun() -> None:
    """Ended in it were more runs than are kept, as when a run with many children is terminated."""
    state = running("again", limits=Limits(runs_kept=1))
    commands: list[Command] = [
        start("new"),
        TerminateRun("new"),
        ContinueRun("again", 1, 1, 1, b"in"),
        TerminateRun("again"),
        start("last"),
        TerminateRun("last"),
    ]
    # What is handed over is made of the state after the whole entry.
    applied = [event for command in commands for event in done(state, command)]
    assert list(state.runs) == ["last"]
    items = [item for event in applied if (item := handed_over(event, state)) is not None]

    async def main() -> list[str]:
        executor = Executor(1, Alone(), InlineSteps(), asyncio.get_running_loop().time)
        executor.hand_over([RunStarted("again", definition(), b"in")])
        executor.hand_over(items)
        return list(executor.statistics())

    assert asyncio.run(main()) == ["last"]


def test_a_run_that_gets_an_owner_has_no_other_run_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run gets one when it starts: with thousands of them that would be millions of looks."""
    looked_at: list[str] = []

    def look(aside: SteppingAside, executions: Iterable[Execution]) -> None:
        looked_at.extend(execution.run_id for execution in executions)

    monkeypatch.setattr(SteppingAside, "look", look)

    async def main() -> None:
        executor = Executor(1, Alone(), InlineSteps(), asyncio.get_running_loop().time)
        for run_id in "abc":
            executor.hand_over([RunStarted(run_id, definition(), b"in"), OwnerChanged(run_id, None)])

    asyncio.run(main())
    assert looked_at == ["a", "b", "c"]

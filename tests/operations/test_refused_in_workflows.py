"""What only a step may do is refused in a workflow, at the line that did it, on every node alike; and a node that differs says where."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import anyio
import anyio.to_thread
import pytest

from raftoral_nb import NonDeterminismError, WorkflowContext
from raftoral_nb.errors import NotInWorkflowError, WrongTaskError
from raftoral_nb.testing import workflow_test
from tests.operations.durable import check, echo, journal, restart_all

pytestmark = pytest.mark.filterwarnings("ignore::raftoral_nb.errors.NonDeterminismWarning")


async def thread(ctx: WorkflowContext) -> None:
    threading.Thread(target=print).start()


async def to_thread(ctx: WorkflowContext) -> None:
    await asyncio.to_thread(print)


async def anyio_thread(ctx: WorkflowContext) -> None:
    await anyio.to_thread.run_sync(print)


async def executor(ctx: WorkflowContext) -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def pool(ctx: WorkflowContext) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        threads.submit(print)


async def connection(ctx: WorkflowContext) -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def plain_socket(ctx: WorkflowContext) -> None:
    with socket.socket() as one:
        one.connect(("127.0.0.1", 9))


async def process(ctx: WorkflowContext) -> None:
    subprocess.run([sys.executable, "-c", ""], check=False)  # noqa: ASYNC221


async def async_process(ctx: WorkflowContext) -> None:
    await asyncio.create_subprocess_exec(sys.executable, "-c", "")


async def shell(ctx: WorkflowContext) -> None:
    os.system("true")  # noqa: ASYNC221


async def blocks(ctx: WorkflowContext) -> None:
    time.sleep(1)  # noqa: ASYNC251


REFUSED = [
    thread,
    to_thread,
    anyio_thread,
    executor,
    pool,
    connection,
    plain_socket,
    process,
    async_process,
    shell,
]
if sys.version_info >= (3, 13):  # before, it is not audited; the watchdog says where a node is blocked
    REFUSED.append(blocks)


@pytest.mark.parametrize("does", REFUSED)
def test_what_only_a_step_may_do_is_refused_at_its_line_and_named(does: Any) -> None:
    async def refused(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        try:
            await does(ctx)
        except NotInWorkflowError as error:
            traceback, lines = error.__traceback__, []
            while traceback is not None:
                lines.append(traceback.tb_frame.f_code.co_name)
                traceback = traceback.tb_next
            seen.append(does.__name__ in lines)
            seen.append("await ctx.compute(" in str(error))
        return await ctx.compute("after", echo, list(seen))

    assert check(refused)[0] == [True, True]


def test_another_loop_is_refused() -> None:
    async def runs(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        coroutine = echo(1)
        try:
            asyncio.run(coroutine)
        except RuntimeError as error:
            coroutine.close()
            seen.append("running event loop" in str(error))
        try:
            asyncio.get_running_loop().run_until_complete(asyncio.sleep(0))
        except NotInWorkflowError as error:
            seen.append("run_until_complete" in str(error))
        return seen

    with pytest.warns(RuntimeWarning, match="never awaited"):
        assert check(runs)[0] == [True, True]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_step_cannot_set_what_the_workflow_waits_for_as_other_nodes_would_wait_for_ever(is_async: bool) -> None:
    async def told(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        future, event = asyncio.get_running_loop().create_future(), asyncio.Event()
        waiting = asyncio.create_task(event.wait())
        await asyncio.sleep(0)

        async def later(act: Any) -> None:
            act()

        for act in (lambda: future.set_result(1), lambda: future.set_exception(OSError()), future.cancel, event.set):
            try:
                await (ctx.compute("set", later, act) if is_async else ctx.compute("set", act))
            except WrongTaskError as error:
                seen.append("Return the value from the step" in str(error))
        waiting.cancel()
        return [*seen, future.done()]

    assert check(told)[0] == [True, True, True, True, False]


FLAG: list[bool] = []


async def renames(ctx: WorkflowContext, _: None) -> None:
    await ctx.compute("first", echo, 1)
    await asyncio.gather(
        ctx.compute("left", echo, 1),
        ctx.compute("other" if FLAG else "right", echo, 2),
    )
    await ctx.receive("never")


async def waits_shorter(ctx: WorkflowContext, _: None) -> None:
    await asyncio.sleep(1 if FLAG else 2)
    await ctx.receive("never")


@pytest.mark.parametrize(
    ("workflow", "recorded", "asked", "line"),
    [
        (renames, "compute 't2.0/right' = 2", "compute 't2.0/other'", "await asyncio.gather("),
        (waits_shorter, "timers that fired", "a time to come", ""),
    ],
)
def test_a_node_that_differs_says_both_sides_and_the_line(workflow: Any, recorded: str, asked: str, line: str) -> None:
    FLAG.clear()
    with workflow_test() as test:
        run = test.start(workflow, None)
        test.advance(5)
        FLAG.append(True)
        restart_all(test)
        test.settle()
        held = run.held
        assert held is not None
        assert held.recorded == recorded
        assert held.asked == asked
        assert line in held.line
        assert (workflow.__name__ in held.where) == bool(line)
        with pytest.raises(NonDeterminismError):
            test.raise_divergence(run)
    FLAG.clear()

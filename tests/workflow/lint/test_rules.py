"""Plain asyncio and anyio are the language of workflows: only what their loop refuses, or what differs on another node, is pointed at."""

from __future__ import annotations

import asyncio
import sys

import pytest

from raftoral_nb.workflow.lint.checker import Finding, findings
from raftoral_nb.workflow.loop import asyncio_patches
from tests.workflow.conftest import RunCell

HEAD = """
import asyncio, contextlib, signal, socket, threading, time
import anyio, anyio.to_thread, anyio.from_thread
from contextlib import aclosing
LOCK = asyncio.Lock()
QUEUE = asyncio.Queue()
GATE = anyio.Event()

class Own(asyncio.Event):
    pass

OWN = Own()

def pure(x):
    return x + 1

async def helper(x):
    return x, time.time()

async def worker(ctx, x):
    return await ctx.compute("work", pure, x)

async def letters(text):
    try:
        for letter in text:
            yield letter
    finally:
        print("closed")

async def numbers():
    yield 1
    yield 2
"""


def check(run_cell: RunCell, body: str) -> tuple[Finding, ...]:
    lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    return findings(run_cell(f"{HEAD}\nasync def flow(ctx, input):\n{lines}\n")["flow"])


@pytest.mark.parametrize(
    "code",
    [
        "await asyncio.sleep(3)",
        "async with asyncio.timeout(3):\n    await worker(ctx, 1)",
        "async with asyncio.timeout_at(asyncio.get_running_loop().time() + 3):\n    await worker(ctx, 1)",
        "return await asyncio.wait_for(worker(ctx, 1), 3)",
        "return await asyncio.gather(worker(ctx, 1), worker(ctx, 2))",
        "async with asyncio.TaskGroup() as group:\n    group.create_task(worker(ctx, 1))",
        "done, late = await asyncio.wait([asyncio.create_task(worker(ctx, n)) for n in range(3)], timeout=3)\nreturn [t for t in done]",
        "return [await one for one in asyncio.as_completed([worker(ctx, n) for n in range(3)])]",
        "queue = asyncio.Queue()\nlock = asyncio.Lock()\nasync with lock:\n    await queue.put(1)\nreturn await queue.get()",
        "event, limit = asyncio.Event(), asyncio.Semaphore(2)\nasync with limit:\n    event.set()\nawait event.wait()",
        "barrier = asyncio.Barrier(1)\nchange = asyncio.Condition()\nawait barrier.wait()\nasync with change:\n    change.notify_all()",
        "return await asyncio.shield(asyncio.ensure_future(worker(ctx, 1)))",
        "tasks = {asyncio.create_task(worker(ctx, n)) for n in range(3)}\nreturn [await task for task in tasks]",
        "tasks = [asyncio.create_task(worker(ctx, n)) for n in range(3)]\nreturn [await task for task in set(tasks)]",
        "loop = asyncio.get_running_loop()\nloop.call_later(3, print, 'late')\nreturn loop.time(), loop.create_future()",
        "asyncio.get_running_loop().set_task_factory(None)",
        "task = asyncio.current_task()\ntask.add_done_callback(lambda one: None)\nreturn asyncio.all_tasks()",
        "await anyio.sleep(3)\nreturn anyio.current_time()",
        "with anyio.move_on_after(3):\n    await anyio.sleep(9)\nwith anyio.fail_after(3):\n    await worker(ctx, 1)",
        "async with anyio.create_task_group() as group:\n    group.start_soon(worker, ctx, 1)",
        "send, take = anyio.create_memory_object_stream(3)\nlimiter, lock, gate = anyio.CapacityLimiter(2), anyio.Lock(), anyio.Event()",
        "async with contextlib.AsyncExitStack() as stack:\n    await stack.enter_async_context(asyncio.timeout(3))",
        "try:\n    await worker(ctx, 1)\nexcept asyncio.CancelledError as error:\n    print(f'gone: {error}')\n    raise",
        "try:\n    await worker(ctx, 1)\nexcept Exception as error:\n    return str(error)",
        "try:\n    await worker(ctx, 1)\nexcept ValueError as error:\n    return isinstance(error, UnicodeError)",
        "Interrupted = input\nreturn Interrupted",
        "loop = input\nloop.run_in_executor(None, pure)",
        "name = name()",
    ],
)
def test_plain_asyncio_raises_no_alarm(run_cell: RunCell, code: str) -> None:
    assert check(run_cell, code) == ()


@pytest.mark.parametrize(
    ("code", "what", "instead"),
    [
        ("await asyncio.to_thread(pure, 1)", "asyncio.to_thread()", "ctx.compute"),
        ("await anyio.to_thread.run_sync(pure, 1)", "anyio.to_thread.run_sync()", "ctx.compute"),
        (
            "await asyncio.get_running_loop().run_in_executor(None, pure, 1)",
            "asyncio.get_running_loop().run_in_execu…()",
            "ctx.compute",
        ),
        ("loop = asyncio.get_event_loop()\nawait loop.run_in_executor(None, pure, 1)", "loop.run_in_executor()", "ctx.c"),
        ("threading.Thread(target=pure).start()", "threading.Thread()", "ctx.compute"),
        ("await asyncio.open_connection('x', 1)", "asyncio.open_connection()", "ctx.compute"),
        ("from asyncio import open_connection as dial\nawait dial('x', 1)", "dial()", "ctx.compute"),
        ("await anyio.connect_tcp('x', 1)", "anyio.connect_tcp()", "ctx.compute"),
        ("await asyncio.create_subprocess_exec('ls')", "asyncio.create_subprocess_exec()", "ctx.compute"),
        ("await anyio.run_process(['ls'])", "anyio.run_process()", "ctx.compute"),
        ("time.sleep(3)", "time.sleep()", "ctx.compute"),
        ("asyncio.sleep(3)", "asyncio.sleep()", "`await` before it"),
        ("anyio.sleep(3)", "anyio.sleep()", "`await` before it"),
        ("async def one():\n    pass\none()", "one()", "`await` before it"),
        ("worker(ctx, 1)", "worker()", "`await` before it"),
        ("asyncio.run(input())", "asyncio.run()", "ctx.compute"),
        ("anyio.run(worker)", "anyio.run()", "ctx.compute"),
        ("loop = asyncio.new_event_loop()", "asyncio.new_event_loop()", "ctx.compute"),
        ("asyncio.get_running_loop().run_until_complete(input)", "asyncio.get_running_loop().run_until_co…()", "ctx.c"),
        ("signal.signal(2, print)", "signal.signal()", "ctx.receive"),
        ("waiting = asyncio.Future()", "asyncio.Future()", "create_future"),
        ("task = asyncio.Task(worker(ctx, 1))", "asyncio.Task()", "create_task"),
        ("asyncio.get_running_loop().set_task_factory(print)", "asyncio.get_running_loop().set_task_fac…()", "create_task"),
        ("async with LOCK:\n    pass", "LOCK", "for each run"),
        ("await QUEUE.put(input)", "QUEUE", "for each run"),
        ("await GATE.wait()", "GATE", "for each run"),
        ("await OWN.wait()", "OWN", "for each run"),
        ("return [await one for one in asyncio.as_completed({worker(ctx, n) for n in range(3)})]", "asyncio.as_completed() of a set", "sorted"),
        ("async for letter in letters(input):\n    if letter == 'a':\n        break", "async for ... in letters(input)", "aclosing"),
        ("found = letters(input)\nasync for letter in found:\n    return letter", "async for ... in found", "aclosing"),
        ("import tenacity\nreturn tenacity.wait_random(1, 2)", "tenacity.wait_random()", "Retry"),
        ("import tenacity\nreturn tenacity.AsyncRetrying(stop=tenacity.stop_after_delay(3))", "tenacity.stop_after_delay()", "Retry"),
        ("import stamina\nasync for attempt in stamina.retry_context(on=OSError):\n    pass", "stamina.retry_context()", "Retry"),
        ("import raftoral_nb\ntry:\n    await worker(ctx, 1)\nexcept raftoral_nb.CancelledRunError:\n    raise", "raftoral_nb.CancelledRunError", "asyncio.CancelledError"),
        ("try:\n    await worker(ctx, 1)\nexcept Interrupted:\n    raise", "Interrupted", "asyncio.CancelledError"),
        ("from raftoral_nb.errors import Interrupted as Gone\nwith contextlib.suppress(Gone):\n    pass", "Gone", "asyncio.CancelledError"),
        ("try:\n    await worker(ctx, 1)\nexcept Exception as error:\n    return isinstance(error, asyncio.CancelledError)", "except Exception", "finally"),
        ("try:\n    await worker(ctx, 1)\nexcept Exception as error:\n    return type(error).__name__ == 'CancelledRunError'", "except Exception", "finally"),
        ("try:\n    await worker(ctx, 1)\nexcept asyncio.CancelledError as error:\n    return 'deadline' in str(error)", "str(error)", "only that it came"),
        ("try:\n    await worker(ctx, 1)\nexcept asyncio.CancelledError as error:\n    return error.args", "error.args", "only that it came"),
    ],
)  # fmt: skip
def test_what_the_loop_refuses_or_another_node_does_differently_is_pointed_at(
    run_cell: RunCell, code: str, what: str, instead: str
) -> None:
    (found,) = check(run_cell, code)
    assert found.what == what
    assert instead in found.instead
    assert found.reason


@pytest.mark.parametrize(
    "code",
    [
        "async with aclosing(letters(input)) as found:\n    async for letter in found:\n        break",
        "found = letters(input)\nasync with contextlib.aclosing(found):\n    async for letter in found:\n        break",
        "found = letters(input)\nasync for letter in found:\n    break\nawait found.aclose()",
        "async for letter in letters(input):\n    for n in range(3):\n        break",  # the inner loop is left
        "async for number in numbers():\n    break",  # which has nothing to clean up
    ],
)
def test_a_generator_that_is_closed_or_has_nothing_to_close_raises_no_alarm(run_cell: RunCell, code: str) -> None:
    assert check(run_cell, code) == ()


def test_coroutines_given_to_asyncio_are_looked_into(run_cell: RunCell) -> None:
    for code in (
        "await asyncio.gather(helper(1), helper(2))",
        "async with asyncio.TaskGroup() as group:\n    group.create_task(helper(1))",
        "async with anyio.create_task_group() as group:\n    group.start_soon(helper, 1)",
    ):
        (found,) = check(run_cell, code)
        assert (found.function, found.what) == ("helper", "time.time()")
    (found,) = check(run_cell, "asyncio.get_running_loop().call_later(3, lambda: time.time())")
    assert found.what == "time.time()"
    (found,) = check(run_cell, "@ctx.on_update('add')\nasync def add(value):\n    return time.time()")
    assert (found.function, found.what) == ("add", "time.time()")


def test_what_asyncio_itself_does_behind_a_mended_function_is_not_looked_into(run_cell: RunCell) -> None:
    asyncio_patches.install()
    (found,) = check(run_cell, "return await asyncio.to_thread(pure, 1)")
    assert found.what == "asyncio.to_thread()"


def test_a_function_behind_a_decorator_is_looked_into(run_cell: RunCell) -> None:
    code = """
import functools, time
def twice(fn):
    @functools.wraps(fn)
    def wrapper(x):
        return fn(x), fn(x)
    return wrapper
@twice
def now(x):
    return x, time.time()
async def flow(ctx, input):
    return now(input)
"""
    (found,) = findings(run_cell(code)["flow"])
    assert (found.function, found.what) == ("now", "time.time()")


def test_a_decorator_that_retries_at_random_is_pointed_at_where_it_stands(run_cell: RunCell) -> None:
    code = """
import tenacity
@tenacity.retry(wait=tenacity.wait_random(1, 2), stop=tenacity.stop_after_attempt(3))
async def fetch():
    return await worker(ctx, 1)
return await fetch()
"""
    (found,) = check(run_cell, code)
    assert (found.function, found.what) == ("fetch", "tenacity.wait_random()")
    assert check(run_cell, code.replace("wait_random(1, 2)", "wait_fixed(1)")) == ()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", "random"),
        ("wait_jitter=0", "clock"),
        ("timeout=None", "random"),
        ("wait_jitter=0.0, timeout=None", ""),
        ("wait_jitter=input, timeout=None", ""),
        ("**input", ""),
    ],
)
def test_a_retry_of_stamina_is_fine_without_jitter_and_timeout(run_cell: RunCell, options: str, found: str) -> None:
    reasons = [one.reason for one in check(run_cell, f"import stamina\nstamina.retry_context(on=OSError, {options})")]
    assert len(reasons) == bool(found)
    assert all(found in reason for reason in reasons)


def test_a_name_that_was_imported_before_asyncio_was_mended_is_pointed_at(run_cell: RunCell) -> None:
    asyncio_patches.install()
    mended = {"as_completed": asyncio.as_completed, "all_tasks": asyncio.all_tasks}
    if sys.version_info < (3, 12):
        mended["wait_for"] = asyncio.wait_for
    for name, function in mended.items():
        cell = f"async def flow(ctx, input):\n    return {name}(input)"
        earlier = getattr(function, "__wrapped__")  # noqa: B009 - functools.wraps sets it
        (found,) = findings(run_cell(cell, {"__name__": "__main__", name: earlier})["flow"])
        assert found.what == f"{name}()"
        assert "imported before" in found.reason
        assert findings(run_cell(cell, {"__name__": "__main__", name: function})["flow"]) == ()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.eager_task_factory came with Python 3.12")
def test_the_eager_task_factory_is_fine(run_cell: RunCell) -> None:
    assert check(run_cell, "asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)") == ()

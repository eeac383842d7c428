"""What is mended and refused while a workflow runs, and that it is so for nothing else."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import concurrent.futures
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from raftoral_nb.errors import NotInWorkflowError
from raftoral_nb.workflow.loop import asyncio_patches
from raftoral_nb.workflow.loop.asyncio_patches import REFUSED_EVENTS, install

from .driver import Driver, World, play

POOL = concurrent.futures.ThreadPoolExecutor(1)
ADDRESS = ("127.0.0.1", 9)


def connect() -> None:
    with socket.socket() as one:
        one.connect(ADDRESS)


def bind() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))


THREAD = "starting a thread"
REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("socket.connect()", connect),
    ("socket.bind()", bind),
    ("socket.getaddrinfo()", lambda: socket.getaddrinfo("localhost", 80)),
    ("socket.gethostbyname()", lambda: socket.gethostbyname("localhost")),
    ("subprocess", lambda: subprocess.run([sys.executable, "-V"], check=True)),
    ("os.system()", lambda: os.system("true")),
    (THREAD, threading.Thread(target=print).start),
    (THREAD, threading.Timer(1, print).start),
    ("ThreadPoolExecutor.submit()", lambda: POOL.submit(int)),
    ("loop.run_in_executor()", lambda: asyncio.get_running_loop().run_in_executor(None, print)),
    ("loop.add_reader()", lambda: asyncio.get_running_loop().add_reader(0, print)),
    ("loop.add_signal_handler()", lambda: asyncio.get_running_loop().add_signal_handler(2, print)),
    ("loop.run_forever()", lambda: asyncio.get_running_loop().run_forever()),
    ("loop.stop()", lambda: asyncio.get_running_loop().stop()),
    ("loop.close()", lambda: asyncio.get_running_loop().close()),
]
if sys.version_info >= (3, 13):
    REFUSED.append(("time.sleep()", lambda: time.sleep(0)))

REFUSED_AWAITS: list[tuple[str, Callable[[], Any]]] = [
    ("asyncio.to_thread()", lambda: asyncio.to_thread(int)),
    ("anyio.to_thread.run_sync()", lambda: anyio.to_thread.run_sync(int)),
    ("loop.create_connection()", lambda: asyncio.open_connection(*ADDRESS)),
    ("loop.create_server()", lambda: asyncio.start_server(print, *ADDRESS)),
    ("loop.subprocess_exec()", lambda: asyncio.create_subprocess_exec("true")),
    ("loop.subprocess_shell()", lambda: asyncio.create_subprocess_shell("true")),
    ("loop.getaddrinfo()", lambda: asyncio.get_running_loop().getaddrinfo("localhost", 80)),
]


@pytest.mark.parametrize(("what", "attempt"), REFUSED, ids=[f"{what}-{i}" for i, (what, _) in enumerate(REFUSED)])
def test_what_only_a_step_may_do_is_refused_at_the_line_that_does_it(what: str, attempt: Callable[[], object]) -> None:
    async def program(world: World) -> None:
        with pytest.raises(NotInWorkflowError) as caught:
            attempt()
        world.saw(str(caught.value))
        assert caught.value.what == what

    [message] = play(program)
    assert message.startswith(f"{what} at test_asyncio_patches.py:")
    assert 'ctx.compute("name", fn)' in message


@pytest.mark.parametrize(("what", "attempt"), REFUSED_AWAITS, ids=[what for what, _ in REFUSED_AWAITS])
def test_what_only_a_step_may_await_is_refused(what: str, attempt: Callable[[], Any]) -> None:
    async def program(world: World) -> None:
        with pytest.raises(NotInWorkflowError) as caught:
            await attempt()
        world.saw(caught.value.what)

    assert play(program) == [what]


def test_a_finally_block_of_a_dropped_execution_is_refused_them_too() -> None:
    async def program(world: World) -> None:
        try:
            await world.record("never")
        finally:
            try:
                connect()
            except NotInWorkflowError as error:
                world.saw(error.what)

    driver = Driver(program)
    driver.loop.close_run()
    assert driver.world.journal == ["socket.connect()"]


def test_the_driver_may_do_what_the_workflow_may_not() -> None:
    driver = Driver(lambda world: world.record("a"))
    with driver.loop.entered():
        bind()
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        assert POOL.submit(int).result() == 0
        time.sleep(0)
    driver.play("a")


def test_other_loops_and_threads_are_as_before() -> None:
    async def other() -> None:
        assert await asyncio.to_thread(int) == 0
        assert await anyio.to_thread.run_sync(int) == 0
        assert await asyncio.wait_for(asyncio.sleep(0, "x"), 5) == "x"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), 0.01)
        assert [await one for one in asyncio.as_completed([asyncio.sleep(0, 1)])] == [1]
        assert asyncio.current_task() in asyncio.all_tasks()
        alone = asyncio.sleep(0)
        with pytest.raises(TypeError):
            list(asyncio.as_completed(alone))  # type: ignore[arg-type]
        alone.close()
        one = asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))
        assert hash(one) == asyncio.Future.__hash__(one)
        assert repr(one).startswith("<_GatheringFuture")
        assert list(await one) == [1, 2]
        assert type(anyio.CancelScope()._child_scopes) is set  # type: ignore[attr-defined]
        time.sleep(0)  # noqa: ASYNC251
        bind()

    asyncio.run(other())


def test_importing_a_module_may_do_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_in_a_workflow.py").write_text(
        "import socket, threading, time\n"
        "with socket.socket() as one:\n    one.bind(('127.0.0.1', 0))\n"
        "thread = threading.Thread(target=int)\nthread.start()\nthread.join()\ntime.sleep(0)\n"
        "def later():\n    threading.Thread(target=int).start()\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    async def program(world: World) -> None:
        import imported_in_a_workflow  # type: ignore[import-not-found]

        with pytest.raises(NotInWorkflowError):
            imported_in_a_workflow.later()
        world.saw("imported")

    assert play(program) == ["imported"]


def test_installing_again_changes_nothing() -> None:
    before = (asyncio.as_completed, asyncio.tasks._GatheringFuture, asyncio.wait_for)  # type: ignore[attr-defined]
    install()
    assert before == (asyncio.as_completed, asyncio.tasks._GatheringFuture, asyncio.wait_for)  # type: ignore[attr-defined]


def test_a_set_of_gathered_futures_has_the_order_in_which_they_were_made() -> None:
    async def program(world: World) -> None:
        gathered = [asyncio.gather(asyncio.sleep(0, number)) for number in range(8)]
        ordinals = {one: number for number, one in enumerate(gathered)}
        done, _ = await asyncio.wait(gathered)
        world.saw([ordinals[one] for one in done])

    assert play(program) == play(program)
    [order] = play(program)
    # Neighbours have neighbouring hashes.
    assert sum(abs(one - other) == 1 for one, other in itertools.pairwise(order)) >= 6


def test_all_tasks_of_a_workflow_are_those_of_its_loop() -> None:
    async def program(world: World) -> None:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
        assert asyncio.all_tasks() == {asyncio.current_task(), *tasks}
        assert asyncio.all_tasks(world.loop) == asyncio.all_tasks()
        assert len(anyio.get_running_tasks()) == 4
        await asyncio.gather(*tasks)

    play(program)


def test_as_completed_takes_each_awaitable_once_and_refuses_a_single_one() -> None:
    async def program(world: World) -> None:
        one = world.record("a")
        task = asyncio.create_task(world.record("b"))
        world.saw([await each for each in asyncio.as_completed([task, one, task, one])])
        with pytest.raises(TypeError):
            list(asyncio.as_completed(task))  # type: ignore[arg-type]
        [each] = asyncio.as_completed([world.record("c")], timeout=2)
        with pytest.raises(TimeoutError):
            await each
        assert world.loop.next_due is None
        world.loop.tasks()[-1].cancel()
        await asyncio.sleep(0)

    assert play(program, "a", "b", 2.0) == [["a", "b"]]


def test_every_refused_event_is_one_that_python_raises_by_that_name() -> None:
    assert all(event.partition(".")[0] in {"_thread", "os", "socket", "subprocess", "time"} for event in REFUSED_EVENTS)
    assert asyncio_patches._installed

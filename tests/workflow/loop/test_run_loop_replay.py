"""The property of the loop: whatever the program, a replay of its records sees the same, turn for turn."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftoral_nb.workflow.loop import asyncio_patches, run_loop
from raftoral_nb.workflow.loop.run_future import RunFuture
from raftoral_nb.workflow.loop.run_loop import RunTask

from .driver import Driver, World

Tree = tuple[Any, ...]
"""A program: the name of a form, its parameter, and the programs in it."""

LEAVES = ("record", "record", "record", "sleep", "sleep", "pass", "fail", "put", "get", "anyio sleep", "count")
FORMS = (
    "one after the other",
    "gather",
    "gather all",
    "task group",
    "timeout",
    "wait_for",
    "wait first",
    "wait gathered",
    "as completed",
    "shield",
    "lock",
    "semaphore",
    "condition",
    "lonely",
    "generator",
    "left generator",
    "clean up",
    "anyio group",
    "anyio timeout",
    "anyio scopes",
    "anyio stream",
)


class Interpreter:
    """Runs a tree in a world. What its branches share: a counter, a queue, a lock, a semaphore, a condition."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.counter = 0
        self.queue: asyncio.Queue[int] = asyncio.Queue(2)
        self.lock = asyncio.Lock()
        self.semaphore = asyncio.Semaphore(2)
        self.condition = asyncio.Condition()

    def saw(self, what: object) -> None:
        task = self.world.loop.current
        self.world.saw((None if task is None else task.path, what, self.counter, self.world.loop.time()))

    async def run(self, tree: Tree) -> Any:
        self.saw(tree[0])
        try:
            if tree[0] in LEAVES:
                result = await self.leaf(tree[0], tree[1])
            else:
                result = await self.form(tree[0], tree[1], tree[2])
        except asyncio.CancelledError:
            self.saw((tree[0], "cancelled"))
            raise
        except Exception as error:
            self.saw((tree[0], type(error).__name__))
            raise
        self.saw((tree[0], "done", result))
        return result

    async def leaf(self, kind: str, number: int) -> Any:
        self.counter += 1
        if kind == "record":
            return await self.world.record(f"r{number}")
        if kind == "sleep":
            return await asyncio.sleep(number, number)
        if kind == "anyio sleep":
            return await anyio.sleep(number)
        if kind == "fail":
            await asyncio.sleep(0)
            raise ValueError(number)
        if kind == "put":
            return await asyncio.wait_for(self.queue.put(self.counter), 3)
        if kind == "get":
            return await asyncio.wait_for(self.queue.get(), 3)
        if kind == "count":
            for _ in range(number):
                self.counter += 1
                await asyncio.sleep(0)
        return number

    async def form(self, kind: str, number: int, trees: list[Tree]) -> Any:
        method: Callable[[int, list[Tree]], Coroutine[Any, Any, Any]] = getattr(self, f"do_{kind.replace(' ', '_')}")
        return await method(number, trees)

    async def do_one_after_the_other(self, number: int, trees: list[Tree]) -> Any:
        outcomes = []
        for tree in trees:
            try:
                outcomes.append(await self.run(tree))
            except Exception as error:
                outcomes.append(type(error).__name__)
        return outcomes

    async def do_gather(self, number: int, trees: list[Tree]) -> Any:
        return await asyncio.gather(*map(self.run, trees))

    async def do_gather_all(self, number: int, trees: list[Tree]) -> Any:
        return [str(one) for one in await asyncio.gather(*map(self.run, trees), return_exceptions=True)]

    async def do_task_group(self, number: int, trees: list[Tree]) -> Any:
        async with asyncio.TaskGroup() as group:
            for tree in trees:
                group.create_task(self.run(tree))

    async def do_timeout(self, number: int, trees: list[Tree]) -> Any:
        async with asyncio.timeout(number):
            return await self.do_gather(number, trees)

    async def do_wait_for(self, number: int, trees: list[Tree]) -> Any:
        return await asyncio.wait_for(self.do_gather(number, trees), number)

    async def do_wait_first(self, number: int, trees: list[Tree]) -> Any:
        tasks = [asyncio.create_task(self.run(tree), name=str(place)) for place, tree in enumerate(trees)]
        done, pending = await asyncio.wait(tasks, timeout=number, return_when=asyncio.FIRST_COMPLETED)
        for task in (*done, *pending):
            self.saw(task.get_name())
            task.cancel()
        await asyncio.wait(tasks)
        return [task.get_name() for task in tasks if not task.cancelled() and task.exception() is None]

    async def do_wait_gathered(self, number: int, trees: list[Tree]) -> Any:
        gathered = {asyncio.gather(self.run(tree), return_exceptions=True): place for place, tree in enumerate(trees)}
        done, pending = await asyncio.wait(gathered, timeout=number)
        for one in (*done, *pending):
            self.saw(gathered[one])
            one.cancel()

    async def do_as_completed(self, number: int, trees: list[Tree]) -> Any:
        for coming in asyncio.as_completed([self.run(tree) for tree in trees]):
            with contextlib.suppress(Exception):
                self.saw(await coming)

    async def do_shield(self, number: int, trees: list[Tree]) -> Any:
        return await asyncio.shield(asyncio.create_task(self.do_gather_all(number, trees)))

    async def do_lock(self, number: int, trees: list[Tree]) -> Any:
        async with asyncio.timeout(number), self.lock:
            self.counter += 1
        return await self.do_gather(number, trees)

    async def do_semaphore(self, number: int, trees: list[Tree]) -> Any:
        async with asyncio.timeout(number), self.semaphore:
            return await self.run(trees[0])

    async def do_condition(self, number: int, trees: list[Tree]) -> Any:
        async with self.condition:
            self.condition.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(number):
                    await self.condition.wait()
        return await self.do_gather(number, trees)

    async def do_lonely(self, number: int, trees: list[Tree]) -> Any:
        for tree in trees:
            task = asyncio.create_task(self.run(tree))
            task.add_done_callback(lambda done: None if done.cancelled() else self.saw(str(done.exception())))
        await asyncio.sleep(0)

    async def do_generator(self, number: int, trees: list[Tree]) -> Any:
        async def results() -> Any:
            try:
                for tree in trees:
                    yield await self.run(tree)
            finally:
                self.saw("generator closed")
                await asyncio.sleep(0)

        async for one in results():
            self.saw(one)
            if number == 1:
                break

    async def do_left_generator(self, number: int, trees: list[Tree]) -> Any:
        async def results() -> Any:
            try:
                for tree in trees:
                    yield await self.run(tree)
            finally:
                self.saw("left generator closed")

        cycle: list[Any] = [results()]
        cycle.append(cycle)
        return await anext(cycle[0])

    async def do_clean_up(self, number: int, trees: list[Tree]) -> Any:
        try:
            return await self.do_gather(number, trees)
        finally:
            self.saw(await self.world.record("undo"))

    async def do_anyio_group(self, number: int, trees: list[Tree]) -> Any:
        async with anyio.create_task_group() as group:
            for tree in trees:
                group.start_soon(self.run, tree)

    async def do_anyio_timeout(self, number: int, trees: list[Tree]) -> Any:
        with anyio.move_on_after(number) as scope:
            await self.do_gather(number, trees)
        return scope.cancelled_caught

    async def do_anyio_scopes(self, number: int, trees: list[Tree]) -> Any:
        async def scoped(tree: Tree) -> None:
            with anyio.CancelScope():
                await self.run(tree)

        with anyio.move_on_after(number):
            async with anyio.create_task_group() as group:
                for tree in (*trees, ("record", 0), ("record", 1)):
                    group.start_soon(scoped, tree)

    async def do_anyio_stream(self, number: int, trees: list[Tree]) -> Any:
        send, receive = anyio.create_memory_object_stream[Any](0)

        async def give() -> None:
            with send:
                for tree in trees:
                    await send.send(await self.run(tree))

        async with anyio.create_task_group() as group:
            group.start_soon(give)
            with receive:
                async for one in receive:
                    self.saw(one)


def observed(driver: Driver) -> tuple[Any, ...]:
    """What is compared after each turn."""
    world = driver.world
    waits = [(name, len(futures)) for name, futures in world.open.items()]
    return (len(world.journal), waits, driver.due, [task.path for task in driver.loop.tasks()])


def options(driver: Driver) -> list[str | float]:
    found: list[str | float] = list(driver.world.open)
    return found if driver.due is None else [*found, driver.due]


def first_run(trees: list[Tree], choices: list[int]) -> tuple[list[str | float], list[Any], list[Any]]:
    """Run a program with records in an order that is chosen; return the records, what was seen, and the journal."""
    driver = Driver(lambda world: Interpreter(world).do_one_after_the_other(0, trees))
    records: list[str | float] = []
    seen = [observed(driver)]
    for choice in (*choices, *[0] * 60):
        found = options(driver)
        if choice == 7:
            found = ["!"]
        if not found or (driver.main.done() and not driver.loop.tasks()):
            break
        records.append(found[choice % len(found)])
        driver.take(records[-1])
        seen.append(observed(driver))
    return records, seen, ended(driver)


def ended(driver: Driver) -> list[Any]:
    """Drop what is left, and return the whole journal."""
    driver.loop.close_run()
    driver.main.done() and not driver.main.cancelled() and driver.main.exception()
    return driver.world.journal


def replay(trees: list[Tree], records: list[str | float], noise: random.Random) -> tuple[list[Any], list[Any]]:
    """Run it again on another heap: other addresses, and the collector at other moments."""
    litter: list[Any] = []

    def make_noise() -> None:
        litter.extend(bytearray(noise.randrange(16, 700)) for _ in range(noise.randrange(60)))
        litter.extend(asyncio.sleep for _ in range(noise.randrange(9)))
        noise.shuffle(litter)
        del litter[: noise.randrange(len(litter) + 1)]
        if noise.random() < 0.05:
            gc.collect(noise.randrange(3))

    class Noisy(Interpreter):
        def saw(self, what: object) -> None:
            make_noise()
            super().saw(what)

    make_noise()
    driver = Driver(lambda world: Noisy(world).do_one_after_the_other(0, trees))
    seen = [observed(driver)]
    for record in records:
        make_noise()
        if record != "!" and record not in options(driver):
            seen.append(("nobody waits for", record))
            break
        driver.take(record)
        seen.append(observed(driver))
    return seen, ended(driver)


leaf = st.tuples(st.sampled_from(LEAVES), st.integers(1, 4))
programs = st.recursive(
    leaf,
    lambda inner: st.tuples(st.sampled_from(FORMS), st.integers(1, 4), st.lists(inner, min_size=1, max_size=4)),
    max_leaves=14,
)
top = st.lists(programs, min_size=1, max_size=4)
schedules = st.lists(st.integers(0, 9), max_size=25)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(top, schedules, st.integers(0, 2**32))
def test_a_replay_sees_the_same_after_every_turn(trees: list[Tree], choices: list[int], noise: int) -> None:
    records, seen, journal = first_run(trees, choices)
    again, replayed = replay(trees, records, random.Random(noise))
    assert again == seen
    assert replayed == journal


def random_tree(source: random.Random, depth: int = 3) -> Tree:
    if depth == 0 or (depth < 3 and source.random() < 0.3):
        return (source.choice(LEAVES), source.randrange(1, 5))
    inner = [random_tree(source, depth - 1) for _ in range(source.randrange(1, 5))]
    return (source.choice(FORMS), source.randrange(1, 5), inner)


def differences(programs: int, start: int = 0) -> int:
    """How many of some programs are not the same in a replay. Seeded, so it is the same in each test run, but for addresses."""
    found = 0
    for number in range(start, start + programs):
        source = random.Random(number)
        trees = [random_tree(source) for _ in range(source.randrange(1, 4))]
        choices = [source.randrange(10) for _ in range(20)]
        records, seen, journal = first_run(trees, choices)
        found += replay(trees, records, source) != (seen, journal)
    return found


def hash_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunTask, "__hash__", asyncio.Future.__hash__)
    monkeypatch.setattr(RunFuture, "__hash__", asyncio.Future.__hash__)
    monkeypatch.setattr(run_loop.RunLoop, "_task_done", lambda loop, task: loop._tasks.pop(task._n, None))


def scopes_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio_patches, "_ScopesInOrder", set)


def gathered_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: Any = asyncio.tasks
    monkeypatch.setattr(tasks, "_GatheringFuture", tasks._GatheringFuture.__base__)


def coroutines_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    mended: Any = asyncio.as_completed
    monkeypatch.setattr(asyncio, "as_completed", mended.__wrapped__)


def collector_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_loop.RunLoop, "_generator_begun", lambda loop, generator: None)
    monkeypatch.setattr(run_loop, "leave_it", None)


@pytest.fixture(autouse=True)
def only_what_is_new_is_collected() -> Iterator[None]:
    """What other tests left in this process need not be looked through each time that the collector comes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


MUTANTS = [hash_by_address, scopes_by_address, gathered_by_address, coroutines_by_address, collector_closes]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_programs_are_the_same_in_a_replay() -> None:
    assert differences(300) == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_loop_without_a_mend_is_found(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    # One is enough; they are found many times.
    assert any(differences(50, start) for start in range(0, 500, 50))

"""A tiny driver of a workflow's loop: records with a name, each of which sets the future of that name, and timers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from raftoral_nb.workflow.loop.asyncio_patches import install
from raftoral_nb.workflow.loop.run_loop import RunLoop

install()

START = 1000.0

Program = Callable[["World"], Awaitable[Any]]


class World:
    """What a program sees: a journal, and records to wait for."""

    def __init__(self, loop: RunLoop) -> None:
        self.loop = loop
        self.journal: list[Any] = []
        self.open: dict[str, list[asyncio.Future[Any]]] = {}

    def saw(self, what: object) -> None:
        self.journal.append(what)

    async def record(self, name: str) -> str:
        """Wait for the record of this name, and return the name."""
        future = self.loop.create_future()
        self.open.setdefault(name, []).append(future)
        try:
            await future
        finally:
            self.open[name].remove(future)
            if not self.open[name]:
                del self.open[name]
        return name


class Driver:
    """Drives one program, as an execution does: one record after the other, each run until it is at rest."""

    def __init__(self, program: Program, seed: str = "seed") -> None:
        self.loop = RunLoop(seed, START)
        self.world = World(self.loop)
        with self.loop.entered():
            self.main = self.loop.create_branch(self._main(program), path="", name="main")
            self.loop.run_until_rest()

    async def _main(self, program: Program) -> Any:
        return await program(self.world)

    @property
    def due(self) -> float | None:
        """The next due time, in seconds after the start."""
        due = self.loop.next_due
        return None if due is None else due - START

    def take(self, record: str | float) -> None:
        """Take a record of a name, or one of the timers that are due at so many seconds after the start; "!" cancels the main task."""
        with self.loop.entered():
            if record == "!":
                self.main.cancel()
                self.loop.run_until_rest()
            elif isinstance(record, str):
                future = self.world.open[record][0]
                if not future.done():
                    future.set_result(record)
                self.loop.run_until_rest()
            else:
                assert self.due == record
                for _ in self.loop.fire(START + record):
                    self.loop.run_until_rest()

    def play(self, *records: str | float) -> list[Any]:
        """Take these records, and return the journal of a program that has ended by then."""
        for record in records:
            self.take(record)
        assert self.main.done(), f"it waits for {sorted(self.world.open)} and until {self.due}"
        if not self.main.cancelled():
            self.main.result()
        assert self.loop.tasks() == []
        self.loop.close_run()
        return self.world.journal


def play(program: Program, *records: str | float) -> list[Any]:
    """Run a program through these records, and return its journal."""
    return Driver(program).play(*records)

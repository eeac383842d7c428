"""What the tests of Dask, ipyparallel and Ray share: workflows with steps there, and a kernel that is killed while one runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from raftoral_nb import OutcomeUnknown, Retry, StepTimeoutError, current_step, step
from tests.cluster import helpers
from tests.cluster.helpers import PATIENCE
from tests.executors import killed_kernel
from tests.executors.killed_kernel import write_and_wait

ROOT: Final = Path(__file__).parents[2]


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for what no event tells."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        threading.Event().wait(0.02)


def nothing_of_ours_is_left(ours: Callable[[str], bool]) -> None:
    """Look at our threads only, by their names: the libraries keep some of their own."""
    helpers.forget_all()
    assert not {thread.name for thread in threading.enumerate() if ours(thread.name) or "-node-" in thread.name}


def lines(folder: Path) -> list[str]:
    """How often the function began."""
    file = folder / "begun"
    return file.read_text().splitlines() if file.exists() else []


async def one_step(ctx: Any, given: tuple[str, dict[str, Any]]) -> Any:
    """A workflow: `write_and_wait` with the options that are given (`on` is one), or the name of what came of it."""
    folder, options = given
    try:
        return await ctx.compute("write", step(write_and_wait, **options), folder)
    except (OutcomeUnknown, StepTimeoutError) as error:
        return type(error).__name__


def fitting(on: str) -> Callable[[Any, None], Awaitable[Any]]:
    """A workflow: a step that continues from its checkpoint, and one that fails for good, with an exception of its own."""

    class OddError(Exception):
        def __init__(self, *, x: int) -> None:
            super().__init__("odd")
            self.x = x

    async def fit(x: int) -> tuple[int, str, Any]:
        print("fitting")
        here = current_step()
        here.progress(1.0, "fitted")
        if not here.has_last:
            await here.checkpoint("half", every=0)
            raise OddError(x=x)
        if x:
            raise OddError(x=x)
        return os.getpid(), here.idempotency_key, here.last

    async def flow(ctx: Any, _: None) -> Any:
        retry = Retry(attempts=2, first_wait=0.0)
        found = await ctx.compute("fit", step(fit, on=on, retry=retry), 0)
        try:
            await ctx.compute("fail", step(fit, on=on, retry=retry), 3)
        except OddError as error:
            return found, error.x

    return flow


def killed_and_started_again(folder: Path, address: str, once: str = "repeatedly") -> str:
    """What a kernel says of its run that is killed when the step has begun, and started again."""

    def live(life: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, killed_kernel.__file__, str(folder / "data"), address, str(folder), once, life],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    first = live("first")
    try:
        until(lambda: bool(lines(folder)), "the step did not begin")
    finally:
        first.kill()
        first.communicate()
    second = live("second")
    try:
        (folder / "go").touch()
        output, _ = second.communicate(timeout=2 * PATIENCE)
    finally:
        second.kill()
    return output.strip()

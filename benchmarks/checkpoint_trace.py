"""The path of one checkpoint: the calls, modules and moves between modules of one `ctx.compute` on three nodes.

The nodes are in memory and on the virtual clock, so the figures are exact and the same on every machine of one Python version; what
differs between versions is little. Two runs of different lengths are traced, and their difference is divided by the steps that the longer
one has more: what starts and ends a run is in neither. A *move* is a call into another module of the engine (or of PySyncObj) than the one
that the engine was in.

    python -m benchmarks.checkpoint_trace [--modules]
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import raftoral_nb
from raftoral_nb.testing import workflow_test

ENGINE: Final = str(Path(raftoral_nb.__file__).parent)
SHORT, LONG = 10, 60


class Trace:
    """A count of the calls into the engine, by module, and those that came from another module of it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.moves: Counter[tuple[str, str]] = Counter()
        self.python = 0
        """All calls of Python functions, of whatever module."""
        self.c = 0
        """All calls of functions written in C."""
        self._names: dict[str, str | None] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """See `sys.setprofile`."""
        if event == "c_call":
            self.c += 1
            return
        if event != "call":
            return
        self.python += 1
        if (module := self._module(frame)) is None:
            return
        self.calls[module] += 1
        caller = frame.f_back
        while caller is not None:
            if (before := self._module(caller)) is not None:
                if before != module:
                    self.moves[before, module] += 1
                return
            caller = caller.f_back

    def _module(self, frame: FrameType) -> str | None:
        file = frame.f_code.co_filename
        if file not in self._names:
            inside = file.startswith(ENGINE) and not file.startswith(f"{ENGINE}/testing")
            name = file.removeprefix(f"{ENGINE}/").removesuffix(".py") if inside else None
            self._names[file] = f"pysyncobj/{Path(file).stem}" if "pysyncobj" in Path(file).parts else name
        return self._names[file]


class StepPath(NamedTuple):
    """The path of one checkpoint, each number for one step."""

    python: float
    c: float
    calls: float
    modules: int
    moves: float
    by_module: dict[str, float]
    by_move: dict[tuple[str, str], float]


def traced(steps: int) -> Trace:
    """Return the trace of a run of so many steps."""

    async def sequence(ctx: Any, count: int) -> int:
        total = 0
        for number in range(count):
            total += await ctx.compute(f"step-{number}", int, 1)
        return total

    trace = Trace()
    with workflow_test(nodes=3) as test:
        test.finish(test.start(sequence, 1))
        # What a collection frees may call functions too, and when it comes depends on what ran before.
        gc.collect()
        gc.disable()
        sys.setprofile(trace)
        try:
            result = test.finish(test.start(sequence, steps))
        finally:
            sys.setprofile(None)
            gc.enable()
        assert result == steps
    return trace


def path() -> StepPath:
    """Trace two runs, and return what one step of them takes."""
    short, long = traced(SHORT), traced(LONG)
    more = LONG - SHORT
    calls, moves = long.calls - short.calls, long.moves - short.moves
    return StepPath(
        (long.python - short.python) / more,
        (long.c - short.c) / more,
        calls.total() / more,
        len([module for module, count in calls.items() if count >= more / 2]),
        moves.total() / more,
        {name: count / more for name, count in calls.most_common()},
        {move: count / more for move, count in moves.most_common()},
    )


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--modules", action="store_true", help="list the modules, and the most frequent moves")
    options = parser.parse_args()
    found = path()
    print(
        f"one ctx.compute through three nodes in memory: {found.calls:.0f} calls into {found.modules} modules, {found.moves:.0f} moves "
        f"between them; with all that they call {found.python:.0f} calls of Python functions and {found.c:.0f} of C functions"
    )
    if options.modules:
        for module, count in found.by_module.items():
            print(f"  {count:7.1f} calls  {module}")
        for (before, after), count in list(found.by_move.items())[:40]:
            print(f"  {count:7.1f} moves  {before} -> {after}")


if __name__ == "__main__":
    main()

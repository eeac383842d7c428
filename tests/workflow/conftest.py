"""Cells and fresh interpreters for the tests of code shipping."""

from __future__ import annotations

import itertools
import linecache
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]


@pytest.fixture
def run_cell() -> Iterator[RunCell]:
    """Runs source as IPython runs a cell: a new file name each time, known to linecache, in the notebook's `__main__`.

    `run_cell(source, namespace=None, *, known=True)` returns the namespace; `known=False` leaves linecache out.
    """
    numbers = itertools.count(1)
    files = []

    def run(source: str, namespace: dict[str, Any] | None = None, *, known: bool = True) -> dict[str, Any]:
        if namespace is None:
            namespace = {"__name__": "__main__"}
        source = textwrap.dedent(source)
        name = f"/tmp/ipykernel_1/{next(numbers)}{os.urandom(4).hex()}.py"
        if known:
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            files.append(name)
        exec(compile(source, name, "exec", dont_inherit=True), namespace)
        return namespace

    yield run
    for name in files:
        linecache.cache.pop(name, None)


@pytest.fixture
def run_new() -> RunNew:
    """Runs code in a fresh interpreter (arguments in `sys.argv`), and returns what it printed."""
    if sys.platform == "emscripten":
        pytest.skip("there are no processes in WebAssembly")

    def run(code: str, *arguments: object, seed: str = "0") -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run

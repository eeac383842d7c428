"""What a cell's workflow takes along of the notebook around it: modules beside it, IPython's own things, the state of arithmetic."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel_ext.conftest import Notebook

HELPERS = "import dataclasses\nRATE = {rate}\n@dataclasses.dataclass\nclass Order:\n    item: str\ndef price(item):\n    return len(item) * RATE\n"
CELL = """%%workflow
async def order(ctx, item):
    before = await ctx.compute("price", helpers.price, item)
    await ctx.receive("go")
    return before, await ctx.compute("again", helpers.price, item), price(item)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("helpers", None)


def write(folder: Path, rate: int, seconds: float) -> None:
    place = folder / "helpers.py"
    place.write_text(HELPERS.format(rate=rate))
    os.utime(place, (seconds, seconds))  # what autoreload looks at


@pytest.mark.parametrize("how", ["%autoreload", "importlib.reload(helpers)\nfrom helpers import price"])
def test_a_run_keeps_the_module_that_it_started_with_when_that_is_loaded_again(
    started: Notebook, folder: Path, how: str
) -> None:
    write(folder, 2, 1e9)
    started.ok("%load_ext autoreload\n%autoreload 1\n%aimport helpers")
    started.ok("import importlib, helpers\nfrom helpers import price")
    said = started.ok(CELL).text
    assert said.startswith("order, version 1: registered; captured helpers.py (module, ")
    started.ok("old = cluster.start_workflow('order', 'abc')\nwhile len(old.steps) < 1: pass")
    write(folder, 300, 2e9)
    started.ok("")
    started.ok(how)
    assert started.ok("helpers.price('a'), price('a')").value == (300, 300)
    assert started.ok(CELL).text.startswith("order, version 2: registered")
    started.ok("new = cluster.start_workflow('order', 'abc')\nfor run in (old, new): run.signal('go')")
    assert started.ok("old.wait_for_completion(timeout=10)").value == (6, 6, 6)
    assert started.ok("new.wait_for_completion(timeout=10)").value == (900, 900, 900)
    assert started.ok(CELL).text == "order, version 2: unchanged"


def test_ipythons_open_is_not_listed(started: Notebook, tmp_path: Path) -> None:
    place = tmp_path / "text"
    place.write_text("here")
    started.ok(f"def read():\n    with open({str(place)!r}) as file:\n        return file.read()")
    cell = "%%workflow\nasync def reads(ctx, x):\n    return await ctx.compute('read', read), open is __import__('io').open"
    assert started.ok(cell).text == "reads, version 1: registered; captured read (function, 1 kB)"
    assert started.ok("cluster.start_workflow('reads', 1).wait_for_completion(timeout=10)").value == ("here", True)


@pytest.mark.parametrize("line", ["out = !echo hello", "%timeit 1 + 1", "!echo {n}"])
def test_shell_lines_and_magics_are_named_as_they_were_written(started: Notebook, line: str) -> None:
    started.ok(f"def listing(n):\n    {line}\n    return 1")
    said = started.fails("%%workflow\nasync def lists(ctx, x):\n    return await ctx.compute('list', listing, x)")
    assert f"listing has the line `{line}` (cell" in said


def test_the_decimal_context_of_the_notebook_reaches_workflow_and_steps(started: Notebook) -> None:
    cell = (
        "%%workflow\nimport decimal\ndef third():\n    return str(decimal.Decimal(1) / 3)\n"
        "async def thirds(ctx, x):\n    return await ctx.compute('third', third), third()"
    )
    try:
        started.ok("import decimal\ndecimal.getcontext().prec = 50")
        assert "decimal context (prec=50, 1 kB)" in started.ok(cell).text
        third = "0." + "3" * 50
        assert started.ok("cluster.start_workflow('thirds').wait_for_completion(timeout=10)").value == (third, third)
    finally:
        started.ok("decimal.getcontext().prec = 28")
    assert started.ok(cell).text.startswith("thirds, version 2: registered")

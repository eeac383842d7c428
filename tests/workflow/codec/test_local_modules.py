"""Modules beside the notebook: shipped as they were when the workflow was registered, and named there."""

from __future__ import annotations

import importlib
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftoral_nb import errors, limits
from raftoral_nb.workflow.codec import local_modules
from raftoral_nb.workflow.shipping.definitions import build, load
from raftoral_nb.workflow.shipping.fingerprints import fingerprint

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]
Write = Callable[..., types.ModuleType]

_numbers = itertools.count(1)


class Folder:
    """A notebook's folder: its modules have names of this test alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = next(_numbers)

    def name(self, name: str) -> str:
        return f"{name}_{self.number}"

    def write(self, name: str, text: str) -> None:
        """Writes `name`, where `~` in names and text stands for what makes names this test's own."""
        place = self.path / name.replace("~", f"_{self.number}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text.replace("~", f"_{self.number}"))
        importlib.invalidate_caches()

    def load(self, name: str) -> types.ModuleType:
        """Imports it, or loads it again as `importlib.reload` does."""
        name = name.replace("~", f"_{self.number}")
        known = sys.modules.get(name)
        if known is None:
            return importlib.import_module(name)
        Path(importlib.util.cache_from_source(str(known.__file__))).unlink(missing_ok=True)
        return importlib.reload(known)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Folder(tmp_path)
    before = set(sys.modules)
    yield made
    for name in set(sys.modules) - before:
        if name.endswith(f"_{made.number}") or f"_{made.number}." in name:
            del sys.modules[name]


def run(function: Any, value: Any = 1) -> Any:
    try:
        function(None, value).send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def test_a_function_of_a_module_is_as_it_was_after_the_file_was_edited_and_loaded_again(
    folder: Folder, run_cell: RunCell
) -> None:
    folder.write(
        "helpers~.py",
        "RATE = 2\ndef price(item):\n    return extra(item) * RATE\ndef extra(item):\n    return len(item)\n",
    )
    helpers = folder.load("helpers~")
    cell = run_cell(
        f"import {helpers.__name__} as helpers\nfrom {helpers.__name__} import price\n"
        "async def flow(ctx, item):\n    return price(item), helpers.price(item), helpers.RATE, getattr(helpers, 'extra')(item)\n"
    )
    old, captured = build("flow", 1, cell["flow"])
    assert [(one.name, one.kind) for one in captured] == [(f"{helpers.__name__}.py", "module")]
    assert captured[0].size > 200
    before = fingerprint(cell["flow"])
    folder.write(
        "helpers~.py", "RATE = 30\ndef price(item):\n    return extra(item) * RATE\ndef extra(item):\n    return 1\n"
    )
    assert run(load(old), "abc") == (6, 6, 2, 3)
    assert fingerprint(cell["flow"]) == before, "edited, and not loaded"
    folder.load("helpers~")
    cell["price"] = helpers.price
    assert run(load(old), "abc") == (6, 6, 2, 3)
    assert fingerprint(cell["flow"]) != before
    assert run(load(build("flow", 2, cell["flow"])[0]), "abc") == (30, 30, 30, 1)


def test_comments_and_layout_of_a_module_are_no_change(folder: Folder, run_cell: RunCell) -> None:
    folder.write("helpers~.py", "def price(item):\n    return len(item)\n")
    helpers = folder.load("helpers~")
    flow = run_cell(
        f"import {helpers.__name__} as helpers\nasync def flow(ctx, item):\n    return helpers.price(item)\n"
    )["flow"]
    before = fingerprint(flow)
    folder.write(
        "helpers~.py", "# a comment\n\ndef other():\n    pass\n\ndef price(item):  # another\n    return len(item)\n"
    )
    folder.load("helpers~")
    assert fingerprint(flow) == before, "what the workflow does not use does not count"


def test_parameters_of_types_of_a_module_go_along(
    folder: Folder, run_cell: RunCell, run_new: RunNew, tmp_path: Path
) -> None:
    folder.write(
        "boxes~.py",
        "from typing import Callable, Generic, ParamSpec, TypeVar\n"
        "T, P = TypeVar('T', bound=int), ParamSpec('P')\n"
        "class Box(Generic[T]):\n    def __init__(self, it: T):\n        self.it = it\n"
        "def same(fn: Callable[P, T]) -> Callable[P, T]:\n    return fn\n"
        "def names():\n    return T.__name__, P.__name__\n",
    )
    boxes = folder.load("boxes~")
    cell = run_cell(
        f"import {boxes.__name__} as boxes\n"
        "async def flow(ctx, item):\n"
        "    return boxes.same(boxes.names)(), boxes.Box(item).it, boxes.Box.__parameters__[0].__bound__\n"
    )
    (tmp_path / "code").write_bytes(build("flow", 1, cell["flow"])[0].code)
    printed = run_new(
        """
        import asyncio, pathlib, sys
        from raftoral_nb.workflow.codec import pickling
        print(asyncio.run(pickling.loads(pathlib.Path(sys.argv[1]).read_bytes())(None, 7)))
        """,
        tmp_path / "code",
    )
    assert printed.strip() == "(('T', 'P'), 7, <class 'int'>)"


def test_another_process_runs_it_without_the_file(
    folder: Folder, run_cell: RunCell, run_new: RunNew, tmp_path: Path
) -> None:
    folder.write("shop~/__init__.py", "VAT = 2\n")
    folder.write(
        "shop~/rates.py", "from . import VAT\nTABLE = {'eur': 3}\ndef rate(name):\n    return TABLE[name] * VAT\n"
    )
    folder.write(
        "shop~/prices.py",
        "import dataclasses, functools, enum\n"
        "from typing import TypeVar\n"
        "from .rates import rate\nfrom . import rates\n"
        "T = TypeVar('T')\n"
        "class Size(enum.Enum):\n    SMALL = 1\n"
        "@dataclasses.dataclass\nclass Order:\n    item: str\n    size: Size = Size.SMALL\n"
        "    def total(self):\n        return price(self.item)\n"
        "@functools.cache\ndef price(item):\n    from .late import late\n    return len(item) * rate('eur') + rates.VAT + late()\n"
        "count = 0\ndef counted():\n    global count\n    count += 1\n    return count\n",
    )
    folder.write("shop~/late.py", "def late():\n    return 100\n")
    folder.load("shop~.prices")
    cell = run_cell(
        f"import {folder.name('shop')}.prices as prices\n"
        "def by_import(item):\n"
        f"    import {folder.name('shop')}.late\n"
        f"    from {folder.name('shop')} import rates as r\n"
        f"    return {folder.name('shop')}.late.late() + r.rate('eur')\n"
        "async def flow(ctx, item):\n"
        "    order = prices.Order(item)\n"
        "    prices.counted()\n"
        "    return order.total(), order.size.name, isinstance(order, prices.Order), prices.counted(), prices.count, by_import(item)\n"
    )
    definition, captured = build("flow", 1, cell["flow"])
    modules = [one.name.replace(folder.name("shop"), "shop") for one in captured if one.kind == "module"]
    assert sorted(modules) == ["shop/__init__.py", "shop/late.py", "shop/prices.py", "shop/rates.py"]
    expected = (3 * 6 + 2 + 100, "SMALL", True, 2, 2, 106)
    assert run(load(definition), "abc") == expected
    assert run(load(definition), "abc") == expected, "each load has a state of its own"
    assert sys.modules[f"{folder.name('shop')}.prices"].count == 0
    (tmp_path / "definition").write_bytes(msgspec.msgpack.encode(definition))
    printed = run_new(
        """
        import asyncio, pathlib, sys, msgspec
        from raftoral_nb.core import records as model
        from raftoral_nb.workflow.shipping import definitions
        definition = msgspec.msgpack.decode(pathlib.Path(sys.argv[1]).read_bytes(), type=model.Definition)
        print(asyncio.run(definitions.load(definition)(None, "abc")))
        """,
        tmp_path / "definition",
    )
    assert printed == repr(expected)


def test_what_of_a_module_cannot_be_copied_is_that_of_the_module(folder: Folder, run_cell: RunCell) -> None:
    folder.write(
        "helpers~.py",
        "import logging, threading\nlock = threading.Lock()\nlog = logging.getLogger('x')\nlarge = 'x' * 3_000_000\nsmall = []\n"
        "class Client:\n    def __init__(self):\n        self.lock = threading.Lock()\nclient = Client()\n"
        "def locked():\n    with lock:\n        log.debug('locked')\n        return lock, large, small, client\n",
    )
    helpers = folder.load("helpers~")
    flow = run_cell(
        f"import {helpers.__name__} as helpers\nasync def flow(ctx, item):\n    return helpers.locked(), helpers.lock, helpers.client, len(helpers.large)\n"
    )["flow"]
    definition, captured = build("flow", 1, flow)
    assert len(definition.code) < limits.MAX_MODULE_VALUE_BYTES
    assert captured[0].size < limits.MAX_MODULE_VALUE_BYTES
    (lock, large, small, client), same, other, _ = run(load(definition))
    assert lock is same is helpers.lock
    assert client is other is helpers.client
    assert large is helpers.large
    assert small == []
    assert small is not helpers.small


def test_what_the_code_does_not_name_is_looked_up_in_the_module_as_it_is(folder: Folder, run_cell: RunCell) -> None:
    folder.write("helpers~.py", "def left():\n    return 'left'\ndef right():\n    return 'right'\n")
    helpers = folder.load("helpers~")
    flow = run_cell(
        f"import {helpers.__name__} as helpers\nasync def flow(ctx, item):\n    return getattr(helpers, item + 't')()\n"
    )["flow"]
    copy = load(build("flow", 1, flow)[0])
    assert run(copy, "lef") == "left"
    with pytest.raises(AttributeError, match="no attribute 'upt'"):
        run(copy, "up")


def test_a_value_with_a_function_of_a_shipped_module_can_be_shipped_again(folder: Folder, run_cell: RunCell) -> None:
    folder.write(
        "helpers~.py",
        "import threading\nlock = threading.Lock()\nclass Order:\n    def go(self):\n        with lock:\n            return 5\n",
    )
    helpers = folder.load("helpers~")
    flow = run_cell(
        f"import {helpers.__name__} as helpers\nasync def flow(ctx, item):\n    return lambda: helpers.Order().go()\n"
    )["flow"]
    made = run(load(build("flow", 1, flow)[0]))

    async def again(ctx: Any, item: Any) -> Any:
        return made()

    assert run(load(build("again", 1, again)[0])) == 5


def test_a_workflow_that_a_module_defines_keeps_its_code_too(folder: Folder) -> None:
    folder.write("flows~.py", "async def flow(ctx, item):\n    return 1\n")
    flows = folder.load("flows~")
    old, captured = build("flow", 1, flows.flow)
    assert [one.name for one in captured] == [f"{flows.__name__}.py"]
    folder.write("flows~.py", "async def flow(ctx, item):\n    return 22\n")
    folder.load("flows~")
    assert [run(load(one)) for one in (old, build("flow", 2, flows.flow)[0])] == [1, 22]


def test_a_module_that_fails_is_named_with_what_it_captured(folder: Folder, run_cell: RunCell) -> None:
    folder.write(
        "helpers~.py",
        "def make():\n    import threading\n    lock = threading.Lock()\n    def used():\n        return lock\n    return used\nused = make()\n",
    )
    helpers = folder.load("helpers~")
    flow = run_cell(f"from {helpers.__name__} import used\nasync def flow(ctx, item):\n    return used()\n")["flow"]
    with pytest.raises(errors.CodeNotShippableError, match=r"captured 'lock' \(used in make.<locals>.used\)"):
        build("flow", 1, flow)


@pytest.mark.parametrize(
    "name",
    [
        "raftoral_nb.cli.demo",
        "kernel_ext.shown.words",
        "json",
        "msgspec",
        "numpy",
        "__main__",
        "pytest",
        __name__,
        "tests.cluster.helpers",
    ],
)
def test_modules_of_python_of_packages_of_ours_and_of_tests_are_not_copied(name: str) -> None:
    importlib.import_module(name)
    assert not local_modules.is_local(name)


def test_a_module_that_is_no_file_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_up", types.ModuleType("made_up"))
    assert not local_modules.is_local("made_up")
    assert not local_modules.is_local("never_loaded")

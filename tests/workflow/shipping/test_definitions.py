"""Shipping of workflow code: the decorator, what a definition holds, and a node's own copy."""

from __future__ import annotations

import asyncio
import functools
import linecache
import pickle
import textwrap
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec
import pytest

from raftoral_nb import errors, limits
from raftoral_nb.core.records import Definition
from raftoral_nb.workflow.codec import sources
from raftoral_nb.workflow.shipping import definitions
from raftoral_nb.workflow.shipping.definitions import Workflow, build, load, workflow

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]

CELL = """
from dataclasses import dataclass
import math

RATE = {"eur": 2}
count = 0

@dataclass
class Order:
    item: str
    seen = 0

def price(order):
    return len(order.item) * RATE["eur"] + math.floor(0.5)

async def flow(ctx, input):
    global count
    count += 1
    Order.seen += 1
    if input == "fail":
        raise ValueError("no such item")
    return price(Order(input)), count
"""


def result(function: Callable[..., Any], value: object) -> Any:
    return asyncio.run(function(None, value))


# --- the decorator


async def _plain(ctx: Any, value: int) -> str:
    """Does nothing."""
    return str(value)


def test_the_decorator_takes_all_its_forms() -> None:
    assert (workflow(_plain).name, workflow(_plain).version, workflow(_plain).fn) == ("_plain", None, _plain)
    assert (workflow(version=2)(_plain).name, workflow(version=2)(_plain).version) == ("_plain", 2)
    named = workflow(name="x", version=2)(_plain)
    assert (named.name, named.version, repr(named)) == ("x", 2, "Workflow('x', version=2)")
    assert named.__doc__ == "Does nothing."


def test_calling_a_workflow_calls_its_function() -> None:
    assert result(workflow(_plain), 3) == "3"


def _sync(ctx: Any, value: int) -> int:
    return 1


async def _one(ctx: Any) -> int:
    return 1


async def _three(ctx: Any, a: int, b: int) -> int:
    return 1


async def _keyword(ctx: Any, a: int, *, b: int) -> int:
    return 1


async def _generator(ctx: Any, value: int) -> Any:
    yield 1


async def _default(ctx: Any, value: int = 3, *, b: int = 4) -> int:
    return value


@pytest.mark.parametrize(
    "function",
    [
        _sync,
        _one,
        _three,
        _keyword,
        _generator,
        lambda ctx, value: 1,
        print,
        functools.partial(_plain, None),
        int,
        3,
        "name",
    ],
)
def test_what_is_no_workflow_is_refused_with_the_form_to_use(function: Any) -> None:
    with pytest.raises(errors.WorkflowDefinitionError, match=r"async def name\(ctx, input\)"):
        workflow(function)


def test_a_default_for_the_input_is_allowed() -> None:
    assert workflow(_default).name == "_default"


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True])
def test_a_version_is_a_whole_number_from_one_on(version: Any) -> None:
    with pytest.raises(errors.WorkflowDefinitionError, match="whole number"):
        workflow(version=version)(_plain)


def test_a_name_is_text() -> None:
    for name in ("", 3):
        with pytest.raises(errors.WorkflowDefinitionError, match="non-empty"):
            workflow(name=name)(_plain)  # type: ignore[arg-type]


def test_a_workflow_is_not_decorated_twice() -> None:
    with pytest.raises(errors.WorkflowDefinitionError, match="already"):
        workflow(workflow(_plain))


def test_a_workflow_pickles_with_its_function(run_cell: RunCell) -> None:
    flow = workflow(name="x", version=3)(run_cell(CELL)["flow"])
    copy = pickle.loads(cloudpickle.dumps(flow))
    assert (copy.name, copy.version, result(copy, "ab")) == ("x", 3, (4, 1))


def test_a_workflow_that_calls_itself_pickles(run_cell: RunCell) -> None:
    flow = run_cell(
        """
        from raftoral_nb.workflow.shipping.definitions import workflow
        @workflow
        async def flow(ctx, input):
            return input if input == 0 else await flow(ctx, input - 1)
        """
    )["flow"]
    assert type(flow) is Workflow
    assert result(load(build("flow", 1, flow.fn)[0]), 3) == 0
    assert result(pickle.loads(cloudpickle.dumps(flow)), 3) == 0


# --- build and load


def test_every_load_is_a_copy_with_globals_of_its_own(run_cell: RunCell) -> None:
    cell = run_cell(CELL)
    definition, _ = build("flow", 1, cell["flow"])
    one, two = load(definition), load(definition)
    assert [result(one, "ab"), result(one, "ab"), result(two, "ab")] == [(4, 1), (4, 2), (4, 1)]
    assert cell["count"] == 0
    cell["RATE"]["eur"] = 100
    assert result(two, "ab") == (4, 2)


def test_classes_of_the_notebook_are_not_altered_by_shipping(run_cell: RunCell) -> None:
    cell = run_cell(CELL)
    order = cell["Order"]
    definition, _ = build("flow", 1, cell["flow"])
    order.seen = 5
    before = dict(vars(order))
    function = load(definition)
    before.pop("__weakref__")
    assert {name: vars(order)[name] for name in before} == before
    copy = function.__globals__["Order"]
    assert copy is not order
    assert copy.seen == 0


def test_a_definition_survives_the_wire(run_cell: RunCell) -> None:
    definition, _ = build("flow", 1, run_cell(CELL)["flow"])
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(definition), type=Definition)
    assert copy == definition
    assert result(load(copy), "abc") == (6, 1)


def test_what_was_captured_is_listed_with_kind_and_size(run_cell: RunCell) -> None:
    cell = run_cell(CELL)
    cell["RATE"]["table"] = "x" * 1000
    _, captured = build("flow", 1, cell["flow"])
    kinds = {one.name: one.kind for one in captured}
    assert kinds == {"Order": "class", "count": "int", "price": "function", "RATE": "dict"}
    sizes = {one.name: one.size for one in captured}
    assert 1000 < sizes["RATE"] < 1200
    assert sizes["price"] > sizes["RATE"]
    assert all(one.size > 0 for one in captured)


def test_closures_and_defaults_are_captured_too(run_cell: RunCell) -> None:
    cell = run_cell(
        """
        def make(limit):
            async def flow(ctx, input=[1, 2]):
                return limit
            return flow
        flow = make(3)
        """
    )
    _, captured = build("flow", 1, cell["flow"])
    assert {(one.name, one.kind) for one in captured} == {("limit", "int"), ("input (default)", "list")}


@pytest.mark.parametrize(
    ("line", "name", "kind"),
    [
        ("lock", "lock", "_thread.lock"),
        ("indirect()", "lock", "_thread.lock"),
        ("holder.get('x')", "holder", "dict"),
        ("Client().go()", "lock", "_thread.lock"),
    ],
)
def test_what_cannot_be_shipped_is_named_with_advice(run_cell: RunCell, line: str, name: str, kind: str) -> None:
    cell = run_cell(
        f"""
        import threading
        lock = threading.Lock()
        fine = [1]
        holder = {{"x": threading.Lock()}}
        def indirect():
            return lock
        class Client:
            def go(self):
                return lock
        async def flow(ctx, input):
            return fine, {line}
        """
    )
    with pytest.raises(errors.CodeNotShippableError) as caught:
        build("flow", 1, cell["flow"])
    assert f"captured {name!r} (used in " in str(caught.value)
    assert f"of type {kind}" in str(caught.value)
    assert "inside the workflow or inside a step" in str(caught.value)


class _Trap:
    def __reduce__(self) -> Any:
        return (int, ("no number",))


def test_what_does_not_unpickle_is_named_when_it_is_registered(run_cell: RunCell) -> None:
    cell = run_cell("async def flow(ctx, input):\n    return trap\n", {"__name__": "__main__", "trap": _Trap()})
    with pytest.raises(errors.CodeNotShippableError, match=r"captured 'trap' .*invalid literal"):
        build("flow", 1, cell["flow"])


def test_code_over_the_limit_names_what_is_largest(run_cell: RunCell) -> None:
    cell = run_cell("small = 1\nasync def flow(ctx, input):\n    return table, small\n")
    cell["table"] = b"x" * (limits.MAX_CODE_BYTES + 1)
    with pytest.raises(
        errors.CodeNotShippableError, match=r"MAX_CODE_BYTES .* The largest: table \(bytes, 4,194,3\d\d bytes\)"
    ):
        build("flow", 1, cell["flow"])


def test_build_refuses_what_is_no_workflow() -> None:
    with pytest.raises(errors.WorkflowDefinitionError):
        build("x", 1, _sync)


def test_damaged_code_is_refused(run_cell: RunCell) -> None:
    definition, _ = build("flow", 1, run_cell(CELL)["flow"])
    with pytest.raises(errors.CodeNotShippableError, match="digest"):
        load(msgspec.structs.replace(definition, code=definition.code[:-1] + b"!"))


def test_code_that_needs_what_is_not_there_says_so() -> None:
    code = b"cno_such_module\nname\n."
    definition = Definition("flow", 1, "", definitions._digest(code), code, {})
    with pytest.raises(
        errors.CodeNotShippableError, match=r"workflow 'flow' version 1 does not unpickle here .*no_such_module"
    ):
        load(definition)


def test_a_running_thread_load_is_safe_beside_others(run_cell: RunCell) -> None:
    definition, _ = build("flow", 1, run_cell(CELL)["flow"])
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(result(load(definition), "abcd"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(8, 1)] * 8


def test_the_definition_holds_the_cells_text_and_a_traceback_shows_it_later(run_cell: RunCell) -> None:
    cell = run_cell(CELL)
    definition, _ = build("flow", 1, cell["flow"])
    name = cell["flow"].__code__.co_filename
    assert definition.sources == {name: CELL}
    linecache.cache.pop(name)
    assert linecache.getlines(name) == []
    with pytest.raises(ValueError, match="no such item") as caught:
        result(load(definition), "fail")
    assert 'raise ValueError("no such item")' in "".join(traceback.format_exception(caught.value))
    linecache.cache.pop(name)


def test_of_the_texts_put_where_tracebacks_find_them_the_latest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_shown", {})
    monkeypatch.setattr(sources, "MAX_SOURCES_SHOWN", 2)
    names = [f"<shown {number}>" for number in range(4)]
    for name in names:
        sources.show({name: f"# {name}"})
    assert [bool(linecache.getlines(name)) for name in names] == [False, False, True, True]
    for name in names:
        linecache.cache.pop(name, None)


def test_a_new_process_runs_the_definition_and_shows_its_source(
    run_cell: RunCell, run_new: RunNew, tmp_path: Path
) -> None:
    definition, _ = build("flow", 1, run_cell(CELL)["flow"])
    (tmp_path / "definition").write_bytes(msgspec.msgpack.encode(definition))
    printed = run_new(
        """
        import asyncio, pathlib, sys, msgspec, traceback
        from raftoral_nb.core import records as model
        from raftoral_nb.workflow.shipping import definitions
        data = pathlib.Path(sys.argv[1]).read_bytes()
        definition = msgspec.msgpack.decode(data, type=model.Definition)
        one, two = definitions.load(definition), definitions.load(definition)
        print(asyncio.run(one(None, "ab")), asyncio.run(two(None, "ab")), one.__globals__["Order"] is two.__globals__["Order"])
        try:
            asyncio.run(one(None, "fail"))
        except ValueError:
            print('raise ValueError("no such item")' in traceback.format_exc())
        """,
        tmp_path / "definition",
    )
    assert printed.splitlines() == ["(4, 1) (4, 1) False", "True"]


def test_functions_of_importable_modules_are_not_copied_nor_listed(run_cell: RunCell) -> None:
    cell = run_cell(
        """
        import textwrap
        from textwrap import dedent
        from collections import Counter
        async def flow(ctx, input):
            return Counter(dedent(input)), textwrap.indent, len, print
        """
    )
    definition, captured = build("flow", 1, cell["flow"])
    assert captured == ()
    assert load(definition).__globals__["dedent"] is textwrap.dedent

"""A class that is unpickled is not defined again: hooks of its metaclass and bases are not called, as they have been."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from raftoral_nb.workflow.codec import pickling, quiet, values
from raftoral_nb.workflow.shipping.definitions import build, load_all

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]

CELL = """
import abc

class Plug(abc.ABC):
    known = {}

    def __init_subclass__(cls, /, *, key, **keywords):
        super().__init_subclass__(**keywords)
        Plug.known[key] = cls

class One(Plug, key="one"):
    pass

class Two(One, key="two"):
    pass

class Table(type):
    names = []

    def __new__(metaclass, name, bases, namespace, *, table):
        made = super().__new__(metaclass, name, bases, namespace)
        made.table = table
        metaclass.names.append(name)
        return made

    def __init__(cls, name, bases, namespace, *, table):
        super().__init__(name, bases, namespace)

    def __call__(cls, *arguments):
        made = super().__call__(*arguments)
        made.called = True
        return made

class Row(metaclass=Table, table="rows"):
    def __init__(self, x=1):
        self.x = x

class Failed(Exception):
    names = []

    def __init_subclass__(cls):
        Failed.names.append(cls.__name__)

class Declined(Failed):
    pass

async def flow(ctx, value):
    return check(value)

def check(value):
    return (
        [*map(type, value)] == [Two, Row, Declined], Plug.known == {"one": One, "two": Two}, Plug.__subclasses__() == [One],
        Table.names, Row.table, value[1].x, value[1].called, Row().called, Failed.names, issubclass(Two, Plug)
    )
"""
EXPECTED = (True, True, True, ["Row"], "rows", 3, True, True, ["Declined"], True)
VALUE = "[Two(), Row(3), Declined('x')]"


def test_registries_and_hooks_with_keywords_are_as_in_the_notebook_also_in_another_process(
    run_cell: RunCell, run_new: RunNew
) -> None:
    cell = run_cell(CELL)
    value = eval(VALUE, cell)
    assert cell["check"](value) == EXPECTED
    definition, _ = build("flow", 1, cell["flow"])
    loaded = load_all(definition)
    assert (
        result(loaded.function, values.decode(values.encode(value, what="x"), what="x", view=loaded.classes))
        == EXPECTED
    )
    assert cell["check"](value) == EXPECTED, "loading left the classes of the notebook alone"
    code, data = pickling.dumps_code(cell["check"], 10**6), values.encode(value, what="x")
    for seed in ("0", "1"):
        printed = run_new(
            """
            import sys
            from raftoral_nb.workflow.codec import pickling, values
            code, data = map(bytes.fromhex, sys.argv[1:])
            check, known = pickling.loads_code(code, "check")
            print(check(values.decode(data, what="x", view=known)))
            """,
            code.hex(),
            data.hex(),
            seed=seed,
        )
        assert printed == repr(EXPECTED)


def result(function: Any, value: Any) -> Any:
    with pytest.raises(StopIteration) as done:
        function(None, value).send(None)
    return done.value.value


def test_a_class_whose_cell_was_run_again_is_one_class_in_the_code_that_uses_both(run_cell: RunCell) -> None:
    cell = run_cell("class Order:\n    pass\n\ndef make():\n    return Order()\n")
    cell["first"] = cell["Order"]
    run_cell("class Order:\n    pass\n", cell)
    run_cell("def check():\n    return type(make()) is Order and first is Order\n", cell)
    check, _ = pickling.loads_code(pickling.dumps_code(cell["check"], 10**6), "check")
    assert check()


def test_a_class_that_another_thread_defines_meanwhile_is_seen_by_the_hook(run_cell: RunCell) -> None:
    cell = run_cell(CELL)

    def define() -> None:
        run_cell("class Other(Failed):\n    pass\n", cell)

    with quiet.without_hook((cell["Failed"],)):
        run_cell("class Mine(Failed):\n    pass\n", cell)
        thread = threading.Thread(target=define)
        thread.start()
        thread.join()
    run_cell("class Later(Failed):\n    pass\n", cell)
    assert cell["Failed"].names == ["Declined", "Other", "Later"]

"""Models of pydantic that refer to themselves and to each other, and classes that do, wherever they are built anew."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from raftoral_nb.workflow.codec import classes, pickling, values

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]

CELL = """
import typing, pydantic

T = typing.TypeVar("T")

class Item(pydantic.BaseModel):
    a: int
    within: typing.Optional["Item"] = None

class Page(pydantic.BaseModel, typing.Generic[T]):
    items: list[T]

class Author(pydantic.BaseModel):
    books: typing.List["Book"] = []

class Book(pydantic.BaseModel):
    title: str
    author: typing.Optional[Author] = None

    @pydantic.field_validator("title")
    @classmethod
    def shouted(cls, title):
        return title.upper()

class Node:
    def __init__(self):
        self.edges = [Edge(self)]

class Edge:
    def __init__(self, node):
        self.node = node

    def whole(self):
        return type(self) is Edge and type(self.node) is Node

Author.model_rebuild()
"""
VALUES = {
    "Page[Item](items=[Item(a=1, within=Item(a=2))])": "type(x)(items=[{'a': '1', 'within': {'a': 2}}]) == x",
    "Author(books=[Book(title='x')])": "type(x)(books=[{'title': 'X'}]) == x and type(x.books[0])(title='y').title == 'Y'",
    "Book(title='x', author=Author())": "type(x)(title='x', author=type(x.author)(books=[x])).author.books == [x]",
    "Node()": "x.edges[0].whole() and type(x)().edges[0].whole()",
    "[Node(), Node().edges[0]]": "type(x[0]) is type(x[1].node) and x[1].whole()",
}


@pytest.fixture
def cell(run_cell: RunCell, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    main = types.ModuleType("__main__")  # where pydantic looks for names
    monkeypatch.setitem(sys.modules, "__main__", main)
    return run_cell(CELL, main.__dict__)


@pytest.mark.parametrize("value", VALUES)
def test_a_stranger_has_them_whole(value: str, cell: dict[str, Any], run_new: RunNew) -> None:
    made = eval(value, cell)
    assert eval(VALUES[value], {**cell, "x": made})
    data = values.encode(made, what="x")
    back = values.decode(data, what="x", view=classes.Known("x"))
    assert type(back) is not type(made) or type(back) is list
    assert eval(VALUES[value], {"x": back})
    code = pickling.dumps_code(lambda: made, 10**7)
    loaded, _ = pickling.loads_code(code, "x", stranger=True)
    assert eval(VALUES[value], {"x": loaded()})
    printed = run_new(
        """
        import sys
        from raftoral_nb.workflow.codec import pickling, values
        code, data, check = sys.argv[1:]
        for x in (pickling.loads_code(bytes.fromhex(code), "x")[0](), values.decode(bytes.fromhex(data), what="x")):
            print(eval(check))
        """,
        code.hex(),
        data.hex(),
        VALUES[value],
    )
    assert printed.split() == ["True", "True"]

"""`docs/reference.md`: magics, Python API and command line, made from what they themselves say."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Final

import msgspec

import raftoral_nb
from kernel_ext.magics.durable_line import DURABLE_HELP
from kernel_ext.magics.help import RAFTORAL_HELP
from kernel_ext.magics.raftoral_magics import RaftoralMagics
from kernel_ext.magics.table import TABLE
from kernel_ext.magics.workflow_line import WORKFLOW_HELP
from raftoral_nb.cli import main

ROOT: Final = Path(__file__).resolve().parents[2]
PATH: Final = ROOT / "docs" / "reference.md"

HANDLES: Final = (
    *("Cluster", "Node", "WorkflowRun", "WorkflowRuntime", "Progress", "ScenarioPlay"),
    *("WorkflowContext", "ReplicatedVar", "TaskGroup", "BranchTask", "Saga", "ChildRun", "Update", "RunningStep"),
    *("Workflow", "StepFunction", "Scenario"),
)
"""Classes that are told with their methods, in this order; those of the cluster, those of a workflow, what both are made from. Any
other class with methods follows them."""

HEAD: Final = """\
# Reference

Written by `make docs` from the docstrings, the magics' help and the parsers: change those, not this file. What all of it is for
is in the [README](../README.md), and in the [pages](index.md).

[Magics](#magics) · [Python](#python) · [Command line](#command-line)
"""


def reference() -> str:
    """The whole file."""
    parts = [HEAD, *_magics(), *_python(), *_command_line()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


# --- magics


def _magics() -> Iterator[str]:
    yield "## Magics\n\n`%load_ext raftoral_nb` brings them. `%raftoral?` shows this help."
    yield f"```text\n{RAFTORAL_HELP.rstrip()}\n```"
    yield "### Each subcommand"
    yield _table(("`%raftoral ...`", ""), [(_code(one.usage), one.does) for one in TABLE.values()])
    yield "### `%%workflow`"
    yield f"```text\n{WORKFLOW_HELP.rstrip()}\n```"
    yield "### `%%durable`"
    yield f"```text\n{DURABLE_HELP.rstrip()}\n```"
    yield "### `%config RaftoralMagics`"
    traits = RaftoralMagics.class_own_traits(config=True)
    yield _table(
        ("setting", "default", ""),
        [(_code(name), _code(str(trait.default())), trait.help) for name, trait in sorted(traits.items())],
    )


# --- Python


def _python() -> Iterator[str]:
    yield "## Python\n\nAll of these are names of `raftoral_nb`."
    things = {name: getattr(raftoral_nb, name) for name in raftoral_nb.__all__}
    yield "### Functions"
    for name, thing in things.items():
        if inspect.isfunction(inspect.unwrap(thing)):
            yield from _function(name, inspect.unwrap(thing))
    yield "### Handles"
    plain = [
        name for name, one in things.items() if isinstance(one, type) and not _is(one, BaseException | msgspec.Struct)
    ]
    for name in dict.fromkeys((*HANDLES, *plain)):
        yield from _class(name, things.pop(name))
    errors = {name: one for name, one in things.items() if _is(one, BaseException)}
    events = typing.get_args(raftoral_nb.ClusterEvent)
    told = {name: one for name, one in things.items() if one in events}
    yield "### Events\n\nWhat `cluster.events()`, `subscribe` and `history` tell."
    for name, one in told.items():
        yield from _data(name, one)
    yield "### Data"
    for name, one in things.items():
        if _is(one, msgspec.Struct) and name not in told:
            yield from _data(name, one)
    yield "### Errors\n\nAll are `RaftoralError`s, but for warnings."
    yield _table(
        ("error", "also a", ""),
        [(_code(name), ", ".join(map(_code, _bases(one))), _first(one)) for name, one in errors.items()],
    )


def _is(thing: object, kind: type | UnionType) -> bool:
    return isinstance(thing, type) and issubclass(thing, kind)


def _bases(error: type) -> list[str]:
    return [base.__name__ for base in error.__bases__ if base.__name__ != "RaftoralError"]


def _first(thing: object) -> str:
    """The first paragraph of the docstring, in one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _class(name: str, kind: type) -> Iterator[str]:
    yield f"#### `{name}`"
    if not _is(kind, msgspec.Struct) and "__init__" in vars(kind) and name not in _NOT_MADE:
        made: Any = kind.__init__  # type: ignore[misc]
        yield f"```python\n{name}{_signature(made).removesuffix(' -> None')}\n```"
    yield _told(kind)
    if _is(kind, msgspec.Struct):
        yield _fields(kind)
    for member, found in sorted(_members(kind).items()):
        if isinstance(found, property):
            result = inspect.signature(typing.cast(Any, found.fget)).return_annotation
            yield f"##### `{name}.{member}`: `{_plain(result)}`"
            yield _told(found)
        else:
            yield from _function(f"{name}.{member}", found)


_NOT_MADE: Final = frozenset(
    {
        "Node",
        "WorkflowRun",
        "WorkflowContext",
        "TaskGroup",
        "BranchTask",
        "Saga",
        "ChildRun",
        "Update",
        "ScenarioPlay",
        "RunningStep",
        "Progress",
    }
)
"""Handles that users are given, and never make."""


def _members(kind: type) -> dict[str, Any]:
    """Public methods and properties, those of our base classes among them."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("raftoral_nb"):
            continue
        for name, one in vars(base).items():
            plain = one.__func__ if isinstance(one, staticmethod | classmethod) else one
            if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
                found[name] = plain
    return found


def _function(name: str, fn: Callable[..., Any]) -> Iterator[str]:
    yield f"##### `{name}`"
    shapes = [getattr(shape, "__func__", shape) for shape in typing.get_overloads(fn) or [fn]]
    short = name.rpartition(".")[2]
    prefix = "await " if inspect.iscoroutinefunction(inspect.unwrap(fn)) else ""
    yield "```python\n" + "\n".join(f"{prefix}{short}{_signature(shape)}" for shape in shapes) + "\n```"
    yield _told(fn)


def _signature(fn: Callable[..., Any]) -> str:
    signature = inspect.signature(fn)
    kept = [one for name, one in signature.parameters.items() if name not in ("self", "cls")]
    return _plain(signature.replace(parameters=kept))


def _plain(annotated: object) -> str:
    """Annotations are text, and shown in quotes; and a default that has no short form has an address."""
    text = str(annotated) if not isinstance(annotated, type) else annotated.__name__
    text = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>", "...", text)
    return re.sub(r"""(?<=[:>] )(['"])(.*?)\1(?=[,)= ]|$)""", r"\2", text)


def _data(name: str, kind: type) -> Iterator[str]:
    yield f"#### `{name}`"
    yield _told(kind)
    yield _fields(kind)


def _fields(kind: Any) -> str:
    words = _field_words(kind)
    types = {
        name: text for base in reversed(kind.__mro__) for name, text in vars(base).get("__annotations__", {}).items()
    }
    rows = []
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else _code(_plain(_default(field)))
        rows.append((_code(field.name), _code(str(types[field.name])), default, words.get(field.name, "")))
    return _table(("field", "type", "default", ""), rows) if rows else ""


def _default(field: Any) -> str:
    if field.default is not msgspec.NODEFAULT:
        return repr(field.default)
    return (
        "{}" if "mapping" in repr(field.default_factory).lower() or "lambda" in repr(field.default_factory) else "empty"
    )


def _field_words(kind: type) -> dict[str, str]:
    """What stands below the fields in the source."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = " ".join(words.split())
    return found


def _told(thing: object) -> str:
    """The docstring; what it shows of an interpreter is code, as is what it indents."""
    lines = (inspect.getdoc(thing) or "").splitlines()
    made: list[str] = []
    inside = False
    for line in lines:
        if not inside and line.startswith(">>>"):
            made.append("```pycon")
            inside = True
        if inside and not line.strip():
            made.append("```")
            inside = False
        made.append(line)
    return "\n".join([*made, "```"] if inside else made)


# --- the command line


def _command_line() -> Iterator[str]:
    parser = main._parser()
    yield f"## Command line\n\n{parser.description}"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                yield f"### `raftoral-nb {name}`"
                yield one.description or ""
                yield _table(("argument", ""), [(_code(_argument(each)), _help(each, one)) for each in one._actions])


def _argument(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else None
    if metavar is None and action.choices is not None:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        return metavar or action.dest
    names = ", ".join(action.option_strings)
    if action.nargs == 0:
        return names
    shown = metavar or action.dest.upper()
    return f"{names} [{shown}]" if action.nargs == "?" else f"{names} {shown}"


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return (action.help or "") % {**vars(action), "prog": parser.prog}


# --- Markdown


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, rows)])

"""The rooms of the notebook side: what may import what, and that a subcommand is one module and one line of the table."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from kernel_ext.magics.completion import offers
from kernel_ext.magics.help import GROUPS, RAFTORAL_HELP, page, short_help_text
from kernel_ext.magics.known import Known
from kernel_ext.magics.parsing import parse
from kernel_ext.magics.table import TABLE

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "kernel_ext"
ROOMS: Final = ("shown", "widgets", "magics")
"""From below: each may use those before it, and `errors`."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Final = {module_of(path): path for path in FOLDER.rglob("*.py")}


def imported(module: str, source: str, *, package: bool = False) -> set[str]:
    """The modules of the extension that are named by an import, wherever it stands: for typing, or inside a function."""
    found: set[str] = set()
    here = module if package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = here.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            inner = {f"{origin}.{alias.name}" for alias in node.names}
            found |= {one if one in MODULES else origin for one in inner}
    return {one for one in found if one.split(".")[0] == "kernel_ext"}


def imports(module: str) -> set[str]:
    path = MODULES[module]
    return imported(module, path.read_text("utf-8"), package=path.name == "__init__.py")


def rank(module: str) -> int:
    """-1 for `errors`, which all may use; the place of a room; above all of them the package itself."""
    parts = module.split(".")
    if parts[1:] == ["errors"]:
        return -1
    return len(ROOMS) if len(parts) == 1 else ROOMS.index(parts[1])


def test_every_module_stands_in_a_room() -> None:
    assert {room for room in ROOMS if (FOLDER / room / "__init__.py").is_file()} == set(ROOMS)
    assert all(rank(module) <= len(ROOMS) for module in MODULES)


def test_imports_point_down_the_rooms_those_for_typing_too() -> None:
    up = [f"{module} imports {one}" for module in MODULES for one in imports(module) if rank(one) > rank(module)]
    assert not up, "\n".join(up)


def test_no_modules_import_each_other_in_a_circle_those_for_typing_too() -> None:
    graph = {module: imports(module) for module in MODULES}
    assert len(tuple(TopologicalSorter(graph).static_order())) >= len(graph)  # CycleError names the circle


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from ..magics.session import Session", {"kernel_ext.magics.session"}),
        ("from ..magics import session", {"kernel_ext.magics.session"}),
        ("from . import text, tables", {"kernel_ext.shown.text", "kernel_ext.shown.tables"}),
        ("def f():\n    from kernel_ext import errors", {"kernel_ext.errors"}),
        ("if TYPE_CHECKING:\n    import kernel_ext.widgets.view", {"kernel_ext.widgets.view"}),
        ("import ast\nfrom raftoral_nb import model", set()),
    ],
)
def test_an_import_is_seen_however_it_is_written(source: str, expected: set[str]) -> None:
    assert imported("kernel_ext.shown.words", source) == expected


# --- subcommands


def test_each_module_of_subcommands_is_one_line_of_the_table() -> None:
    modules = {path.stem for path in (FOLDER / "magics" / "subcommands").glob("*.py")} - {"__init__"}
    assert modules == set(TABLE)


def test_no_other_module_knows_a_subcommand_by_its_name() -> None:
    """The order of the lists in `help` aside, and the names of the engine's own faults."""
    known = {f"kernel_ext.magics.subcommands.{name}" for name in TABLE}
    allowed = {"kernel_ext.magics.table", "kernel_ext.magics.raftoral_magics", *known}
    outside = [
        f"{module} imports {one}" for module in MODULES for one in imports(module) & known if module not in allowed
    ]
    assert not outside


@pytest.mark.parametrize("name", TABLE)
def test_a_subcommand_has_its_parser_its_help_and_its_completion(name: str) -> None:
    one = TABLE[name]
    assert one.name == name
    assert one.usage.split()[0].partition("|")[0] == name
    assert one.does
    assert name in GROUPS[one.group]
    assert f"  {one.usage}\n" in short_help_text() or f"  {one.usage} " in short_help_text()
    assert one.examples
    for lines in one.examples:
        assert f"%raftoral {name}" in lines
        assert RAFTORAL_HELP.count(f"\n{lines}\n") == 1
    assert parse(f"{name} --help") is None
    before = {"partition": "1 "}.get(name, "")
    offered = offers(f"{name} {before}", Known(nodes=(1, 2), workflows=("w",), run_ids=("r",), clusters=("c",)))
    assert offered is not None
    assert all(flag in (offers(f"{name} --", Known()) or ()) for flag in one.flags)


def test_a_subcommand_that_the_help_knows_no_place_for_comes_last_in_its_group() -> None:
    new = replace(TABLE["status"], name="new", examples=("  %raftoral new    something {new}",))
    told = page({**TABLE, "new": new})
    lines = told.splitlines()
    at = lines.index("  %raftoral new    something {new}")
    assert lines[at + 1 : at + 3] == ["", "Workflows and runs"]
    assert [line for line in lines if line not in new.examples] == RAFTORAL_HELP.splitlines()

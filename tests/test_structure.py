"""The shape of the code base: what may import what, how long a module may be, what must be documented."""

from __future__ import annotations

import ast
import gc
import graphlib
import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from raftoral_nb.core import cluster_events, commands, events, records
from raftoral_nb.core.events import CheckpointSet
from raftoral_nb.core.records import Step

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("raftoral_nb", "kernel_ext")
ENGINE: Final = "raftoral_nb"

LADDER: Final = (
    ("cli",),
    ("__init__",),
    ("testing",),
    ("simulation",),
    ("cells",),
    ("api",),
    ("observability", "faults"),
    ("hosts",),
    ("executors",),
    ("node", "storage"),
    ("raft", "discovery"),
    ("workflow.language",),
    ("workflow.shipping",),
    ("workflow.execution",),
    ("workflow.loop",),
    ("workflow.lint",),
    ("workflow.codec", "transport"),
    ("core", "threads", "virtual_time"),
    ("errors", "limits"),
)
"""The folders of the engine, from the top rung to the bottom. What a module imports, for typing too, stands on a lower rung or in its own
folder. `errors` and `limits` are the flat modules, `__init__` is the package itself. `ARCHITECTURE.md` has the same table."""

RUNGS: Final = {folder: -rung for rung, folders in enumerate(LADDER) for folder in folders}

NAMES_MORE_THAN_ONCE: Final = {"__init__", "messages"}
"""Names that several modules of the engine may have."""

PURE: Final = "core"
PURE_IMPORTS: Final = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "msgspec",
    "operator",
    "re",
    "types",
    "typing",
}
"""All that a pure module may import besides the modules below it: nothing that reads, writes, waits or guesses."""

IDS_ARE_KEYS: Final = {"snapshot.py"}
"""Modules of the core that find an object again by its `id`, and in which no order depends on that."""

IMPURE_CALLS: Final = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint", "id", "hash"}
"""Built-in functions that do I/O, run code, or differ from one process to the next."""

BEHAVIOUR_FOLDERS: Final = {"testing"}
"""Folders of tests that are named like a folder of the engine, and hold behaviour of all of it."""

BEHAVIOUR_TESTS: Final = {
    "core": {"properties"},
    "raft": {
        "library_as_it_comes",
        "no_busy_loops",
        "paper",
        "paper_6_to_8",
        "repair",
        "snapshots",
        "turns",
        "without_a_loop",
    },
    "simulation": {"determinism", "parts", "regressions", "seeds"},
    "workflow": {"kinds_of_code", "places"},
    "workflow/execution": {"replays"},
}
"""Tests that stand in a folder of the engine and are about more than one of its modules."""

NOTEBOOK_PACKAGES: Final = {"IPython", "ipywidgets", "anywidget", "ipykernel", "traitlets", "kernel_ext"}
EXTENSION_HOOKS: Final = {"load_ipython_extension", "unload_ipython_extension"}
PUBLIC_TO_KERNEL_EXT: Final = {
    ENGINE,
    f"{ENGINE}.limits",
    f"{ENGINE}.errors",
    *(f"{ENGINE}.cells.{name}" for name in ("notebook_cells", "cell_records", "cell_code")),
    *(
        f"{ENGINE}.core.{name}"
        for name in ("statistics", "records", "blob_refs", "commands", "events", "cluster_events", "labels", "sizes")
    ),
}

MACHINE_PATH: Final = re.compile(r"(?<![\w.])/(?:root|work|farm)/|/home/(?!jovyan)\w")
ADDRESS: Final = re.compile(r"\bat 0x[0-9a-f]+", re.IGNORECASE)
TEXT_SUFFIXES: Final = {
    ".py",
    ".js",
    ".mjs",
    ".css",
    ".md",
    ".toml",
    ".ipynb",
    ".cfg",
    ".txt",
    ".yaml",
    ".yml",
    ".html",
    "",
}


@dataclass(frozen=True)
class Import:
    """One imported module, with the function it is imported in."""

    importer: str
    imported: str
    line: int
    function: str | None

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported} (line {self.line})"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if path.is_file())


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or place.is_dir()


def nodes_with_function(tree: ast.AST, function: str | None = None) -> Iterator[tuple[ast.AST, str | None]]:
    """Every node below `tree`, with the name of the outermost function it stands in."""
    for child in ast.iter_child_nodes(tree):
        yield child, function
        inside = (
            child.name if function is None and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        )
        yield from nodes_with_function(child, inside)


def imported_names(node: ast.AST, package: str) -> Iterator[str]:
    """The absolute names of the modules that this node imports; names inside a module count as that module."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - level + 1]) if level else ""
            origin = ".".join(part for part in (base, module) if part)
            for alias in names:
                inner = f"{origin}.{alias.name}"
                yield inner if origin.split(".")[0] in PACKAGES and is_module(inner) else origin
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            yield package.partition(".")[0] + name if name.startswith(".") else name


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    importer = module_name(path)
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    return tuple(
        Import(importer, name, getattr(node, "lineno", 0), function)
        for node, function in nodes_with_function(parsed(path))
        for name in imported_names(node, package)
    )


def all_imports(*folders: str) -> list[Import]:
    return [found for path in python_files(*folders) for found in imports_of(path)]


def folder(module: str) -> str:
    """Where a module of the engine stands: the name of a folder of the ladder, or one that is not on it."""
    parts = module.split(".")[1:]
    if not parts:
        return "__init__"
    place = ".".join(parts[:2]) if parts[0] == "workflow" and len(parts) > 1 else parts[0]
    # A package that holds nothing but folders stands nowhere itself.
    return "errors" if place == "workflow" else place


def is_hook(found: Import) -> bool:
    return found.importer == ENGINE and found.function in EXTENSION_HOOKS


def listed(problems: Iterator[object] | list[object]) -> str:
    return "\n".join(map(str, problems))


def inner_imports() -> list[Import]:
    """What modules of the engine import of each other, for typing and within functions too."""
    return [
        found
        for found in all_imports(ENGINE)
        if found.imported.split(".")[0] == ENGINE and found.imported != found.importer
    ]


def test_every_module_of_the_engine_stands_in_a_folder_of_the_ladder() -> None:
    lost = sorted({name for path in python_files(ENGINE) if folder(name := module_name(path)) not in RUNGS})
    assert not lost, f"not on the ladder (LADDER in this file, and the table in ARCHITECTURE.md): {listed(list(lost))}"


def test_imports_in_the_engine_point_down_the_ladder() -> None:
    upward = [
        f"{found}: {folder(found.importer)} stands no higher than {folder(found.imported)}"
        for found in inner_imports()
        if folder(found.importer) != folder(found.imported)
        and RUNGS[folder(found.imported)] >= RUNGS[folder(found.importer)]
    ]
    assert not upward, listed(list(upward))


def test_no_modules_of_the_engine_import_each_other_in_a_circle_not_even_for_typing() -> None:
    arrows: dict[str, set[str]] = {}
    for found in inner_imports():
        arrows.setdefault(found.importer, set()).add(found.imported)
    sorter = graphlib.TopologicalSorter(arrows)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_table_of_the_architecture_is_the_ladder() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## The ladder")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    table = [tuple(re.findall(r"`([^`]+)`", row)) for row in rows]
    assert [row for row in table if row[0] != "kernel_ext"] == list(LADDER)


def test_a_name_of_a_module_says_which_one_is_meant() -> None:
    places: dict[str, list[str]] = {}
    for path in python_files(ENGINE):
        places.setdefault(path.stem, []).append(str(path.relative_to(ROOT)))
    twice = {name: found for name, found in places.items() if len(found) > 1 and name not in NAMES_MORE_THAN_ONCE}
    assert not twice, listed([*twice.items()])


def test_tests_of_a_module_are_where_and_named_as_it_is() -> None:
    """`tests/<folder>/test_<module>....py`; what is about more than one module is listed, so that it is so on purpose."""
    modules = {path.relative_to(ROOT / ENGINE).with_suffix("") for path in python_files(ENGINE)}
    folders = {folder for name in modules for folder in name.parents} - {Path()}
    strays = []
    behaviour: dict[str, set[str]] = {}
    for path in python_files("tests"):
        place = path.relative_to(ROOT / "tests").parent
        if place not in folders or place.as_posix() in BEHAVIOUR_FOLDERS or not path.name.startswith("test_"):
            continue
        subject = path.stem.removeprefix("test_")
        own = {name.name for name in modules if name.parent == place}
        if any(subject == name or subject.startswith(f"{name}_") for name in own):
            continue
        if subject in BEHAVIOUR_TESTS.get(place.as_posix(), ()):
            behaviour.setdefault(place.as_posix(), set()).add(subject)
        else:
            strays.append(f"{path.relative_to(ROOT)}: there is no such module in {ENGINE}/{place.as_posix()}")
    assert not strays, listed(list(strays))
    assert behaviour == BEHAVIOUR_TESTS, "BEHAVIOUR_TESTS names tests that are gone, or are of a module"


def public_classes() -> list[tuple[str, str]]:
    return [
        (node.name, str(path.relative_to(ROOT)))
        for path in python_files(ENGINE)
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def test_a_name_of_a_public_class_says_which_one_is_meant() -> None:
    places: dict[str, list[str]] = {}
    for name, place in public_classes():
        places.setdefault(name, []).append(place)
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert not twice, listed([*twice.items()])


def test_only_the_cluster_itself_sees_a_whole_backend() -> None:
    # Its parts, and the player of scenarios, name what they ask for: the Protocols of `hosts.backend_parts`.
    found = {
        one.importer
        for one in inner_imports()
        if one.imported.startswith(f"{ENGINE}.hosts.base") and not one.importer.startswith(f"{ENGINE}.hosts.")
    }
    assert found == {f"{ENGINE}.api.cluster"}


def test_host_is_a_word_for_machines() -> None:
    assert len([name for name, _ in public_classes() if name.endswith(("Host", "Hosting"))]) <= 2


def test_only_the_raft_folder_imports_pysyncobj() -> None:
    outside = [
        found
        for found in all_imports(*PACKAGES)
        if found.imported.split(".")[0] == "pysyncobj" and not found.importer.startswith(f"{ENGINE}.raft")
    ]
    assert not outside, listed(list(outside))


def test_the_engine_imports_nothing_of_the_notebook_side_but_in_the_lazy_extension_hook() -> None:
    notebook_side = [
        found
        for found in all_imports(ENGINE)
        if found.imported.split(".")[0] in NOTEBOOK_PACKAGES and not is_hook(found)
    ]
    assert not notebook_side, listed(list(notebook_side))


def test_the_extension_uses_only_the_public_modules_of_the_engine() -> None:
    private = [
        found
        for found in all_imports("kernel_ext")
        if found.imported.split(".")[0] == ENGINE and found.imported not in PUBLIC_TO_KERNEL_EXT
    ]
    assert not private, listed(list(private))


def pure_files() -> list[Path]:
    found = python_files(f"{ENGINE}/{PURE}")
    assert len(found) > 10
    return found


def test_the_core_imports_only_what_cannot_read_write_wait_or_guess() -> None:
    impure = [
        found
        for path in pure_files()
        for found in imports_of(path)
        if found.imported.split(".")[0] not in PURE_IMPORTS | {ENGINE}
    ]
    assert not impure, listed(list(impure))


def test_the_core_calls_no_builtin_with_side_effects_or_unstable_answers() -> None:
    calls = [
        f"{path.name}:{node.lineno} calls {node.func.id}()"
        for path in pure_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in IMPURE_CALLS
        and not (node.func.id == "id" and path.name in IDS_ARE_KEYS)
    ]
    assert not calls, listed(list(calls))


def undocumented(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    """Public functions, classes and methods below `tree` that have no docstring."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
        # The first part of a property speaks for its setter, and the implementation for its overloads.
        if ast.get_docstring(node) is None and not decorators & {"overload", "setter", "deleter", "override"}:
            yield f"{prefix}.{node.name} (line {node.lineno})"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node, f"{prefix}.{node.name}")


def test_every_public_thing_has_a_docstring() -> None:
    missing: list[object] = []
    for path in python_files(*PACKAGES):
        if ast.get_docstring(parsed(path)) is None:
            missing.append(f"{module_name(path)} (the module)")
        missing += undocumented(parsed(path), module_name(path))
    assert not missing, listed(missing)


def project_files() -> Iterator[Path]:
    """Every text file of the project; not what tools and environments leave in the checkout."""
    tools = {".git", ".hypothesis", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__"}
    for entry in sorted(ROOT.iterdir()):
        if entry.name in {*tools, "build", "dist"} or (entry / "pyvenv.cfg").exists():
            continue
        for path in [entry] if entry.is_file() else sorted(entry.rglob("*")):
            if path.is_file() and path.suffix in TEXT_SUFFIXES and not tools & set(path.parts):
                yield path


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in project_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, listed(list(found))


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_ids_of_tests_are_the_same_in_every_process(request: pytest.FixtureRequest) -> None:
    """Of all that this session collected. Processes that share the tests between them must agree on their names."""
    assert [item.nodeid for item in request.session.items if ADDRESS.search(item.nodeid)] == []


def test_the_versions_agree() -> None:
    version = project()["project"]["version"]
    assert importlib.metadata.version("raftoral-nb") == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert not released or released[0] == version
    assert "## [Unreleased]" in changelog

    import raftoral_nb

    assert getattr(raftoral_nb, "__version__", version) == version


def test_the_oldest_python_is_the_same_everywhere() -> None:
    oldest = project()["project"]["requires-python"].removeprefix(">=")
    assert project()["tool"]["mypy"]["python_version"] == oldest
    assert project()["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    classifiers = project()["project"]["classifiers"]
    assert f"Programming Language :: Python :: {oldest}" in classifiers
    binder = (ROOT / "binder" / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert tuple(map(int, binder.split("."))) >= tuple(map(int, oldest.split(".")))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os.path", ["os.path"]),
        ("from ..core.records import Step", ["raftoral_nb.core.records"]),
        ("from ..core import records", ["raftoral_nb.core.records"]),
        ("from . import nothing_of_this_name", ["raftoral_nb.raft"]),
        ("from ...kernel_ext import x", ["kernel_ext"]),
        ("def f():\n    import IPython", ["IPython"]),
        ("import importlib\nimportlib.import_module('IPython.core')", ["importlib", "IPython.core"]),
    ],
)
def test_these_checks_see_an_import_however_it_is_written(source: str, expected: list[str]) -> None:
    nodes = nodes_with_function(ast.parse(source))
    assert [name for node, _ in nodes for name in imported_names(node, "raftoral_nb.raft")] == expected


def test_the_garbage_collector_need_not_walk_through_records() -> None:
    """A state has hundreds of thousands of them, and none can be part of a cycle."""
    modules = (commands, events, cluster_events, records)
    members = [one for module in modules for one in vars(module).values()]
    structs = {one for one in members if isinstance(one, type) and issubclass(one, msgspec.Struct)}
    assert len(structs) > 30
    assert [one.__name__ for one in structs if one.__struct_config__.gc] == []
    step = Step("0/a", "compute", b"1", None, 1, 1)
    assert not gc.is_tracked(step)
    assert not gc.is_tracked(CheckpointSet("r", step))

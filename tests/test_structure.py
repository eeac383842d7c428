"""The shape of the code base: what may import what, how long a module may be, what must be documented."""

from __future__ import annotations

import ast
import gc
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

from raftoral_nb import model

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("raftoral_nb", "kernel_ext")
ENGINE: Final = "raftoral_nb"

FLOORS: Final = {
    "cluster_events": 0,
    "control": 0,
    "limits": 0,
    "model": 0,
    "outcomes": 0,
    "errors": 0,
    "differences": 0,
    "checks": 0,
    "seconds": 0,
    "statistics": 0,
    "run_record": 1,
    "run_rules": 1,
    "state": 1,
    "replay": 1,
    "snapshot": 1,
    "raft": 2,
    "alive": 2,
    "forked": 2,
    "frames": 2,
    "key_file": 2,
    "step_threads": 2,
    "threads": 2,
    "workflow": 3,
}
TOP_FLOOR: Final = 4
"""The floor of the engine's other modules: cluster, node, run, runtime, cli, demo, and the package itself."""

PURE_MODULES: Final = ("state", "run_record", "run_rules", "replay")
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
    "msgspec",
    "operator",
    "re",
    "types",
    "typing",
}
"""All that a pure module may import besides the modules below it: nothing that reads, writes, waits or guesses."""

IMPURE_CALLS: Final = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint", "id", "hash"}
"""Built-in functions that do I/O, run code, or differ from one process to the next."""

NOTEBOOK_PACKAGES: Final = {"IPython", "ipywidgets", "anywidget", "ipykernel", "traitlets", "kernel_ext"}
EXTENSION_HOOKS: Final = {"load_ipython_extension", "unload_ipython_extension"}
PUBLIC_TO_KERNEL_EXT: Final = {ENGINE, *(f"{ENGINE}.{name}" for name in ("statistics", "limits", "model", "errors"))}

MAX_LINES: Final = 600
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


def floor(module: str) -> int:
    parts = module.split(".")
    return FLOORS.get(parts[1], TOP_FLOOR) if len(parts) > 1 else TOP_FLOOR


def is_hook(found: Import) -> bool:
    return found.importer == ENGINE and found.function in EXTENSION_HOOKS


def listed(problems: Iterator[object] | list[object]) -> str:
    return "\n".join(map(str, problems))


def test_imports_in_the_engine_point_down_the_floors() -> None:
    upward = [
        f"{found}, which is above it"
        for found in all_imports(ENGINE)
        if found.imported.split(".")[0] == ENGINE and floor(found.imported) > floor(found.importer)
    ]
    assert not upward, listed(list(upward))


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


@pytest.mark.parametrize("name", PURE_MODULES)
def test_a_pure_module_imports_only_what_cannot_read_write_wait_or_guess(name: str) -> None:
    paths = [
        path for path in python_files(ENGINE) if floor(module_name(path)) == 1 and name in {*path.parts, path.stem}
    ]
    assert paths, f"there is no module {name}"
    impure = [
        found
        for path in paths
        for found in imports_of(path)
        if found.imported.split(".")[0] not in PURE_IMPORTS | {ENGINE}
    ]
    assert not impure, listed(list(impure))


@pytest.mark.parametrize("name", PURE_MODULES)
def test_a_pure_module_calls_no_builtin_with_side_effects_or_unstable_answers(name: str) -> None:
    path = ROOT / ENGINE / f"{name}.py"
    calls = [
        f"{path.name}:{node.lineno} calls {node.func.id}()"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS
    ]
    assert not calls, listed(list(calls))


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    paths = [*python_files(*PACKAGES, "tests", "benchmarks"), *(ROOT / "kernel_ext").rglob("*.js")]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    long = [f"{path.relative_to(ROOT)}: {lines} lines" for path, lines in lengths.items() if lines > MAX_LINES]
    assert not long, listed(list(long))


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
        ("from ..model import Step", ["raftoral_nb.model"]),
        ("from .. import model", ["raftoral_nb.model"]),
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
    structs = [one for one in vars(model).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    assert len(structs) > 30
    assert [one.__name__ for one in structs if one.__struct_config__.gc] == []
    step = model.Step("0/a", "compute", b"1", None, 1, 1)
    assert not gc.is_tracked(step)
    assert not gc.is_tracked(model.CheckpointSet("r", step))

"""Notebooks drawn at random, some of their cells durable, run, edited, restarted and run again: always what plain cells would leave."""

from __future__ import annotations

import ast
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftoral_nb.cells import notebook_cells
from raftoral_nb.cells.cell_code import analyse, kept_statements, parse
from raftoral_nb.cells.cell_log import BegunCell
from raftoral_nb.cells.cell_records import CellRecord, decode_record, encode_record
from raftoral_nb.cells.notebook_cells import NotebookCells


class MemoryLog:
    """A log without a cluster: what it holds outlives the notebook's kernel, as bytes."""

    kept: dict[str, bytes]
    begun: BegunCell | None

    def __init__(self, folder: Path) -> None:
        self.records = {name: decode_record(data) for name, data in self.kept.items()}

    def begin(self, name: str, began: float, reads: tuple[str, ...]) -> None:
        type(self).begun = BegunCell(name, began, reads)

    def end(self, name: str, record: CellRecord | None, shown: str) -> None:
        type(self).begun = None
        if record is not None:
            self.kept[name] = encode_record(record)
            self.records[name] = record

    def forget(self, name: str) -> None:
        del self.records[name], self.kept[name]

    def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster, and nothing is synced."""
    monkeypatch.setattr(notebook_cells, "CellLog", MemoryLog)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


class Kernel:
    """Runs cells as a shell does; durable ones begin with a line `# durable NAME`."""

    def __init__(self, folder: Path | None) -> None:
        self.space: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.hidden = set(self.space)
        self.restored = 0
        self.cells = None if folder is None else NotebookCells(folder, self.space, lambda: self.hidden)

    def run_all(self, notebook: list[tuple[bool, str]]) -> bool:
        """Whether all cells ran; like a notebook it stops at the first that fails."""
        return all(self._run(f"cell{number}", durable, source) for number, (durable, source) in enumerate(notebook))

    def _run(self, name: str, durable: bool, source: str) -> bool:
        if self.cells is None:
            return self._plain(source)
        if not durable:
            before, _ = self.cells.other_begins(source)
            done = self._plain(source)
            self.cells.other_ended(source, before)
            return done
        ahead = self.cells.ahead(name, source)
        if ahead.restored:
            assert ahead.record is not None
            tree = ast.Module(kept_statements(parse(source), ahead.record.definitions), [])
            exec(compile(tree, "<cell>", "exec"), self.space)
            self.cells.restore(ahead)
            self.restored += 1
            return True
        self.cells.begin(ahead)
        if self._plain(source):
            self.cells.done(ahead, None, ())
            return True
        self.cells.failed(ahead)
        return False

    def _plain(self, source: str) -> bool:
        try:
            exec(compile(source, "<cell>", "exec"), self.space)
        except Exception:  # whatever a cell raises
            return False
        return True

    def shape(self) -> dict[str, Any]:
        """What the names are bound to, and which parts of that are one object."""
        seen: dict[int, int] = {}
        return {name: shape_of(value, seen) for name, value in sorted(self.space.items()) if name not in self.hidden}


def shape_of(value: Any, seen: dict[int, int]) -> Any:
    if callable(value):
        held = {name: one for name, one in vars(value).items() if not name.startswith("__") and not callable(one)}
        return "function", {name: shape_of(one, {}) for name, one in held.items()}
    if not isinstance(value, list | dict):
        return value
    if id(value) in seen:
        return f"object {seen[id(value)]}"
    seen[id(value)] = len(seen)
    if isinstance(value, list):
        return [f"is {seen[id(value)]}", *(shape_of(part, seen) for part in value)]
    return {key: shape_of(part, seen) for key, part in [("is", seen[id(value)]), *value.items()]}


NAMES = st.sampled_from("abc")
NUMBERS = st.integers(0, 3)
FORMS = [
    "{n} = [{k}]",
    "{n} = {m}",
    "{n} = [{m}, {k}]",
    "{n} = {{'k': {m}}}",
    "{n} = {k}",
    "{n} = {m} + [{k}]",
    "{n} += [{k}]",
    "{n}.append({k})",
    "{n}.append({m})",
    "{n} = {m}[-1]",
    "{n}[0] = {k}",
    "del {n}",
    "if len({m}) > {k}:\n    {n} = {m}",
    "if len({m}) > {k}:\n    {n} = [{k}]\nelse:\n    {n} = {m}",
    "for i in range({k} + 1):\n    {n}.append(i)",
    "try:\n    {n} = {m}[{k}]\nexcept Exception:\n    pass",
    "def f(x):\n    return [{m}, x]",
    "def g():\n    {n}.append({k})",
    "def g():\n    global {n}\n    {n} = [{k}]",
    "{n} = f({k})",
    "g()",
    "{n} = (lambda x: [x, {m}])({k})",
    "{n} = [{m} for _ in range(2)]",
    "exec('{n} = [{k}]')",
    "globals()['{n}'].append({k})",
    "class A:\n    kept = {m}\n    def get(self):\n        return {n}",
    "{n} = A().get()",
    "{n} = A.kept",
    "A.kept = [{k}]",
    "A.more = {m}",
    "A.kept.append({k})",
    "A.kept = len(A.kept) + {k}",
    "f.calls = [{k}]",
    "f.calls.append({k})",
    "{n} = f.calls[-1]",
    "def h(x):\n    found = [x]\n    def add(y):\n        found.append(y)\n        return len(found)\n    return add\nk = h({k})",
    "{n} = [k({k})]",
]
STATEMENTS = st.builds(lambda form, n, m, k: form.format(n=n, m=m, k=k), st.sampled_from(FORMS), NAMES, NAMES, NUMBERS)
CELLS = st.tuples(st.sampled_from([True, True, False]), st.lists(STATEMENTS, min_size=1, max_size=3).map("\n".join))
NOTEBOOKS = st.lists(CELLS, min_size=1, max_size=5).map(
    lambda cells: [(False, "a = [0]\nb = [1]\nc = {'k': [2]}"), *cells]
)
EDITS = st.lists(
    st.one_of(
        st.just("restart"),
        st.just("run all"),
        st.tuples(st.integers(1, 5), CELLS),
        st.integers(1, 5),  # the cell is executed once more, by hand
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp())
    yield made
    shutil.rmtree(made)


def perhaps_reads(source: str) -> bool:
    """Whether the cell may read what it has bound itself, when it ran before."""
    code = analyse(source)
    return bool(code.may_read or code.unseen)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(NOTEBOOKS, EDITS)
def test_whatever_is_restored_the_notebook_is_as_if_every_cell_had_run(
    folder: Path, notebook: list[tuple[bool, str]], edits: list[Any]
) -> None:
    MemoryLog.kept, MemoryLog.begun = {}, None
    notebook = list(notebook)
    plain, kernel = Kernel(None), Kernel(folder)
    assert kernel.run_all(notebook) == plain.run_all(notebook)
    assert kernel.shape() == plain.shape()
    for edit in edits:
        if edit != "restart" and any(durable and perhaps_reads(source) for durable, source in notebook):
            continue  # such a cell that runs again does so without what it bound itself, as after a restart
        if edit == "restart":
            plain, kernel = Kernel(None), Kernel(folder)
        elif isinstance(edit, int):
            one = f"cell{edit % len(notebook)}", *notebook[edit % len(notebook)]
            assert kernel._run(*one) == plain._run(*one)
            assert kernel.shape() == plain.shape()
            continue
        elif edit != "run all":
            notebook[1 + edit[0] % (len(notebook) - 1)] = edit[1]
        assert kernel.run_all(notebook) == plain.run_all(notebook)
        assert kernel.shape() == plain.shape()


def test_most_of_it_is_restored_after_a_restart(folder: Path) -> None:
    MemoryLog.kept, MemoryLog.begun = {}, None
    notebook = [(True, f"a{number} = [{number}]\nfor i in range(3):\n    a{number}.append(i)") for number in range(5)]
    Kernel(folder).run_all(notebook)
    kernel = Kernel(folder)
    assert kernel.run_all(notebook)
    assert kernel.restored == 5


def test_a_value_that_lies_where_the_one_before_lay_is_another_one(folder: Path) -> None:
    MemoryLog.kept, MemoryLog.begun = {}, None
    for number in (3, 5):
        notebook = [
            (False, f"def g():\n    global x\n    x = None\n    x = [{number}]"),
            (True, "x = [1]"),
            (False, "g()"),
            (True, "y = x[0]"),
        ]
        kernel = Kernel(folder)
        assert kernel.run_all(notebook)
        assert kernel.space["y"] == number

"""The cells of one notebook: whether one is restored or runs, what is recorded when it has run, and what is told of both."""

from __future__ import annotations

import importlib
import linecache
import platform
import re
import sys
import time
import types
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import CellError, DamagedBlobError
from .cell_blobs import CellBlob, CellBlobs
from .cell_checks import BlobChecks
from .cell_code import CellCode, Suspect, analyse, compiled, parse
from .cell_key import CellInputs
from .cell_log import CellLog
from .cell_pickles import TakenValue, is_steady, load_group, named_arrays
from .cell_records import CellRecord, DamagedCell, LostName, StoredGroup
from .code_state import CodeState, code_name, restore_code
from .held_names import HeldName, HeldNames, ReadValue
from .left_values import RESULT, same_groups, store_values, take_values
from .library_state import LibraryState, restore_paths, restore_state
from .reached import Reached, data_names, is_code, reach
from .shared_parts import SharedParts

CHECKED_BYTES: Final = 16 * 1024 * 1024
"""Files up to here are checked before they are used; larger ones meanwhile, by a thread."""

BLOBS_FOLDER: Final = "cells"

_IPYTHONS: Final = re.compile(r"_+|_i+|_i?\d+|_oh|_dh|_ih|_exit_code|__\w+__")
"""Names in which IPython keeps its history and what a command ended with, and those of the module."""

_RESULTS: Final = re.compile(r"_{1,3}|_\d+")
"""Names of the values that were displayed, which a cell may read, but which are not recorded under these names."""


class CellAhead(msgspec.Struct, kw_only=True):
    """A durable cell before it runs, or is restored."""

    name: str
    code: CellCode
    inputs: CellInputs
    record: CellRecord | None
    """The execution before, if there is one."""
    source: str
    filename: str
    reads: dict[str, ReadValue]
    notes: tuple[str, ...]
    """What is to be said at once, each a sentence without its stop."""
    why: tuple[str, ...] = ()
    """Why it runs again, if there is a record."""
    restored: bool = False
    """True if the record holds: the cell is not run."""
    own: tuple[str, ...] = ()
    """Names that it has bound itself, and may read: they are set aside before it runs."""
    aside: dict[str, Any] = {}
    began: float = 0.0
    clock: float = 0.0
    before: dict[str, int] = {}
    """The names of the notebook, with what they are bound to."""
    kept: list[Any] = []
    """Those values, as long as it runs: what is bound meanwhile is another object, and has another id."""
    digests: dict[str, tuple[int, str]] = {}
    """Of the values that it reaches: what they are bound to, and the digest of the pickle."""
    state: LibraryState | None = None
    code_state: CodeState | None = None
    unsteady: set[str] = set()
    """Names whose values cannot be compared, as was found when the cell had run."""


class CellDone(msgspec.Struct, frozen=True):
    """What was recorded of a cell that ran."""

    record: CellRecord
    changed: tuple[str, ...]
    """Names that it did not bind, and whose values it changed."""
    unsteady: tuple[str, ...]
    """Names whose values it may have changed: nobody can tell, and they were not recorded."""


class CellRestored(msgspec.Struct, frozen=True):
    """What a cell showed when it ran; its names are bound again."""

    output: bytes | None
    results: tuple[Any, ...]
    """The value that its last line displayed; empty if there was none, or none that could be recorded."""


class NotebookCells:
    """The durable cells of one notebook, whose names are `space`. All methods are called by the thread that runs its cells."""

    def __init__(self, folder: Path, space: dict[str, Any], hidden: Callable[[], Collection[str]]) -> None:
        """Open the folder in which they are recorded. `hidden` gives names that are not the user's.

        Raises `CellError` if another process uses the folder, or if it is damaged, or cannot be written.
        """
        self.folder = folder
        self._log = CellLog(folder)
        self._blobs = CellBlobs(folder / BLOBS_FOLDER)
        self._space = space
        self._hidden = hidden
        self._held = HeldNames(space)
        self._restored: set[str] = set()
        self._must_run: set[str] = set()
        self._checks = BlobChecks(folder.name, self._blobs)
        self._kept: list[Any] = []
        self._sweep()

    @property
    def records(self) -> dict[str, CellRecord]:
        """The recorded cells by name, those that ran first at the beginning."""
        return dict(sorted(self._log.records.items(), key=lambda item: item[1].began))

    @property
    def interrupted(self) -> tuple[str, float] | None:
        """The cell in which the kernel before this one ended, and when it had begun (Unix time); None if in none."""
        begun = self._log.begun
        return None if begun is None else (begun.name, begun.began)

    def forget(self, name: str) -> None:
        """Drop what is recorded of a cell: it will run again. Raises `CellError` if nothing is."""
        if name not in self._log.records:
            known = ", ".join(self.records) or "none"
            raise CellError(f"no cell {name!r} is recorded in {self.folder}. Recorded: {known}")
        self._log.forget(name)
        self._sweep()

    def close(self) -> None:
        """Let go of the folder. A second time does nothing."""
        self._checks.wait(timeout=60)
        self._log.close()

    def damaged(self) -> list[DamagedCell]:
        """Return the cells whose records turned out to be damaged after they were restored; they are dropped.

        What they left is another value than the recorded one: it counts as that from now on.
        """
        found = []
        for one in self._checks.damaged():
            if self._log.records.get(one.record.name) is one.record:
                self._log.forget(one.record.name)
            wrong = [name for name in one.record.variables if self._held.cell(name) == one.record.name]
            self._held.forget(wrong)
            found.append(DamagedCell(one.record, tuple(wrong), one.used_by))
        if found:
            self._sweep()
        return found

    # --- a durable cell

    def ahead(self, name: str, source: str, filename: str = "") -> CellAhead:
        """Look at a cell before it runs, and say whether it is restored.

        `source` is plain Python, magics rewritten; `filename` is its name in tracebacks. Raises `SyntaxError`, and `CellError` if it
        reads what an earlier cell could not record.
        """
        code = analyse(source)
        own = self._own(name, code)
        wanted = self._wanted(code, own)
        self._refuse_lost(code)
        reached = reach(wanted, self._space, compiled(parse(source)))
        roots = named_arrays(self._space)
        reads = {one: self._held.read(one, roots) for one in self._with_sharers(reached, roots)}
        inputs = self._inputs(code, reached, reads)
        record = self._log.records.get(name)
        why = () if record is None else tuple(inputs.differences(record) or self._cannot_restore(record))
        restored = record is not None and not why
        problems = [f"`{one}` is {read.problem}" for one, read in reads.items() if read.problem]
        if restored and record is not None:
            notes = _versions_differ(record)
            restore_paths(record.paths)  # its imports run before the rest is restored
        else:
            notes = [*map(_suspected, code.suspects), *_unseen(code), *problems]
        return CellAhead(
            name=name,
            code=code,
            inputs=inputs,
            record=record,
            source=source,
            filename=filename,
            reads=reads,
            notes=tuple(notes),
            why=why,
            restored=restored,
            own=tuple(own),
        )

    def _wanted(self, code: CellCode, own: Collection[str]) -> set[str]:
        """Return the names that the cell may read, but not those that it has bound itself and that are set aside when it runs."""
        names = self._names().keys()
        wanted = set(names if code.unseen else code.may_read).difference(own).union(code.reads)
        return wanted & names | {one for one in wanted if _RESULTS.fullmatch(one) and one in self._space}

    def _own(self, name: str, code: CellCode) -> set[str]:
        """Return the names that the cell itself has bound, that it had not read before, and that it may read now.

        After a restart they are not there: a cell that runs again does so without them, too, and does not depend on them.
        """
        record = self._log.records.get(name)
        free = set() if record is None else set(record.free)
        may_read = free if code.unseen else free.intersection(code.may_read)
        return {one for one in may_read - code.reads if self._held.origin(one) == name}

    def _with_sharers(self, reached: Reached, roots: frozenset[int]) -> list[str]:
        """Return the data that is reached, and all names that share objects with it: they change with it, and are restored with it."""
        names = [name for name in self._names() if not is_code(self._space[name])]
        return sorted({*reached.data, *self._held.sharers(reached.data, names, roots)})

    def _inputs(self, code: CellCode, reached: Reached, reads: dict[str, ReadValue]) -> CellInputs:
        same = self._held.same_objects([name for name, read in reads.items() if not read.problem], reads)
        return CellInputs(code.digest, {name: read.content for name, read in reads.items()}, reached.code, same)

    def _refuse_lost(self, code: CellCode) -> None:
        for sentence in self._lost_names(code):
            raise CellError(sentence)

    def _lost_names(self, code: CellCode) -> list[str]:
        """Return a sentence for each name that is read, and that was not restored; the cells that bind them will run again."""
        found = []
        for record in self._log.records.values():
            for lost in record.lost:
                if lost.name in code.reads and lost.name not in self._space and record.name in self._restored:
                    self._must_run.add(record.name)
                    found.append(
                        f"`{lost.name}` is not there: it is {lost.why}, which could not be recorded when the cell {record.name} "
                        f"ran. That cell will run when it is executed next: execute it, then this one; or Run All"
                    )
        return found

    def _cannot_restore(self, record: CellRecord) -> list[str]:
        lost = {one.name for one in record.lost if not one.quiet}
        readers: dict[str, Collection[str]] = {one.name: one.reads for one in self._log.records.values()}
        if self._log.begun is not None:
            readers[self._log.begun.name] = self._log.begun.reads
        for reader, reads in readers.items():
            for name in sorted(lost.intersection(reads)):
                if reader != record.name:
                    return [f"{reader} reads `{name}`, which cannot be recorded"]
        if record.name in self._must_run:
            return ["what it could not record is needed"]
        damaged = [
            str(self.folder / BLOBS_FOLDER / blob.digest)
            for blob in record.blobs()
            if not self._blobs.is_there(blob, read=blob.size <= CHECKED_BYTES)
        ]
        return [f"its record is damaged ({', '.join(damaged)})"] if damaged else []

    # --- it is restored

    def restore(self, ahead: CellAhead) -> CellRestored:
        """Bind what the cell left, once its definitions have run again.

        Raises `CellError` if what was recorded cannot be loaded; the record is dropped then.
        """
        record = ahead.record
        assert record is not None
        self._show_lines_of(record)
        values: dict[str, Any] = {}
        objects: list[Any] = []
        try:
            for group in record.groups:
                loaded, made = load_group(group, self._blobs, self._space)
                values.update(loaded)
                objects += made
            modules = {name: importlib.import_module(module) for name, module in record.modules.items()}
            output = None if record.output is None else bytes(self._blobs.load(record.output))
        except Exception as error:
            self.forget(record.name)
            raise CellError(
                f"what the cell {record.name} left cannot be loaded ({type(error).__name__}: {error}). Its record was dropped: "
                "execute it again, and it will run"
            ) from error
        results = (values.pop(RESULT),) if RESULT in values else ()
        named = {name: value for name, value in values.items() if name.isidentifier()}
        others = {name: value for name, value in values.items() if name not in named}
        restore_state(others)
        for name in record.deleted:
            self._space.pop(name, None)
        self._space.update(modules)
        self._space.update(named)
        restore_code(others, self._space)
        self._hold(record, named)
        self._restored.add(record.name)
        self._checks.begin(record, [blob for blob in record.blobs() if blob.size > CHECKED_BYTES])
        return CellRestored(output, results)

    def _hold(self, record: CellRecord, named: Collection[str]) -> None:
        peers = {name: frozenset(group) - {name} for group in record.shared for name in group}
        self._held.forget(record.variables)
        for name in named:
            if name in record.contents:
                identity = id(self._space[name])
                held = HeldName(identity, record.contents[name], peers.get(name, frozenset()), record.name)
                self._held.keep(name, held)
        self._held.bound_by(record.name, (name for name in record.bound if name in self._space))

    def _hold_left(self, record: CellRecord, touched: Collection[str], taken: dict[str, TakenValue]) -> None:
        self._held.forget(touched)
        self._hold(record, [name for name in taken if name in self._space and name != RESULT])
        for name, one in taken.items():
            held = self._held.get(name)
            if held is not None:
                held.base = one.digest

    def _show_lines_of(self, record: CellRecord) -> None:
        """Have tracebacks and `inspect.getsource` find the lines of functions that were recorded by value."""
        if record.filename and record.filename not in linecache.cache:
            lines = record.source.splitlines(keepends=True)
            linecache.cache[record.filename] = len(record.source), None, lines, record.filename

    # --- it runs

    def begin(self, ahead: CellAhead) -> None:
        """Note how everything is before the cell runs, and record that it begins."""
        roots = named_arrays(self._space)
        for name, read in ahead.reads.items():
            taken = read.taken
            if read.problem:
                continue
            if taken is None:
                taken = TakenValue(self._space[name], self._space, roots)
            ahead.digests[name] = id(self._space[name]), taken.digest
            taken.forget()
        ahead.reads = {}
        ahead.state = LibraryState()
        ahead.code_state = CodeState(ahead.inputs.functions, self._space)
        ahead.began, ahead.clock = time.time(), time.monotonic()
        self._log.begin(ahead.name, ahead.began, tuple(ahead.inputs.reads))
        ahead.aside = {name: self._space.pop(name) for name in ahead.own if name in self._space}
        ahead.before = self._names()
        ahead.kept = [self._space[name] for name in ahead.before if name not in ahead.code.binds]

    def failed(self, ahead: CellAhead) -> list[str]:
        """Note that the cell failed or was interrupted: nothing is recorded. Return the names whose values it has changed."""
        self._put_back(ahead)
        after = self._names()
        reached = self._reached_after(ahead, after)
        changed = sorted(name for name, parts in reached.items() if parts is None)
        self._held.expose(reached)
        self._held.forget([*changed, *_bound(ahead, after)])
        self._log.end(ahead.name, None, "failed")
        return changed

    def done(self, ahead: CellAhead, output: bytes | None, results: tuple[Any, ...]) -> CellDone:
        """Record what the cell has left, and what it has shown; `results` is the value that its last line displayed, if it did.

        Raises `CellError` if that cannot be stored; the cell has run all the same.
        """
        seconds = time.monotonic() - ahead.clock
        self._refuse_damaged(ahead)
        after = self._names()
        reached = self._reached_after(ahead, after)
        changed = {name for name, parts in reached.items() if parts is None}
        bound = _bound(ahead, after)
        state = ahead.state.changes() if ahead.state is not None else {}
        modules = {
            name: self._space[name].__name__ for name in bound if isinstance(self._space[name], types.ModuleType)
        }
        definitions = self._definitions(ahead.code, bound, changed)
        inside = {} if ahead.code_state is None else ahead.code_state.changes(bound, definitions)
        state |= inside
        left = sorted((bound | changed).difference(modules, definitions))
        values = {name: self._space[name] for name in left}
        values |= {RESULT: results[0]} if results else {}
        roots = named_arrays(self._space)
        taken, why = take_values({**values, **state}, self._space, roots)
        self._take_sharers(taken, reached, roots)
        groups = same_groups(
            {name: one.parts.ids for name, one in taken.items()}, {name: one.parts.spans for name, one in taken.items()}
        )
        dragged = taken.keys() - values.keys() - state.keys()
        record = CellRecord(
            name=ahead.name,
            key=ahead.inputs.key(),
            code=ahead.code.digest,
            began=ahead.began,
            seconds=seconds,
            reads=ahead.inputs.reads,
            functions=ahead.inputs.functions,
            contents={
                name: self._content(name, one, name in dragged)
                for name, one in taken.items()
                if name.isidentifier() and name != RESULT
            },
            groups=self._stored(ahead, taken, groups, roots),
            shared=_shared(groups),
            bound=tuple(sorted(bound)),
            free=tuple(sorted(bound - ahead.before.keys())),
            modules=modules,
            definitions=definitions,
            deleted=tuple(sorted(ahead.before.keys() - after.keys())),
            lost=tuple(_lost(why, ahead.code)),
            output=None if output is None else self._put(ahead, output),
            source=ahead.source,
            filename=ahead.filename,
            paths=() if ahead.state is None else ahead.state.new_paths,
            versions=_versions(package for one in taken.values() for package in one.packages),
        )
        self._log.end(ahead.name, record, f"{len(record.variables)} names, {record.size} bytes, {seconds:.3f} s")
        self._hold_left(record, {*bound, *changed}, taken)
        self._put_back(ahead)
        self._checks.drop(ahead.name)
        self._restored.discard(ahead.name)
        self._must_run.discard(ahead.name)
        self._sweep()
        changed |= {code_name(place) for place in inside}.difference(definitions)
        return CellDone(record, tuple(sorted(changed)), tuple(sorted(ahead.unsteady)))

    def _refuse_damaged(self, ahead: CellAhead) -> None:
        """Wait for the checks of all files that the cell may have read, and raise `CellError` if one is damaged."""
        self._checks.wait(ahead.inputs.reads)
        damaged = self._checks.used(ahead.name, ahead.inputs.reads)
        if damaged:
            self.failed(ahead)
            names = " and ".join(f"`{name}`" for name in damaged)
            raise CellError(
                f"the cell has run, and is not recorded: it read {names}, of which the recorded file is damaged. Execute the "
                f"cell {' and '.join(sorted(set(damaged.values())))} again, then this one; or Run All"
            )

    def _put_back(self, ahead: CellAhead) -> None:
        """Bind what was set aside and not bound again: it is a leftover of the execution before, as in any notebook."""
        for name, value in ahead.aside.items():
            self._space.setdefault(name, value)
        ahead.aside, ahead.kept = {}, []

    def _reached_after(self, ahead: CellAhead, after: dict[str, int]) -> dict[str, SharedParts | None]:
        """Return the names that the cell reached and did not bind: those that it left as they were with their parts, others with None."""
        roots = named_arrays(self._space)
        found: dict[str, SharedParts | None] = {}
        for name, (identity, digest) in ahead.digests.items():
            if after.get(name) != identity or name in ahead.code.binds:
                continue
            try:
                taken = TakenValue(self._space[name], self._space, roots)
                same = taken.digest == digest
                if not same and not is_steady(taken, self._space[name], self._space, roots):
                    ahead.unsteady.add(name)
                    same = True
            except Exception:  # it cannot be recorded any more, which says enough
                found[name] = None
                continue
            found[name] = taken.parts if same else None
            taken.forget()
        return found

    def _definitions(self, code: CellCode, bound: Collection[str], changed: Collection[str]) -> tuple[str, ...]:
        """Return the names of definitions that are run again instead of being recorded."""
        found: list[str] = []
        for name in code.definitions:
            value = self._space.get(name)
            inside = [one for one in code.methods[name] if one in changed or (one in bound and one not in found)]
            modules = [
                one for one in inside if isinstance(self._space.get(one), types.ModuleType | type | types.FunctionType)
            ]
            if name in bound and isinstance(value, types.FunctionType | type) and inside == modules:
                found.append(name)
        return tuple(found)

    def _take_sharers(
        self, taken: dict[str, TakenValue], reached: dict[str, SharedParts | None], roots: frozenset[int]
    ) -> None:
        """Add names that the cell reached and left as they were, and that share objects with what was taken."""
        found = True
        while found:
            sharers = [
                name
                for name, parts in reached.items()
                if parts is not None and name not in taken and any(parts.meets(one.parts) for one in taken.values())
            ]
            more, _ = take_values({name: self._space[name] for name in sharers}, self._space, roots)
            taken.update(more)
            found = bool(more)

    def _content(self, name: str, taken: TakenValue, dragged: bool) -> str:
        held = self._held.get(name) if dragged else None
        return taken.content() if held is None else held.content

    def _stored(
        self, ahead: CellAhead, taken: dict[str, TakenValue], groups: list[tuple[str, ...]], roots: frozenset[int]
    ) -> tuple[StoredGroup, ...]:
        try:
            return store_values(taken, groups, self._space, roots, self._blobs)
        except (OSError, DamagedBlobError) as error:
            raise self._not_stored(ahead, error) from error

    def _put(self, ahead: CellAhead, output: bytes) -> CellBlob:
        try:
            return self._blobs.put([output])
        except OSError as error:
            raise self._not_stored(ahead, error) from error

    def _not_stored(self, ahead: CellAhead, error: OSError | DamagedBlobError) -> CellError:
        """Note that the cell has run without being recorded, and return what is said of that."""
        self.failed(ahead)
        why = (
            f"{self.folder} cannot be written ({error})"
            if isinstance(error, OSError)
            else "what it left changed while it was written: a thread or a task still works on it. Wait for that within the cell"
        )
        return CellError(f"the cell {ahead.name} has run, and is not recorded: {why}")

    # --- other cells

    def other_begins(self, source: str) -> tuple[dict[str, int], list[str]]:
        """Note that an ordinary cell will run, which may change what durable cells left.

        Returns what `other_ended` takes, and what is to be said about names that it reads and that were not restored.
        """
        try:
            code = analyse(source)
        except SyntaxError:
            return {}, []
        names = self._names()
        reads = set(names) if code.unseen else set(code.reads | code.may_read)
        self._held.expose(data_names(reads & names.keys(), self._space))
        self._kept = [self._space[name] for name in names if name not in code.binds]
        return names, self._lost_names(code)

    def other_ended(self, source: str, before: dict[str, int]) -> None:
        """Note that it has run."""
        kept, self._kept = self._kept, []  # until the names are compared: see `CellAhead.kept`
        try:
            code = analyse(source)
        except SyntaxError:
            return
        after = self._names()
        self._held.forget([*code.binds, *(name for name in before if before[name] != after.get(name))])
        del kept

    # --- inside

    def _names(self) -> dict[str, int]:
        """Return the user's names, with what they are bound to."""
        hidden = set(self._hidden())
        return {
            name: id(value)
            for name, value in list(self._space.items())
            if name not in hidden and not _IPYTHONS.fullmatch(name)
        }

    def _sweep(self) -> None:
        self._blobs.sweep({blob for record in self._log.records.values() for blob in record.blobs()})


def _bound(ahead: CellAhead, after: dict[str, int]) -> set[str]:
    """Return the names that the cell bound: those that its code says, and those that are bound to something else than before."""
    return {name for name in after if name in ahead.code.binds or ahead.before.get(name) != after[name]}


def _shared(groups: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of names that share objects. The value that was displayed is no name of the notebook."""
    named = (tuple(name for name in group if name != RESULT) for group in groups)
    return tuple(group for group in named if len(group) > 1)


def _lost(why: dict[str, str], code: CellCode) -> Iterator[LostName]:
    for name, words in sorted(why.items()):
        if name.isidentifier() and name != RESULT:
            yield LostName(name, words, code.binds.get(name, 0), quiet=words == "a closed file")


def _suspected(one: Suspect) -> str:
    return f"line {one.line}: `{one.name}` is {one.what}, and will not be recorded"


def _unseen(code: CellCode) -> list[str]:
    if not code.unseen:
        return []
    return [f"it uses {', '.join(code.unseen)}: it counts as reading every name of the notebook"]


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in sorted(set(packages)):
        version = getattr(sys.modules.get(package), "__version__", None)
        if isinstance(version, str):
            found[package] = version
    return found


def _versions_differ(record: CellRecord) -> list[str]:
    now = _versions(name for name in record.versions if name in sys.modules)
    return [
        f"it was recorded with {name} {version}, and this is {now[name]}"
        for name, version in record.versions.items()
        if name in now and now[name] != version
    ]

"""`%%durable` in a shell: what happens before a cell and behind it.

The line is taken off by a transformer, which does nothing else, as IPython also asks it about cells that are only being typed. What runs is
an ordinary cell. Before it, `pre_run_cell` decides; if the cell is restored, its tree is replaced by the restoring.
"""

from __future__ import annotations

import ast
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raftoral_nb.cells.cell_code import analyse, kept_statements
from raftoral_nb.errors import CellError

from ..errors import MagicError
from ..shown import cells as words
from ..shown import display as shows
from ..widgets.support import is_kernel
from .cell_output import OutputRecorder, encode_outputs, show_again
from .durable_line import durable_rest, folder_name, given_name, made_name, without_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftoral_nb.cells.notebook_cells import CellAhead, NotebookCells

FOLDER: Final = ".raftoral"
"""The folder beside the notebook that holds what is recorded of it, and of its neighbours."""

_RESTORE: Final = "get_ipython().run_line_magic('durable', '')"


class _Now(threading.local):
    """What one thread runs: a kernel's subshells are threads of their own."""

    depth = 0
    """Cells that it is in: those that a cell runs count as part of it."""
    armed: tuple[str, Any] | None = None
    """What is done in place of the cell at hand."""
    ahead: CellAhead | None = None
    recorder: OutputRecorder | None = None
    other: tuple[str, dict[str, int]] | None = None


class DurableCells:
    """The durable cells of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._elsewhere: Callable[[], str] = str
        self._beside = Path.cwd()
        self._cells: NotebookCells | None = None
        self._now = _Now()
        self._ids: dict[str, str] = {}
        self._told = False

    # --- in the shell

    def install(self, elsewhere: Callable[[], str]) -> None:
        """Puts it into the shell; `elsewhere` gives the folder that was set for what is recorded, or ""."""
        self._elsewhere = elsewhere
        self._shell.input_transformers_cleanup.append(self._transform)
        self._shell.ast_transformers.append(self)
        self._shell.events.register("pre_run_cell", self._before)
        self._shell.events.register("post_run_cell", self._after)

    def remove(self) -> None:
        """Takes it out again; what is recorded stays."""
        transforms = self._shell.input_transformers_cleanup
        transforms[:] = [one for one in transforms if one != self._transform]
        self._shell.ast_transformers[:] = [one for one in self._shell.ast_transformers if one is not self]
        for event, function in (("pre_run_cell", self._before), ("post_run_cell", self._after)):
            if function in self._shell.events.callbacks[event]:
                self._shell.events.unregister(event, function)

    def close(self) -> None:
        """Lets go of the folder. The next durable cell opens it again."""
        cells, self._cells = self._cells, None
        if cells is not None:
            cells.close()

    # --- what is recorded

    @property
    def folder(self) -> Path:
        """The folder in which this notebook's cells are recorded."""
        elsewhere = self._elsewhere()
        if elsewhere:
            return Path(elsewhere).expanduser().absolute()
        session = self._session()
        beside = Path(session).parent if Path(session).is_absolute() else self._beside
        name = folder_name(session, kernel=is_kernel(self._shell))
        return (beside if beside.is_dir() else self._beside) / FOLDER / name

    def _session(self) -> str:
        """What Jupyter, or an editor, says this is the kernel of; "" if nothing."""
        return str(os.environ.get("JPY_SESSION_NAME") or self._shell.user_ns.get("__vsc_ipynb_file__") or "")

    def _tell_folder(self) -> None:
        """Says once that the notebook has no name here: all such notebooks of a folder record in one place."""
        named = self._elsewhere() or self._session().endswith(".ipynb") or not is_kernel(self._shell)
        if not named and not self._told:
            self._told = True
            shows.emit(words.nameless(str(self.folder)))

    def opened(self) -> NotebookCells:
        """The recorded cells. Opens them. Raises `RaftoralError`."""
        folder = self.folder
        if self._cells is not None and (self._cells.folder != folder or not folder.is_dir()):
            self.close()  # somebody who removed the folder wants to begin anew
        if self._cells is None:
            from raftoral_nb.cells.notebook_cells import NotebookCells  # it brings the engine, with its first cluster

            if folder.parent.name == FOLDER:
                _ignore(folder.parent)
            self._cells = NotebookCells(folder, self._shell.user_ns, lambda: self._shell.user_ns_hidden)
        return self._cells

    def known(self) -> NotebookCells | None:
        """The recorded cells; None if there is no folder of them. Raises `RaftoralError`."""
        return self.opened() if self._cells is not None or self.folder.is_dir() else None

    # --- a cell

    def _transform(self, lines: list[str]) -> list[str]:
        # Within a cell that runs the line would be lost on another one: there the magic says so.
        return lines if self._now.depth else without_line(lines)

    # IPython leaves it out when it asks whether a cell that is being typed is complete: it is a cell magic then.
    _transform.has_side_effects = True  # type: ignore[attr-defined]

    def _before(self, info: Any) -> None:
        now = self._now
        now.depth += 1
        if now.depth > 1:
            return
        rest = durable_rest(info.raw_cell)
        try:
            if rest is not None:
                now.armed = self._ready(info, rest)
            elif self._cells is not None:
                self._ordinary(self._cells, self._source(info))
        except BaseException as error:  # raised in the cell, where it is seen; here IPython would go on
            if rest is None and not isinstance(error, KeyboardInterrupt):
                raise
            now.armed = "raise", error

    def _ready(self, info: Any, rest: str) -> tuple[str, Any] | None:
        """Decides what becomes of the cell. None: it runs."""
        name = given_name(rest)
        if threading.current_thread() is not threading.main_thread():
            raise CellError(
                "a durable cell cannot run in a subshell, beside other cells: execute it in the notebook itself"
            )
        source = self._source(info)
        cells = self.opened()
        self._tell_folder()
        if name is None:
            code = analyse(source)
            name = made_name(sorted(code.binds, key=lambda one: code.binds[one]), _cell_id(info), code.digest)
        interrupted = cells.interrupted
        self._tell_damage(cells)  # before its inputs are looked at: what is damaged is not what was recorded
        ahead = cells.ahead(name, source, self._filename(info, source))
        if ahead.restored:
            return "restore", ahead
        died = words.interruption(interrupted[1]) if interrupted is not None and interrupted[0] == name else ""
        notes = (*ahead.notes, *self._second_of(name, _cell_id(info)))
        if (said := words.begins(ahead.why, notes, died)) is not None:
            shows.emit(said)
        cells.begin(ahead)
        self._now.ahead = ahead
        self._now.recorder = OutputRecorder(self._shell)
        self._now.recorder.start()
        return None

    def visit(self, tree: ast.AST) -> ast.AST:
        """What IPython runs in place of a cell's tree: itself, or what restores it."""
        armed = self._now.armed
        if armed is None or not isinstance(tree, ast.Module) or self._now.depth != 1:
            return tree
        kept = kept_statements(tree, armed[1].record.definitions) if armed[0] == "restore" else []
        call = ast.parse(_RESTORE).body[0]
        line = tree.body[0].lineno if tree.body else 1
        for node in ast.walk(call):
            ast.copy_location(node, ast.Pass(lineno=line, col_offset=0, end_lineno=line, end_col_offset=0))
        tree.body = [*kept, call]
        return tree

    def restore(self) -> None:
        """Restores the cell that is at hand; what `%durable` does in its place. Raises what kept it from running."""
        armed, self._now.armed = self._now.armed, None
        if armed is None:
            raise MagicError("%%durable has to be the first line of its cell")
        what, held = armed
        if what == "raise":
            raise held
        cells = self.opened()
        restored = cells.restore(held)
        shows.emit(words.restored(held.record, held.notes))
        show_again(self._shell, restored.output, restored.results)

    def _after(self, result: Any) -> None:
        now = self._now
        now.depth = max(now.depth - 1, 0)
        if now.depth:
            return
        self._stay_last()
        now.armed = None
        ahead, now.ahead = now.ahead, None
        recorder, now.recorder = now.recorder, None
        other, now.other = now.other, None
        if self._cells is None:
            return
        if other is not None:
            self._cells.other_ended(*other)
        if ahead is not None and recorder is not None:
            results = () if result.result is None else (result.result,)
            outputs = encode_outputs(recorder.stop(results))
            shows.emit(
                self._recorded(self._cells, ahead, outputs, results)
                if result.success
                else words.failed(self._cells.failed(ahead))
            )

    def _stay_last(self) -> None:
        """Has what came meanwhile, such as `%autoreload`, do its part before a cell is looked at."""
        if self._shell.events.callbacks["pre_run_cell"][-1] != self._before:
            self._shell.events.unregister("pre_run_cell", self._before)
            self._shell.events.register("pre_run_cell", self._before)

    def _recorded(
        self, cells: NotebookCells, ahead: CellAhead, outputs: bytes | None, results: tuple[Any, ...]
    ) -> shows.Shown:
        """Records the cell, and says what was recorded. Whatever keeps it from that is said, too: the cell has run."""
        try:
            done = cells.done(ahead, outputs, results)
        except CellError as error:
            return words.not_recorded(str(error))
        except BaseException as error:
            cells.failed(ahead)
            reason = (
                "its recording was interrupted"
                if isinstance(error, KeyboardInterrupt)
                else f"{type(error).__name__}: {error}"
            )
            return words.not_recorded(f"the cell has run, and is not recorded ({reason})")
        return words.recorded(done.record, done.changed, done.unsteady)

    def _ordinary(self, cells: NotebookCells, source: str) -> None:
        self._tell_damage(cells)
        before, missing = cells.other_begins(source)
        self._now.other = source, before
        if missing:
            shows.emit(words.missing(missing))

    def _tell_damage(self, cells: NotebookCells) -> None:
        if found := cells.damaged():
            shows.emit(words.damage(found))

    def _second_of(self, name: str, cell_id: str | None) -> list[str]:
        """A note, if another cell of the notebook has the name: each would take the other's place."""
        if cell_id is None or self._ids.setdefault(name, cell_id) == cell_id:
            return []
        self._ids[name] = cell_id
        return [f"another cell is named {name}, too: only the one that ran last is recorded"]

    def _source(self, info: Any) -> str:
        found = getattr(info, "transformed_cell", None)
        return str(self._shell.input_transformer_manager.transform_cell(info.raw_cell) if found is None else found)

    def _filename(self, info: Any, source: str) -> str:
        try:
            return str(self._shell.compile.get_code_name(info.raw_cell, source, self._shell.execution_count - 1))
        except (AttributeError, TypeError):  # of another IPython
            return ""


def _cell_id(info: Any) -> str | None:
    """The id of the cell in its notebook; None where cells have none."""
    found = getattr(info, "cell_id", None)
    return found if isinstance(found, str) else None


def _ignore(folder: Path) -> None:
    """Keeps the folder out of the reader's git."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # the log will say so
        return
    file = folder / ".gitignore"
    if not file.exists():
        try:
            file.write_text("*\n", encoding="utf-8")
        except OSError:  # the cell will say that nothing can be written here
            return

"""Recorded histories as files: for a replay against today's code in your own tests.

A file is one JSON object, with the members

* `format`: 2; it changes whenever earlier versions could not read what is written;
* `raftoral_nb` and `python`: the versions that wrote it; `workflow` and `version`: what ran;
* `run`: the record, by the names of `raftoral_nb.core.run_record.Run`: `run_id`, `input`, `status`, `result` or `failure`, and `records` in
  the order of the log, each an object with one member that says what it is: `step`, `message`, `timers`, `cancel` or `move`, with the fields of
  `raftoral_nb.core.records`.

Values are base64 of the pickles that were recorded: reading a file executes nothing, replaying it unpickles them, so replay
only files that you trust. The code of the workflow is not in the file.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from ..core.records import CancelRecord, Definition, Message, MoveRecord, Record, Step, TimersFired
from ..core.run_record import Run
from ..errors import HistoryFileError
from ..node.replay_run import Replayed, replay_run
from ..workflow.shipping import definitions
from ..workflow.shipping.definitions import Workflow

FORMAT: Final = 2
"""The format that is written and read here."""

_WITHOUT: Final = frozenset({"definition", "records", "by_id"})
_FIELDS: Final[list[Any]] = [
    (one.name, one.type) for one in msgspec.structs.fields(Run) if one.name not in _WITHOUT and one.required
]
_OPTIONAL: Final[list[Any]] = [
    (
        one.name,
        one.type,
        one.default if one.default_factory is msgspec.NODEFAULT else msgspec.field(default_factory=one.default_factory),
    )
    for one in msgspec.structs.fields(Run)
    if one.name not in _WITHOUT and not one.required
]


class _Entry(msgspec.Struct, omit_defaults=True):
    """One record: exactly one of the fields is set."""

    step: Step | None = None
    message: Message | None = None
    timers: TimersFired | None = None
    cancel: CancelRecord | None = None
    move: MoveRecord | None = None

    @property
    def record(self) -> Record:
        """The record. Raises `ValidationError` if there is none."""
        found: Record | None = self.step or self.message or self.timers or self.cancel or self.move
        if found is None:
            raise msgspec.ValidationError("a record is of no kind that is known")
        return found


def _entry(record: Record) -> _Entry:
    match record:
        case Step():
            return _Entry(step=record)
        case Message():
            return _Entry(message=record)
        case TimersFired():
            return _Entry(timers=record)
        case CancelRecord():
            return _Entry(cancel=record)
        case MoveRecord():
            return _Entry(move=record)


_Record: Final = msgspec.defstruct(
    "_Record", [*_FIELDS, ("records", list[_Entry], msgspec.field(default_factory=list)), *_OPTIONAL]
)


class _File(msgspec.Struct):
    format: int
    raftoral_nb: str
    python: str
    workflow: str
    version: int
    run: msgspec.Raw


def save(run: Run, path: str | Path) -> Path:
    """Write the record of a run to a file; returns its path. Raises `OSError` if it cannot be written."""
    from ..core.version import __version__

    fields = {name: getattr(run, name) for name in _Record.__struct_fields__}
    fields["records"] = [_entry(record) for record in run.records]
    record = _Record(**fields)
    raw = msgspec.Raw(msgspec.json.encode(record))
    file = _File(FORMAT, __version__, platform.python_version(), run.definition.workflow, run.definition.version, raw)
    target = Path(path)
    target.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
    return target


def load(path: str | Path, definition: Definition) -> Run:
    """Return the run that a file holds, as one of `definition`.

    Raises `HistoryFileError` if it is none, and `OSError`.
    """
    data = Path(path).read_bytes()
    try:
        file = msgspec.json.decode(data, type=_File)
        if file.format != FORMAT:
            raise HistoryFileError(
                f"{path} has format {file.format}; this version of raftoral_nb reads format {FORMAT}: record the run again"
            )
        record = msgspec.json.decode(file.run, type=_Record)
        entries: list[_Entry] = getattr(record, "records")  # noqa: B009 - a type checker knows no fields of what `defstruct` made
        records = [entry.record for entry in entries]
    except msgspec.MsgspecError as error:
        raise HistoryFileError(
            f"{path} is not a recorded history, or is damaged ({error}): save it with run.save_history(path)"
        ) from None
    fields = {name: getattr(record, name) for name in _Record.__struct_fields__}
    run = Run(definition=definition, **{**fields, "records": records})
    run.by_id.update((step.step_id, step) for step in records if isinstance(step, Step))
    return run


def replay_history(path: str | Path, workflow: Workflow[Any, Any] | Callable[..., Any]) -> Replayed:
    """Replay a recorded history (`run.save_history(path)`) against today's code; for your own tests.

    No step's function runs. Raises `NonDeterminismError` with the first difference, and `HistoryFileError` for a file that is
    no history.

    >>> import tempfile
    >>> from raftoral_nb.testing import replay_history, workflow_test
    >>> async def order(ctx, item):
    ...     return await ctx.compute("charge", lambda: f"{item} paid")
    >>> with workflow_test() as test, tempfile.TemporaryDirectory() as folder:
    ...     run = test.start(order, "A1")
    ...     paid = test.finish(run)
    ...     replay_history(run.save_history(f"{folder}/order.json"), order).steps
    1
    """
    fn = workflow.fn if isinstance(workflow, Workflow) else workflow
    name = workflow.name if isinstance(workflow, Workflow) else str(getattr(fn, "__name__", "workflow"))
    definition, _ = definitions.build(name, 1, fn)
    return replay_run(load(path, definition))

"""Recorded histories as files: for a replay against today's code in your own tests.

A file is one JSON object, with the members

* `format`: 2; it changes whenever earlier versions could not read what is written;
* `raftoral_nb` and `python`: the versions that wrote it; `workflow` and `version`: what ran;
* `run`: by the names of `raftoral_nb.core.run_record.Run`: `run_id`, `input`, `status`, `result` or `failure`, and `records` in the order
  of the log, by the names of `raftoral_nb.core.records`. The member `record` of each says what it is: `step`, `message`, `timers`,
  `cancel` or `move`.

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


class _Step(Step, frozen=True, tag_field="record", tag="step"):
    pass


class _Message(Message, frozen=True, tag_field="record", tag="message"):
    pass


class _TimersFired(TimersFired, frozen=True, tag_field="record", tag="timers"):
    pass


class _CancelRecord(CancelRecord, frozen=True, tag_field="record", tag="cancel"):
    pass


class _MoveRecord(MoveRecord, frozen=True, tag_field="record", tag="move"):
    pass


_AnyRecord = _Step | _Message | _TimersFired | _CancelRecord | _MoveRecord
_WRITTEN_AS: Final[dict[type[Any], type[Any]]] = {
    Step: _Step,
    Message: _Message,
    TimersFired: _TimersFired,
    CancelRecord: _CancelRecord,
    MoveRecord: _MoveRecord,
}
_READ_AS: Final = {written: kind for kind, written in _WRITTEN_AS.items()}

# `by_id`, `fired_until` and what the run keeps follow from the records.
_WITHOUT: Final = frozenset({"definition", "records", "by_id", "fired_until", "kept_bytes", "blobs"})


def _optional(one: msgspec.structs.FieldInfo) -> tuple[str, Any, Any]:
    made = one.default_factory is not msgspec.NODEFAULT
    return one.name, one.type, msgspec.field(default_factory=one.default_factory) if made else one.default


_FIELDS: Final = [one for one in msgspec.structs.fields(Run) if one.name not in _WITHOUT]
_Run: Final[Any] = msgspec.defstruct(
    "_Run",
    [
        *((one.name, one.type) for one in _FIELDS if one.required),
        ("records", list[_AnyRecord]),
        *(_optional(one) for one in _FIELDS if not one.required),
    ],
)


def _as(kinds: dict[type[Any], type[Any]], record: Any) -> Any:
    """Return a record as another type with the same fields."""
    return kinds[type(record)](*(getattr(record, name) for name in record.__struct_fields__))


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

    fields = {one.name: getattr(run, one.name) for one in _FIELDS}
    written = _Run(records=[_as(_WRITTEN_AS, record) for record in run.records], **fields)
    raw = msgspec.Raw(msgspec.json.encode(written))
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
        read: Any = msgspec.json.decode(file.run, type=_Run)
    except msgspec.MsgspecError as error:
        raise HistoryFileError(
            f"{path} is not a recorded history, or is damaged ({error}): save it with run.save_history(path)"
        ) from None
    records: list[Record] = [_as(_READ_AS, record) for record in read.records]
    return Run(
        definition=definition,
        records=records,
        by_id={record.step_id: record for record in records if isinstance(record, Step)},
        fired_until=max((record.at for record in records if isinstance(record, TimersFired)), default=0.0),
        **{one.name: getattr(read, one.name) for one in _FIELDS},
    )


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

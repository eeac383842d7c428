"""Moving a run to another version of its workflow: checked by replay first, then one replicated command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from ..core.commands import MoveRun, Rejected
from ..core.records import Step
from ..errors import (
    InternalError,
    RunConflictError,
    RunEndedError,
    RunNotFoundError,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
)
from ..node.replay_run import replay_run
from ..threads.loop_thread import refuse_on_own_thread

if TYPE_CHECKING:
    from ..core.run_record import Run
    from ..hosts.backend_parts import RunsBackend

MAX_MOVE_ATTEMPTS: Final = 20
"""The number of times a run is checked again because it advanced while it was checked."""


def move(host: RunsBackend, run_id: str, version: int) -> None:
    """See `WorkflowRun.move_to_version`."""
    refuse_on_own_thread("run.move_to_version()")
    given: object = version  # a notebook's code is not type-checked
    if isinstance(given, bool) or not isinstance(given, int):
        raise WorkflowDefinitionError(f"a workflow's version is a number, got {version!r}")
    for _ in range(MAX_MOVE_ATTEMPTS):
        run = _as_now(host.run_record(run_id))
        name = run.definition.workflow
        head = host.head()
        definition = head.definitions.get((name, version))
        if definition is None:
            known = ", ".join(str(number) for one, number in sorted(head.definitions) if one == name)
            raise WorkflowNotFoundError(f"workflow {name!r} has no version {version}; registered: {known}")
        if not run.unfinished:
            raise _ended(run_id, run.status)
        if run.definition.version == version:
            return
        replay_run(run, definition)
        command = MoveRun(run_id, version, len(run.records), run.generation)
        answer = host.propose(command, f"moving run {run_id!r} to version {version}")
        if not isinstance(answer, Rejected):
            return
        match answer.code:
            case "run_went_on":
                continue
            case "run_ended":
                raise _ended(run_id, "ended")
            case "unknown_run":
                raise RunNotFoundError(answer.reason)
            case _:
                raise InternalError(f"moving run {run_id!r} was refused: {answer.reason}")
    raise RunConflictError(
        f"run {run_id!r} recorded more while it was checked, {MAX_MOVE_ATTEMPTS} times: move it when it waits for something"
    )


def _as_now(run: Run) -> Run:
    """Return a copy, as the run continues while it is looked at."""
    records = list(run.records)
    by_id = {record.step_id: record for record in records if isinstance(record, Step)}
    return msgspec.structs.replace(run, records=records, by_id=by_id)


def _ended(run_id: str, how: str) -> RunEndedError:
    return RunEndedError(f"run {run_id!r} has {how}: only an unfinished run can be moved to another version")

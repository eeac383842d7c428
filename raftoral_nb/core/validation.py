"""Is a command well formed and within the limits? What is not is refused as `bad_command`, whatever the state.

The annotations of `commands` and `records` promise most of this and the decoder checks it. But what is in the log is
there for ever, on every node, so the state believes neither. `bool` is no number here: it equals one, and is encoded
differently.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from .. import limits as named
from .commands import (
    AssignRun,
    BindStep,
    CacheStep,
    CancelRun,
    ChangeMembers,
    ClearCache,
    ContinueRun,
    DeleteRun,
    EndRun,
    FireTimers,
    MoveRun,
    NoteTaken,
    OfferNode,
    PauseRun,
    Proposal,
    RegisterWorkflow,
    ReserveNumber,
    ResumeRun,
    SaveStepState,
    SendSignal,
    SetCheckpoint,
    SetRetention,
    SetValueLimit,
    StartChild,
    StartRun,
    Takeover,
    TellRun,
    TerminateRun,
    WithdrawNode,
)
from .records import Definition, EarlierOperation, Failure, Operation, ProposalId, Step, StepSource

if TYPE_CHECKING:
    from collections.abc import Callable


class Limits(msgspec.Struct, frozen=True):
    """The bounds that the state holds. All replicas of a cluster must have the same; tests use tiny ones."""

    value_bytes: int = named.MAX_RECORDED_BYTES
    code_bytes: int = named.MAX_CODE_BYTES
    session_answers: int = named.MAX_SESSION_ANSWERS
    sessions: int = named.MAX_SESSIONS
    runs_kept: int = named.MAX_RUNS_KEPT
    bytes_kept: int = named.MAX_BYTES_KEPT
    evicted_run_ids: int = named.MAX_EVICTED_RUN_IDS
    definitions: int = named.MAX_DEFINITIONS
    unreceived_signals: int = named.MAX_UNRECEIVED_SIGNALS
    signal_ids: int = named.MAX_SIGNAL_IDS_KEPT
    children: int = named.MAX_CHILDREN
    step_states: int = named.MAX_STEP_STATES
    cached_steps: int = named.MAX_CACHED_STEPS
    cache_bytes: int = named.MAX_CACHE_BYTES
    cache_blob_bytes: int = named.MAX_CACHE_BLOB_BYTES


_OPERATIONS: Final = frozenset((*get_args(Operation), *get_args(EarlierOperation)))
_TOO_HIGH: Final = 2**63
"""Numbers from here on do not fit the frames that commands travel in."""
_NAME: Final = f"must be text of 1 to {named.MAX_NAME_CHARS} characters"

# Everything below takes `Any`: that a field holds what its annotation says is the question, not the premise.


def command_problem(command: Any, limits: Limits) -> str | None:
    """Return what is malformed or too large in `command`, as text; None if nothing is.

    Looks at the command alone. May raise if a field holds an object that cannot even be looked at, which the caller
    takes for malformed too.
    """
    check = _CHECKS.get(type(command))
    return f"a {type(command).__name__} is not a command" if check is None else check(command, limits)


def proposal_problem(proposal: Any) -> str | None:
    """Return what is malformed in a proposal, its command aside; None if nothing is."""
    if not isinstance(proposal, Proposal):
        return f"a {type(proposal).__name__} is not a proposal"
    id_: Any = proposal.id
    if id_ is None:
        return None if isinstance(proposal.carried, Takeover) else "only a takeover may come without an id"
    if isinstance(id_, ProposalId) and _is_name(id_.client):
        number: Any = id_.number
        if type(number) is int and 1 <= number < _TOO_HIGH:
            return None
    return f"a proposal's id is a client and a number from 1; the client {_NAME}"


def birth_problem(id_: ProposalId, index: int) -> str | None:
    """Return what is wrong with the birth that a client new at log index `index` claims; None if nothing is."""
    try:
        birth = id_.birth
    except ValueError:
        birth = -1
    # A birth yet to come would, once its client is forgotten, shut out clients that are younger in truth.
    return None if 0 <= birth <= index else f"client {id_.client!r} does not begin with the log index of its birth"


def _takeover(command: Any, _limits: Limits) -> str | None:
    good = _is_number(command.node, 1) and _is_number(command.term, 1)
    return None if good else "a takeover's node and term must be numbers from 1"


def _change_members(command: Any, _limits: Limits) -> str | None:
    good = _is_number(command.node, 1) and command.change in ("add", "remove") and _is_number(command.blobs_to, 0)
    good = good and all(_is_number(node, 1) for node in command.counted)
    return (
        None
        if good
        else "a change of members names a node, from 1, to add or to remove, and who was counted up to which entry"
    )


def _reserve(command: Any, _limits: Limits) -> str | None:
    return None if _is_number(command.node, 1) else "a reservation names the number of a node, from 1"


def _register(command: Any, limits: Limits) -> str | None:
    definition = command.definition
    if not isinstance(definition, Definition):
        return "it carries no definition"
    if not _is_name(definition.workflow):
        return f"the workflow's name {_NAME}"
    if not _is_number(definition.version, 0):
        return "the workflow's version must be a number from 0"
    texts = [definition.fingerprint, definition.digest]
    arithmetic: Any = {} if definition.arithmetic is msgspec.UNSET else definition.arithmetic
    for table in (definition.sources, definition.made_with, arithmetic):
        texts += [*table.keys(), *table.values()]
    if not all(isinstance(text, str) for text in texts):
        return "the definition's fingerprint, digest, sources and versions must be text"
    if not _is_bytes(definition.code, limits.code_bytes):
        return f"the workflow's code must be at most {limits.code_bytes} bytes"
    return None


def _start(command: Any, limits: Limits) -> str | None:
    if not (_is_name(command.run_id) and _is_name(command.workflow)):
        return f"the run_id and the workflow's name {_NAME}"
    if not _is_number(command.version, 0):
        return "the workflow's version must be a number from 0"
    if not _is_bytes(command.input, limits.value_bytes):
        return f"the input must be at most {limits.value_bytes} bytes"
    return _digest(command.digest) or _format(command.format) or _time(command.at) or _start_id(command.start_id)


def _start_id(name: Any) -> str | None:
    good = isinstance(name, str) and len(name) <= named.MAX_NAME_CHARS
    return None if good else "the name of the start is not text that is short"


def _format(number: Any) -> str | None:
    return None if _is_number(number, 1) else "the format of records must be a number from 1"


def _checkpoint(command: Any, limits: Limits) -> str | None:
    # Without `_is_number` and its like: every node looks at every step, and calls are what that costs.
    generation, step, taken = command.generation, command.step, command.taken
    if not (type(generation) is int and 1 <= generation < _TOO_HIGH):
        return "the run's generation must be a number from 1"
    if not (_is_name(command.run_id) and isinstance(step, Step)):
        return f"a checkpoint carries a step, and its run_id {_NAME}"
    step_id: Any = step.step_id
    if not (isinstance(step_id, str) and 0 < len(step_id) <= named.MAX_STEP_ID_CHARS):
        return f"a step_id must be text of 1 to {named.MAX_STEP_ID_CHARS} characters"
    if step.operation not in _OPERATIONS:
        return f"step {step_id!r} has no operation that is known"
    version: Any = command.parent_version if isinstance(command, StartChild) else command.version
    if not (type(version) is int and 0 <= version < _TOO_HIGH):
        return "the version must be a number from 0"
    message_id: Any = step.message_id
    if message_id is not None and not (isinstance(message_id, str) and len(message_id) <= named.MAX_NAME_CHARS + 1):
        return f"the message of step {step_id!r} is not named by text"
    if not (type(taken) is int and 0 <= taken < _TOO_HIGH):
        return _taken(taken)
    node: Any = step.node
    epoch: Any = step.epoch
    if not (type(node) is int and type(epoch) is int and 1 <= node < _TOO_HIGH and 0 < abs(epoch) < _TOO_HIGH):
        return _author(node, epoch)
    if step.cached_from is not None and not _is_source(step.cached_from):
        return f"where the value of step {step_id!r} comes from is not a run and a step"
    return _one_of(step.value, step.failure, limits) or _time(step.at)


def _is_source(source: Any) -> bool:
    return isinstance(source, StepSource) and _is_name(source.run_id) and _step_id(source.step_id) is None


def _cached(command: Any, limits: Limits) -> str | None:
    problem = _checkpoint(command, limits)
    if problem is not None:
        return problem
    if command.step.operation != "compute" or command.step.failure is not None:
        return "what is cached is the value of a step that computes one"
    if not (_is_name(command.key) and _is_name(command.name)):
        return f"the key and the name of what is cached {_NAME}"
    good = isinstance(command.inputs, str) and len(command.inputs) <= named.MAX_SHOWN_INPUTS
    return None if good else f"the inputs must be text of at most {named.MAX_SHOWN_INPUTS} characters"


def _clear(command: Any, _limits: Limits) -> str | None:
    return None if command.name is None or _is_name(command.name) else f"the name of what is cleared {_NAME}"


def _step_state(command: Any, limits: Limits) -> str | None:
    if not _is_name(command.run_id):
        return f"the run_id {_NAME}"
    if not (_is_number(command.version, 0) and _is_number(command.generation, 1)):
        return "the version must be a number from 0, and the run's generation one from 1"
    return (
        _step_id(command.step_id)
        or (None if _is_number(command.number, 1) else "what is saved of a step is numbered from 1")
        or (None if _is_bytes(command.value, limits.value_bytes) else f"it must be at most {limits.value_bytes} bytes")
        or _author(command.node, command.epoch)
        or _time(command.at)
    )


def _step_id(step_id: Any) -> str | None:
    good = isinstance(step_id, str) and 0 < len(step_id) <= named.MAX_STEP_ID_CHARS
    return None if good else f"a step_id must be text of 1 to {named.MAX_STEP_ID_CHARS} characters"


def _taken(number: Any) -> str | None:
    return None if _is_number(number, 0) else "the messages that were taken must be a number from 0"


def _acted(command: Any) -> str | None:
    """Look at what every command of the acting node has that is about a run and records no step."""
    if not _is_name(command.run_id):
        return f"the run_id {_NAME}"
    if not (_is_number(command.version, 0) and _is_number(command.generation, 1)):
        return "the version must be a number from 0, and the run's generation one from 1"
    return _taken(command.taken) or _author(command.node, command.epoch)


def _timers(command: Any, _limits: Limits) -> str | None:
    if _time(command.due) or _time(command.at) or command.due > command.at:
        return "timers are due at a finite number of seconds, and fire then or later"
    return _acted(command)


def _note(command: Any, _limits: Limits) -> str | None:
    return _acted(command)


def _tell(command: Any, limits: Limits) -> str | None:
    problem = _checkpoint(command, limits)
    if problem is not None:
        return problem
    operation = command.step.operation
    if operation not in ("signal", "cancel") or command.step.failure is not None:
        return "a run is told by a step that signals or cancels, and has not failed"
    if not (_is_name(command.target) and _is_name(command.signal_id)):
        return f"the run to tell and the signal_id {_NAME}"
    if command.signal_id.startswith("\n"):
        return "a signal_id must not begin with a line break: such ids are those of ends of child runs"
    if not _is_bytes(command.value, limits.value_bytes):
        return f"the value must be at most {limits.value_bytes} bytes"
    if operation == "signal":
        return None if _is_name(command.name) else f"the signal's name {_NAME}"
    return _reason(command.name)


def _child(command: Any, limits: Limits) -> str | None:
    if not (_is_name(command.child_id) and _is_name(command.workflow)):
        return f"the child's run_id and its workflow's name {_NAME}"
    if command.version is not None and not _is_number(command.version, 0):
        return "the workflow's version must be a number from 0, or none"
    if not _is_bytes(command.input, limits.value_bytes):
        return f"the input must be at most {limits.value_bytes} bytes"
    if type(command.detached) is not bool:
        return "a child is detached or not"
    if type(command.again) is not bool:
        return "a child is started again or not"
    problem = _digest(command.digest) or _format(command.format) or _checkpoint(command, limits)
    if problem is None and command.step.failure is not None:
        return "a step that starts a child has not failed"
    return problem


def _move(command: Any, _limits: Limits) -> str | None:
    if not _is_name(command.run_id):
        return f"the run_id {_NAME}"
    good = _is_number(command.version, 1) and _is_number(command.steps, 0) and _is_number(command.generation, 1)
    return None if good else "the version and the generation must be numbers from 1, and the steps one from 0"


def _end(command: Any, limits: Limits) -> str | None:
    if not _is_name(command.run_id):
        return f"the run_id {_NAME}"
    if not _is_number(command.version, 0):
        return "the version must be a number from 0"
    if type(command.cancelled) is not bool:
        return "a run was cancelled or not"
    return _ending(command) or _one_of(command.result, command.failure, limits)


def _continue(command: Any, limits: Limits) -> str | None:
    if not _is_name(command.run_id):
        return f"the run_id {_NAME}"
    if not _is_number(command.version, 0):
        return "the version must be a number from 0"
    if not _is_bytes(command.input, limits.value_bytes):
        return f"the input must be at most {limits.value_bytes} bytes"
    if type(command.cancelled) is not bool:
        return "the code got the request to cancel or not"
    if not (_is_number(command.had, 0) and isinstance(command.left, tuple)):
        return "the messages that were had must be a number from 0, and those left a tuple"
    before = 0
    for number in command.left:
        if not (_is_number(number, before + 1) and number <= command.had):
            return "the messages that are left must be ascending numbers of those that were had"
        before = number
    return _ending(command)


def _ending(command: Any) -> str | None:
    if not _is_number(command.generation, 1):
        return "the run's generation must be a number from 1"
    return _author(command.node, command.epoch) or _time(command.at)


def _signal(command: Any, limits: Limits) -> str | None:
    if not (_is_name(command.run_id) and _is_name(command.signal_id) and _is_name(command.name)):
        return f"the run_id, the signal_id and the signal's name {_NAME}"
    if command.signal_id.startswith("\n"):
        return "a signal_id must not begin with a line break: such ids are those of ends of child runs"
    if not _is_bytes(command.value, limits.value_bytes):
        return f"the value must be at most {limits.value_bytes} bytes"
    return _time(command.at) if type(command.update) is bool else "a message is an update or not"


def _of_run(command: Any, _limits: Limits) -> str | None:
    return _time(command.at) if _is_name(command.run_id) else f"the run_id {_NAME}"


def _stop(command: Any, limits: Limits) -> str | None:
    return _reason(command.reason) or _of_run(command, limits)


def _delete(command: Any, limits: Limits) -> str | None:
    return _of_run(command, limits) if _is_number(command.generation, 1) else "the generation must be a number from 1"


def _retention(command: Any, _limits: Limits) -> str | None:
    runs, size = command.keep_runs, command.keep_bytes
    if runs is None and size is None:
        return "it says neither how many finished runs are kept nor how many bytes of them"
    if runs is not None and not (_is_number(runs, 1) and runs <= named.MAX_KEEP_RUNS):
        return f"keep_runs must be a number from 1 to {named.MAX_KEEP_RUNS}"
    return None if size is None or _is_number(size, 1) else "keep_bytes must be a number from 1"


def _offer(command: Any, limits: Limits) -> str | None:
    labels = command.labels
    if type(command.runs) is not bool:
        return "a node takes runs or does not"
    if not (isinstance(labels, tuple) and len(labels) <= named.MAX_LABELS and all(map(_is_name, labels))):
        return f"a node has at most {named.MAX_LABELS} labels, and each {_NAME}"
    return _withdraw(command, limits)


def _withdraw(command: Any, _limits: Limits) -> str | None:
    if not (_is_number(command.node, 1) and _is_name(command.token)):
        return f"the node must be a number from 1, and the token of its start {_NAME}"
    return _time(command.at)


def _assign(command: Any, limits: Limits) -> str | None:
    number = command.number
    if not (_is_number(command.node, 0) and type(number) is int and -_TOO_HIGH < number <= 0):
        return "a run is given to a node, a number from 1, or any (0); and an assignment has a negative number"
    return _of_run(command, limits)


def _bind(command: Any, _limits: Limits) -> str | None:
    step_ids = command.step_ids
    if not (isinstance(step_ids, tuple) and 1 <= len(step_ids) <= 2):
        return "a step is bound alone or with its intent"
    if not _is_name(command.where):
        return f"the label {_NAME}"
    if not (_is_name(command.run_id) and _is_number(command.version, 0)):
        return f"the run_id {_NAME}, and the version must be a number from 0"
    return next(filter(None, map(_step_id, step_ids)), None) or _ending(command)


def _value_limit(command: Any, _limits: Limits) -> str | None:
    size, most = command.max_value_bytes, named.MAX_ENCODED_BYTES
    return None if _is_number(size, 1) and size <= most else f"max_value_bytes must be a number from 1 to {most}"


def _reason(reason: Any) -> str | None:
    good = isinstance(reason, str) and len(reason) <= named.MAX_REASON_CHARS
    return None if good else f"the reason must be text of at most {named.MAX_REASON_CHARS} characters"


def _digest(digest: Any) -> str | None:
    good = isinstance(digest, str) and len(digest) <= named.MAX_NAME_CHARS
    return None if good else "the digest of the input is not text that is short"


def _time(at: Any) -> str | None:
    return None if type(at) is float and math.isfinite(at) else "the time must be a finite number of seconds"


def _author(node: Any, epoch: Any) -> str | None:
    good = _is_number(node, 1) and type(epoch) is int and 0 < abs(epoch) < _TOO_HIGH
    return None if good else "its node must be a number from 1, and its epoch one from 1, or that of an assignment"


def _one_of(value: Any, failure: Any, limits: Limits) -> str | None:
    most = limits.value_bytes
    if (value is None) == (failure is None):
        return "exactly one of a value and a failure must be given"
    if failure is None:
        return None if _is_bytes(value, most) else f"the value must be at most {most} bytes"
    if isinstance(failure, Failure):
        texts: tuple[Any, ...] = (failure.type_name, failure.message, failure.traceback)
        exception: Any = b"" if failure.exception is None else failure.exception
        if all(isinstance(text, str) for text in texts) and isinstance(exception, bytes):
            size = sum(map(len, texts)) + len(exception)
            return None if size <= most else f"the failure must be at most {most} bytes"
    return "the failure must have texts and an encoded exception or none"


def _is_number(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < _TOO_HIGH


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= named.MAX_NAME_CHARS


def _is_bytes(value: Any, most: int) -> bool:
    return isinstance(value, bytes) and len(value) <= most


_CHECKS: Final[dict[type[Any], Callable[[Any, Limits], str | None]]] = {
    Takeover: _takeover,
    ChangeMembers: _change_members,
    ReserveNumber: _reserve,
    RegisterWorkflow: _register,
    StartRun: _start,
    SetCheckpoint: _checkpoint,
    FireTimers: _timers,
    NoteTaken: _note,
    SaveStepState: _step_state,
    CacheStep: _cached,
    ClearCache: _clear,
    TellRun: _tell,
    StartChild: _child,
    EndRun: _end,
    MoveRun: _move,
    DeleteRun: _delete,
    SetRetention: _retention,
    OfferNode: _offer,
    WithdrawNode: _withdraw,
    AssignRun: _assign,
    BindStep: _bind,
    SetValueLimit: _value_limit,
    ContinueRun: _continue,
    SendSignal: _signal,
    CancelRun: _stop,
    TerminateRun: _stop,
    PauseRun: _of_run,
    ResumeRun: _of_run,
}

"""The exceptions. Every one derives from `RaftoralError`, and its message says what was wrong, where, and what to do.

Cancellation, inside a workflow, is asyncio's own `CancelledError`.
"""

from __future__ import annotations

import linecache
import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class RecordedFailure(Protocol):
    """The part of a recorded failure (a `Failure`) that the errors use."""

    @property
    def type_name(self) -> str:
        """The module and name of the exception's class."""
        ...

    @property
    def message(self) -> str:
        """The message of the exception."""
        ...

    @property
    def traceback(self) -> str:
        """The place where it was raised, as text; engine frames are left out."""
        ...


class RecordedDifference(Protocol):
    """The part of a `Difference` that the errors use: where an execution differed from the record, as text."""

    @property
    def reason(self) -> str:
        """The difference, in a sentence."""
        ...

    @property
    def recorded(self) -> str:
        """The recorded operation, with its step_id."""
        ...

    @property
    def asked(self) -> str:
        """The operation that was asked for instead."""
        ...

    @property
    def where(self) -> str:
        """File or cell, line and function of the workflow's code."""
        ...

    @property
    def line(self) -> str:
        """The text of that line."""
        ...

    @property
    def cause(self) -> str:
        """The likely cause."""
        ...


def _asking_line(traceback: TracebackType | None) -> str:
    """Return the innermost line of `__main__` in a traceback, or "" if a magic asked (then the cell says it all)."""
    found = ""
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] == "kernel_ext":
            return ""
        if module == "__main__":
            line = linecache.getline(frame.f_code.co_filename, traceback.tb_lineno).strip()
            place = "" if frame.f_code.co_name == "<module>" else f" in {frame.f_code.co_name}"
            found = f"line {traceback.tb_lineno}{place}: {line}" if line else f"line {traceback.tb_lineno}{place}"
        traceback = traceback.tb_next
    return found


class RaftoralError(Exception):
    """Base of everything this package raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """Return the text IPython shows in place of a traceback: what was wrong, and the notebook's line.

        IPython looks this method up on any exception, so nothing of it is imported here; outside IPython it has no effect.
        """
        lines = [f"{type(self).__name__}: {self}"]
        asked = _asking_line(self.__traceback__)
        if asked:
            lines.append(f"  raised by {asked}")
        return lines


class InternalError(RaftoralError):
    """A bug of ours: something that must never happen did. Please report it with the message."""


# --- the cluster and its nodes


class ClusterError(RaftoralError):
    """The cluster is not in a state in which this can be done (not started, stopped, already started)."""


class NoSuchNodeError(RaftoralError, KeyError):
    """A node number that the cluster does not have."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NodeStateError(RaftoralError):
    """The node is not in a state in which this can be done (killing a dead node, resuming one that runs)."""


class FaultError(RaftoralError, ValueError):
    """A fault that makes no sense: a link of a node to itself, a node on two sides, a delay that is no delay."""


class ScenarioError(RaftoralError, ValueError):
    """A scenario that is not one, or whose play could not continue: what it waited for did not happen, or an act failed."""


class PortInUseError(RaftoralError):
    """A port that was asked for is taken."""


class TooManyOpenFilesError(ClusterError):
    """A limit on open files (sockets included) that is lower than what is needed; the message says how many, and what to do."""


class BlockingCallError(RaftoralError):
    """A call that blocks was made on one of the cluster's own threads (in a workflow, say), which would wait for itself."""


class NotAcknowledgedError(RaftoralError):
    """A majority did not acknowledge a command by its deadline; `may_commit` says whether it may still happen."""

    def __init__(self, message: str, *, may_commit: bool) -> None:
        super().__init__(message)
        self.may_commit = may_commit


# --- workflows


class NotAllStartedError(RaftoralError):
    """Of runs that were to be started together some were not. Nothing of the others is lost.

    `runs` has a handle on each run that was started, in the order they were asked for, and None where one was not; `refusals` says why,
    by position: what `start_workflow` would have raised for that one.
    """

    def __init__(
        self, message: str, runs: tuple[Any, ...] = (), refusals: Mapping[int, RaftoralError] | None = None
    ) -> None:
        super().__init__(message)
        self.runs = runs
        self.refusals: dict[int, RaftoralError] = dict(refusals or {})


class WorkflowNotFoundError(RaftoralError):
    """A workflow name (or version) that is not registered."""


class WorkflowConflictError(RaftoralError):
    """A changed workflow was registered under a version that unfinished runs use."""


class WorkflowDefinitionError(RaftoralError):
    """What was given as a workflow is none: it must be an `async def name(ctx, input)`."""


class NonDeterministicCodeError(WorkflowDefinitionError):
    """A workflow was to be registered strictly, and does outside its steps what is not deterministic.

    `findings` says where, why and what to do instead.
    """

    def __init__(self, message: str, findings: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.findings = findings


class NonDeterminismWarning(UserWarning):
    """A workflow that was registered does, outside its steps, what may differ from node to node or in a replay."""


class TooManyWorkflowsError(RaftoralError):
    """A registration past the limit, when no registered workflow can be dropped to make room."""


class CodeNotShippableError(RaftoralError):
    """A workflow's code, or something that it captured, cannot be pickled or is too large."""


class VersionMismatchError(CodeNotShippableError):
    """A node cannot load a workflow's code, because its Python or a package has another version; the message names both."""


class RunConflictError(RaftoralError):
    """The `run_id` was already used, with another workflow, version or input, or for a run that was evicted."""


class RunNotFoundError(RaftoralError):
    """A run id that is not known (never started, evicted, or deleted); the message says which, as far as that is known."""


class InputTypeError(RaftoralError, TypeError):
    """The input is not what the workflow's annotation asks for; the message names the field."""


class ClassChangedError(InputTypeError):
    """A value is of a class that the workflow knows with other code; the message names the class and what differs.

    A class whose cell was run again unchanged, in this kernel or in another, is the same class, and is not refused.
    """


class ClassChangedWarning(UserWarning):
    """A class of the notebook is not quite what a workflow was registered with, and what was asked for is done all the same."""


class ValueNotShippableError(RaftoralError):
    """An input, step value or result does not survive being pickled and unpickled, or is too large."""


class UnreadableError(RaftoralError):
    """A run that a node cannot execute: its code, or something recorded of it, does not unpickle there. Says what, and why."""


class CompletionTimeoutError(RaftoralError, TimeoutError):
    """A run that did not end within the given time; it continues."""


class WorkflowFailedError(RaftoralError):
    """A run failed. `failure` holds the workflow's own exception as data, `run_id` names the run."""

    _ended = ""

    def __init__(self, run_id: str, failure: RecordedFailure) -> None:
        reason = f": {failure.message}" if failure.message else ""
        told = f"{self._ended}{reason}" if self._ended else f"failed with {failure}"
        super().__init__(f"run {run_id!r} {told}")
        self.run_id = run_id
        self.failure = failure

    def _render_traceback_(self) -> list[str]:
        # The workflow's own traceback is what helps; where the notebook waited for it does not.
        traceback = self.failure.traceback.rstrip()
        return [f"{type(self).__name__}: {self}", *(traceback.splitlines() if traceback else ())]

    def __reduce__(self) -> tuple[type[WorkflowFailedError], tuple[str, RecordedFailure]]:
        return (type(self), (self.run_id, self.failure))


class WorkflowCancelledError(WorkflowFailedError):
    """A run was cancelled, and ended with that."""

    _ended = "was cancelled"


class WorkflowTerminatedError(WorkflowFailedError):
    """A run was terminated: ended from outside, at once."""

    _ended = "was terminated"


def failed_error(run_id: str, failure: RecordedFailure) -> WorkflowFailedError:
    """Return the error that says how a run ended which did not complete: failed, cancelled or terminated."""
    kind = _ENDED_FROM_OUTSIDE.get(failure.type_name, WorkflowFailedError)
    return kind(run_id, failure)


_ENDED_FROM_OUTSIDE: Final[dict[str, type[WorkflowFailedError]]] = {
    "asyncio.exceptions.CancelledError": WorkflowCancelledError,
    f"{__name__}.CancelledRunError": WorkflowCancelledError,  # in records of the first format
    f"{__name__}.WorkflowTerminatedError": WorkflowTerminatedError,
}


class RunEndedError(RaftoralError):
    """The run has ended: it can be sent nothing, and nothing can be changed about it any more."""


class RunUnfinishedError(RaftoralError):
    """The run has not ended, and only one that has can be deleted: cancel or terminate it first."""


class SignalRefusedError(RaftoralError):
    """A signal or an update was not accepted: too many wait for the run already, or its name or id is not usable."""


class UpdateRefusedError(RaftoralError):
    """The workflow refused an update, or ended without having answered it; the message says why."""


class QueryFailedError(RaftoralError):
    """A query could not be answered: no such query is registered there, or its function raised (see `__cause__`)."""


# --- inside a workflow


class NotInWorkflowError(RaftoralError):
    """Code of a workflow did what only a step may do, such as open a connection, or start a thread or a process.

    It would have happened on every node, and again in every replay. Raised at the line that did it, on every node alike. `what`
    names what was done; `place` is the line, or "". `time.sleep` is noticed from Python 3.13 on.
    """

    def __init__(self, what: str, place: str = "") -> None:
        where = f" at {place}" if place else ""
        super().__init__(
            f"{what}{where} is refused: the code of a workflow runs on every node, and again in every replay. "
            f'Do it in a step: await ctx.compute("name", fn)'
        )
        self.what = what
        self.place = place

    def __reduce__(self) -> tuple[type[NotInWorkflowError], tuple[str, str]]:
        return (type(self), (self.what, self.place))


class RestlessError(RaftoralError):
    """A workflow does not come to rest: between two records it ran more callbacks than one turn may have.

    Most often a loop that waits by `asyncio.sleep(0)`. It is counted, not timed, so every node sees it at the same place. `place`
    is the line where it was, or "".
    """

    def __init__(self, callbacks: int, place: str = "") -> None:
        where = f" It was at {place}." if place else ""
        super().__init__(
            f"the workflow does not come to rest: it ran {callbacks} callbacks without waiting for anything outside of it.{where} "
            f"Wait for what ends the loop (an asyncio.Event, a queue, a message), or for a time longer than 0"
        )
        self.callbacks = callbacks
        self.place = place

    def __reduce__(self) -> tuple[type[RestlessError], tuple[int, str]]:
        return (type(self), (self.callbacks, self.place))


class ExecutionDropped(BaseException):
    """This execution of the run is over, though the run may not be: its node stopped, diverged or gave the run up.

    Raised where its code stands, and by whatever its `finally` blocks would begin or await. Not an `Exception`, so that
    `except Exception` lets it pass: there is nothing to be done about it.
    """

    def __init__(self) -> None:
        super().__init__("this execution of the run was dropped: nothing can be begun or awaited in it any more")

    def __reduce__(self) -> tuple[type[ExecutionDropped], tuple[()]]:
        return (type(self), ())


class TooManyChildrenError(RaftoralError):
    """A run has as many unfinished children as it may have."""


class ReceiveTimeoutError(RaftoralError, TimeoutError):
    """No signal or update came within the given time of the run. Raised on every node in the same turn."""


class StepFailedError(RaftoralError):
    """A step failed with an exception that cannot be rebuilt here; its type and message are in `failure`.

    In a group it stands for a member; `step_id` is then "".
    """

    def __init__(self, step_id: str, failure: RecordedFailure) -> None:
        super().__init__(f"step {step_id!r} failed with {failure}" if step_id else str(failure))
        self.step_id = step_id
        self.failure = failure

    def __reduce__(self) -> tuple[type[StepFailedError], tuple[str, RecordedFailure]]:
        return (type(self), (self.step_id, self.failure))


class LostChangeError(RaftoralError):
    """A step changed what it was given (an argument, `self`, a closed-over variable, a global) and did not return it.

    It ran on one node, with a copy, and only what it returns is recorded: the workflow would continue as if nothing had changed.
    """


class StepKeyError(RaftoralError, ValueError):
    """The key given to a step is not usable as a name: empty, too long, or with control characters."""


class WrongTaskError(RaftoralError):
    """Something of a run was used outside of its own tasks: in a step, in a thread, in a query, in a callback.

    An operation of its context was called there, or a future, an event or a queue set that the workflow waits for.
    """


class NotAwaitedError(RaftoralError):
    """An operation of a workflow was called without `await`; the message names it and its line."""


class NonDeterminismError(RaftoralError):
    """An execution asked for another step than the one recorded, or computed another value.

    `difference` (a `Difference`, or None) has both sides, the line that asked, and the likely cause.
    """

    def __init__(self, message: str, difference: RecordedDifference | None = None) -> None:
        super().__init__(message if difference is None else f"{message}: {difference}")
        self.difference = difference


# --- testing


class StalledError(RaftoralError):
    """A wait, in a test on the virtual clock, for something that will never happen however much time passes."""


class HistoryFileError(RaftoralError, ValueError):
    """A file holds no recorded history, is damaged, or was written in another format."""


class FaultPlanError(RaftoralError, ValueError):
    """A test asked for a fault that cannot come, or that did not come before the run ended."""


class DeadlineExceededError(RaftoralError, TimeoutError):
    """A block of `ctx.deadline` that was not done in time, and was cancelled."""


class BadArgumentError(RaftoralError, ValueError):
    """An operation or an option was given a value that it cannot work with; the message says which it takes."""


class StepTimeoutError(RaftoralError, TimeoutError):
    """An attempt at a step took longer than its `timeout`, or all of them longer than its `total_timeout`; the message says which."""


class RetryAfter(RaftoralError):  # noqa: N818 - a wish that the function of a step has
    """Raised by the function of a step that failed and knows when it may be tried again: a service said so (HTTP 429, 503).

        if response.status_code == 429:
            raise RetryAfter(float(response.headers["Retry-After"]))

    `when` is a number of seconds from now, from 0 on, or a `timedelta`, or a `datetime` with a time zone; a `datetime` in the past means at once.
    The wait is just as long, whatever the step's `Retry` says of waits; how many attempts there are is up to its `attempts`. `Retry.on` does
    not count, `Retry.final` does. A step without a policy has as many attempts as `Retry()`. One that runs `at_most_once` is
    not tried again.

    When no attempt is left, the step has failed with `cause` (or what it was raised `from`), if there is one, else with this exception. The
    wait is not recorded: a new leader tries at once. Outside of a step it is an exception like any other. Raises `BadArgumentError` if
    `when` is none of these.
    """

    def __init__(self, when: float | timedelta | datetime, *, cause: BaseException | None = None) -> None:
        aware = isinstance(when, datetime) and when.utcoffset() is not None
        length = when.total_seconds() if isinstance(when, timedelta) else when
        number = isinstance(length, int | float) and not isinstance(length, bool) and 0 <= length < math.inf
        if not (aware or number):
            raise BadArgumentError(
                "RetryAfter takes a number of seconds from 0 on, a timedelta, or a datetime with a time zone, such as "
                f"RetryAfter(30) or RetryAfter(datetime(2030, 1, 1, tzinfo=UTC)); not {when!r}"
            )
        shown = (
            when.isoformat() if isinstance(when, datetime) else when if isinstance(when, timedelta) else f"{when:g} s"
        )
        super().__init__(f"to be tried again {'at' if isinstance(when, datetime) else 'after'} {shown}")
        self.when, self.cause = when, cause
        if cause is not None:
            self.__cause__ = cause

    def seconds(self, now: float) -> float:
        """Return how long to wait from `now` on, in seconds; `now` is in Unix seconds."""
        if isinstance(self.when, datetime):
            return max(0.0, self.when.timestamp() - now)
        return max(0.0, self.when.total_seconds() if isinstance(self.when, timedelta) else float(self.when))


class UnknownExecutorError(RaftoralError, ValueError):
    """A step's `on=` names an executor that the node does not have, or that cannot be used there."""


class WorkerDiedError(RaftoralError):
    """The process in which an attempt at a step ran ended before it returned: that attempt failed, and nothing else.

    It may have done a part of its work, or all. Retried as any other failure, if the step has a `Retry`.
    """


class OutcomeUnknown(RaftoralError):  # noqa: N818 - a state of affairs that a workflow decides about
    """A step that runs at most once was begun, and nobody knows whether it was done: its node died or was deposed.

    `step_id` names it, and `idempotency_key` is what its function may have given to the service that it called. Recorded like
    any other outcome, so every node sees the same.
    """

    def __init__(self, step_id: str, idempotency_key: str) -> None:
        super().__init__(
            f"step {step_id!r} was begun, and its outcome was not recorded: it may have been done or not, and as "
            f"at_most_once was asked for, it is not done again. Ask the service it calls about {idempotency_key!r}, then decide how to continue."
        )
        self.step_id = step_id
        self.idempotency_key = idempotency_key

    def __reduce__(self) -> tuple[type[OutcomeUnknown], tuple[str, str]]:
        return (type(self), (self.step_id, self.idempotency_key))


# --- the log and the network


class SnapshotError(RaftoralError):
    """A snapshot is damaged, not complete, or of another version."""


class ProtocolError(RaftoralError):
    """A peer sent bytes that are not a frame of this cluster: too long, not authentic, or malformed."""


# --- the cluster's key


class KeyFileError(RaftoralError):
    """A key file, or the folder of key files, is missing, damaged, open to other users, or cannot be written."""


class ClusterNameTakenError(ClusterError):
    """A cluster of that name is running already; the message names its processes."""


class UnknownClusterError(RaftoralError, KeyError):
    """A cluster name that no running cluster of this user has (or several have); the message names those there are."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotEncryptedError(ClusterError):
    """Nodes were to listen, or to talk, where other machines can reach them, and what they say would not be encrypted."""


class MissingPackageError(RaftoralError, ImportError):
    """A package that is needed but not installed; the message says which, and how to get it."""


# --- the data directory


class StorageError(RaftoralError):
    """A data directory, or a file in it, cannot be used; the message names it and says what to do."""


class DirectoryInUseError(StorageError):
    """Another cluster uses the data directory; the message names its process."""


class ForeignDirectoryError(StorageError):
    """The directory, or a file in it, was not made by raftoral-nb, or belongs to another cluster, node or Python version."""


class NewerFormatError(StorageError):
    """The directory was written by a later version of raftoral-nb."""


class DamagedStorageError(StorageError):
    """A file of the data directory is damaged, truncated or missing. It was not changed."""


class CodecError(StorageError):
    """A data directory was written with another codec, or key, than the one given; or with one, and none was given."""


class DamagedBlobError(StorageError):
    """The bytes of a large value, kept beside the log, are not those that were written. Another node may have them still."""


class BlobMissingError(StorageError):
    """The bytes of a large value are not in this process, and no node that was asked has them."""


class StorageWriteError(StorageError):
    """The disk did not take what was written: it is full, read-only or failing. Nothing was acknowledged that is not stored."""


# --- cells that last


class CellError(RaftoralError):
    """A `%%durable` cell cannot be run, recorded or restored; the message says why, and what to do."""

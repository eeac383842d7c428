"""The requests that users make of a run from outside: to take a message, to answer a query, to stop, to wait. Called from any thread."""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from ..core.cluster_events import NodeChanged
from ..core.commands import (
    AssignRun,
    CancelRun,
    Command,
    DeleteRun,
    PauseRun,
    Rejected,
    ResumeRun,
    SendSignal,
    TerminateRun,
)
from ..core.events import ClusterEvent
from ..core.records import NodeId, RunId, Step
from ..core.step_ids import check_key
from ..errors import (
    CompletionTimeoutError,
    NodeStateError,
    QueryFailedError,
    RaftoralError,
    SignalRefusedError,
    UpdateRefusedError,
)
from ..hosts.variable_waits import VARIABLES
from ..limits import MAX_NAME_CHARS
from ..threads.loop_thread import refuse_on_own_thread
from ..threads.seconds import Seconds, patience
from ..workflow.codec import failures, values
from ..workflow.execution.telling import checked_reason, refusal
from ..workflow.shipping import definitions

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..hosts.backend_parts import RunEnding, RunsBackend
    from ..workflow.codec.classes import Known


VALIDATOR_SECONDS: Final = 5.0
"""The time that the acting node has to say what a validator says (seconds); then the update is sent without that."""


def signal(host: RunsBackend, run_id: RunId, name: str, value: Any, signal_id: str | None) -> str:
    """See `WorkflowRun.signal`."""
    return _send(host, run_id, name, value, signal_id, update=False)


def _send(
    host: RunsBackend,
    run_id: RunId,
    name: str,
    value: Any,
    message_id: str | None,
    *,
    update: bool,
    longest: float | None = None,
) -> str:
    kind = "update" if update else "signal"
    check_key(name)
    given: object = message_id
    if given is None:
        message_id = uuid.uuid4().hex
    elif not (isinstance(given, str) and given.strip() and given.isprintable() and len(given) <= MAX_NAME_CHARS):
        raise SignalRefusedError(
            f"the id of a {kind} is printable text of 1 to {MAX_NAME_CHARS} characters, got {given!r}"
        )
    assert message_id is not None
    what, most = f"the value of the {kind} {name!r}", host.head().max_value_bytes
    data = values.encode(value, what=what, known=lambda: _known(host, run_id), most=most)
    if update:
        _have_it_validated(host, run_id, name, data, message_id, longest)
    _ask(
        host,
        SendSignal(run_id, message_id, name, data, update, host.wall_clock()),
        f"the {kind} {name!r} to run {run_id!r}",
    )
    return message_id


def _have_it_validated(
    host: RunsBackend, run_id: RunId, name: str, data: bytes, update_id: str, longest: float | None
) -> None:
    """Raise what the run's validator says against an update. Where it cannot be asked, the update's turn will tell."""
    run, leads = host.head().runs.get(run_id), host.spokesman()
    if run is None or leads is None or not run.unfinished or update_id in run.signal_ids:
        return  # unknown, or over, which the answer will say; or sent before, and waited for again
    patient = VALIDATOR_SECONDS if longest is None else min(longest, VALIDATOR_SECONDS)
    try:
        failure = leads.objection(run_id, name, data, patient)
    except (TimeoutError, RaftoralError):
        return
    if failure is not None:
        raise failures.rebuild(failure, step_id=f"update/{name}")


def _known(host: RunsBackend, run_id: RunId) -> Known | None:
    """Return the classes that the code of a run knows; None if it is not known, which its answer will say."""
    run = host.head().runs.get(run_id)
    return None if run is None else definitions.known_classes(run.definition)


def cancel(host: RunsBackend, run_id: RunId, reason: str) -> None:
    """See `WorkflowRun.cancel`."""
    _ask(host, CancelRun(run_id, checked_reason(reason), host.wall_clock()), f"cancelling run {run_id!r}")


def terminate(host: RunsBackend, run_id: RunId, reason: str) -> None:
    """See `WorkflowRun.terminate`."""
    _ask(host, TerminateRun(run_id, checked_reason(reason), host.wall_clock()), f"terminating run {run_id!r}")


def delete(host: RunsBackend, run_id: RunId) -> None:
    """See `WorkflowRun.delete`."""
    run = host.run_record(run_id)
    what = f"deleting run {run_id!r}"
    answer = host.propose(DeleteRun(run_id, run.generation, host.wall_clock()), what)
    # Gone, or already another run: somebody else was quicker, or the command came twice, by way of two nodes.
    if isinstance(answer, Rejected) and answer.code not in ("unknown_run", "stale_generation"):
        raise refusal(answer.code, what, answer.reason)


def assign(host: RunsBackend, run_id: RunId, node: NodeId | None) -> None:
    """See `WorkflowRun.assign`."""
    to = "another node" if node is None else f"node {node}"
    # To another than the present owner: said twice, by way of two nodes, it must not go on to a third.
    number = host.run_record(run_id).assigned if node is None else 0
    _ask(host, AssignRun(run_id, node or 0, number, host.wall_clock()), f"giving run {run_id!r} to {to}")


def pause(host: RunsBackend, run_id: RunId) -> None:
    """See `WorkflowRun.pause`."""
    _ask(host, PauseRun(run_id, host.wall_clock()), f"pausing run {run_id!r}")


def resume(host: RunsBackend, run_id: RunId) -> None:
    """See `WorkflowRun.resume`."""
    _ask(host, ResumeRun(run_id, host.wall_clock()), f"resuming run {run_id!r}")


def _ask(host: RunsBackend, command: Command, what: str) -> None:
    answer = host.propose(command, what)
    if isinstance(answer, Rejected):
        raise refusal(answer.code, what, answer.reason)


def update(
    host: RunsBackend, run_id: RunId, name: str, value: Any, timeout: Seconds | None, update_id: str | None
) -> Any:
    """See `WorkflowRun.update`."""
    refuse_on_own_thread("run.update()")
    longest = patience(timeout, "run.update")
    deadline = None if longest is None else time.monotonic() + longest
    came = threading.Event()
    found: list[Step | RunEnding] = []

    def answered(answer: Step | RunEnding) -> None:
        found.append(answer)
        came.set()

    sent = _send(host, run_id, name, value, update_id, update=True, longest=longest)
    forget = host.when_answered(run_id, sent, answered)
    try:
        if not came.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise CompletionTimeoutError(
                f"run {run_id!r} has not answered the update {name!r} within {longest:g} s; it may yet. Ask again with "
                f"update_id={sent!r}: it is not sent twice"
            )
    finally:
        forget()
    return _answer(found[0], run_id, name)


def _answer(answer: Step | RunEnding, run_id: RunId, name: str) -> Any:
    if not isinstance(answer, Step):
        raise UpdateRefusedError(f"run {run_id!r} ended without having answered the update {name!r}")
    if answer.failure is not None:
        raise failures.rebuild(answer.failure, step_id=answer.step_id)
    return values.hand_back(answer.value or b"", what=f"the answer to the update {name!r}")


def query(
    host: RunsBackend, run_id: RunId, name: str, args: tuple[Any, ...], node: NodeId | None, timeout: Seconds | None
) -> Any:
    """See `WorkflowRun.query`."""
    longest = patience(timeout, "run.query")
    incarnation = host.spokesman() if node is None else host.alive(node, "asked")
    if incarnation is None:
        raise NodeStateError("no node runs that could answer, or all are paused")
    run = host.run_record(run_id)
    number = incarnation.node
    data = values.encode(
        args,
        what=f"the arguments of the query {name!r}",
        known=lambda: definitions.known_classes(run.definition),
        whole=True,
    )
    try:
        value, failure = incarnation.query(run_id, name, data, longest)
    except TimeoutError:
        raise CompletionTimeoutError(
            f"node {number} has not answered the query {name!r} of run {run_id!r} within {longest:g} s: the workflow has not "
            "come to its ctx.on_query yet, or blocks its thread"
        ) from None
    if failure is not None:
        cause = failures.rebuild(failure, step_id=f"query/{name}")
        raise QueryFailedError(f"query {name!r} of run {run_id!r} failed on node {number} with {failure}") from cause
    return values.hand_back(value or b"", what=f"the answer to the query {name!r} of run {run_id!r}")


def variables(host: RunsBackend, run_id: RunId) -> dict[str, Any]:
    """See `WorkflowRun.variables`."""
    latest: dict[str, bytes] = {}
    for step in tuple(host.run_record(run_id).steps):
        if step.operation in VARIABLES and step.value is not None:
            latest[step.key] = step.value
    return {key: values.hand_back(data, what=f"variable {key!r} of run {run_id!r}") for key, data in latest.items()}


def subscribe(host: RunsBackend, run_id: RunId, callback: Callable[[ClusterEvent], None]) -> Callable[[], None]:
    """See `WorkflowRun.subscribe`."""
    stopped = False

    def told(event: ClusterEvent) -> None:
        nonlocal stopped
        if isinstance(event, NodeChanged):
            if event.change == "stopped" and not stopped:  # said at the end only
                stopped = True
                callback(event)
        elif getattr(event, "run_id", None) == run_id:
            callback(event)

    return host.observers.subscribe(told)

"""Registering workflows and starting runs: what is checked and encoded before a command is proposed."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.commands import RegisterWorkflow, Rejected, StartRun
from ..core.records import Definition
from ..core.run_record import RECORD_FORMAT
from ..core.state import State
from ..errors import (
    InternalError,
    NonDeterminismWarning,
    NonDeterministicCodeError,
    NotAcknowledgedError,
    RaftoralError,
    RunConflictError,
    TooManyWorkflowsError,
    WorkflowConflictError,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
)
from ..limits import MAX_DEFINITIONS
from ..workflow.codec import values
from ..workflow.lint import checker
from ..workflow.lint.checker import Finding
from ..workflow.shipping import definitions, input_types
from ..workflow.shipping.definitions import Captured, Workflow
from ..workflow.shipping.fingerprints import fingerprint
from .run import WorkflowRun

if TYPE_CHECKING:
    from ..hosts.backend_parts import RunsBackend


MAX_VERSION = 1_000_000_000
"""The highest version a workflow may have."""


class Registration(msgspec.Struct, frozen=True):
    """The result of registering a workflow. `changed` is False if this very code was registered before."""

    workflow: str
    version: int
    changed: bool
    captured: tuple[Captured, ...]
    findings: tuple[Finding, ...] = ()
    """The things the workflow does outside its steps that may differ between nodes or in a replay."""
    unfinished: tuple[str, ...] = ()
    """Unfinished runs of other versions of this workflow when it was registered: they keep the code they started with."""


class Registry:
    """The workflows of one cluster. Call it from any thread but the cluster's own; it waits for a majority."""

    def __init__(self, host: RunsBackend) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._registering = threading.Lock()
        self._local: dict[tuple[str, int], tuple[Callable[..., Any], Registration]] = {}
        self._numbers: dict[str, int] = {}

    # --- registering

    def register(self, name: Any, version: Any, fn: Any, *, strict: bool = False) -> Registration:
        """See `Cluster.register_workflow`."""
        name, version, fn = _arguments(name, version, fn)
        definitions.validate(fn)
        if strict:
            _refuse_findings(name, checker.findings(fn))
        # One at a time: two threads that register different code under one name must not both take the same next version.
        if not self._registering.acquire(timeout=self._host.proposal_timeout):
            raise NotAcknowledgedError(
                f"registering {name!r} waited too long for another registration", may_commit=False
            )
        try:
            return self._register(name, version, fn)
        finally:
            self._registering.release()

    def _register(self, name: str, version: int | None, fn: Callable[..., Any]) -> Registration:
        found = self._unchanged(name, version, fn)
        if found is not None:
            return found
        head = self._host.head()
        if version is None:
            version = (head.latest_version(name) or 0) + 1
        definition, captured = definitions.build(name, version, fn)
        answer = self._host.propose(RegisterWorkflow(definition), f"registering {name!r} version {version}")
        if isinstance(answer, Rejected):
            raise _not_registered(answer, head, name, version)
        registration = Registration(
            name, version, True, captured, checker.findings(fn), _unfinished(self._host.head(), name, version)
        )
        registered = self._host.head().definitions
        for known in tuple(self._local):
            if known not in registered:
                self._local.pop(known, None)
        self._local[name, version] = (fn, registration)
        for finding in registration.findings:
            # At the line itself, not at the call that registers: that is where something has to change.
            warnings.warn_explicit(str(finding), NonDeterminismWarning, finding.file, finding.line)
        return registration

    def _unchanged(self, name: str, version: int | None, fn: Callable[..., Any]) -> Registration | None:
        head = self._host.head()
        asked = version if version is not None else head.latest_version(name)
        known = head.definitions.get((name, asked)) if asked is not None else None
        if known is None or known.fingerprint != fingerprint(fn):
            return None
        _, registered = self._local.get((name, known.version), (None, None))
        captured = registered.captured if registered is not None else ()
        found = checker.findings(fn)
        # The cell may have run again: checks of inputs compare with the classes of the code that is registered.
        self._local.setdefault((name, known.version), (fn, Registration(name, known.version, True, captured, found)))
        return Registration(name, known.version, False, captured, found)

    # --- starting

    def start(
        self, workflow: Any, args: tuple[Any, ...], *, version: int | None, run_id: str | None, named: dict[str, Any]
    ) -> WorkflowRun[Any]:
        """See `Cluster.start_workflow`."""
        if "input" in named and len(args) < 2:
            args = (*args, named.pop("input"))
        if named:
            raise RaftoralError(
                f"start_workflow has no argument {next(iter(named))!r}; it takes version, input and run_id"
            )
        if len(args) == 2:
            version, args = args[0], args[1:]
        if len(args) > 1:
            raise RaftoralError("start_workflow takes a workflow and its input, or a workflow, a version and its input")
        input_ = args[0] if args else None
        name, version = self._resolve(workflow, version)
        definition = self._definition(name, version)
        fn, _ = self._local.get((name, definition.version), (None, None))
        if fn is not None:
            input_types.check(fn, input_, workflow=name)
        data = values.encode(
            input_, what=f"the input of workflow {name!r}", known=lambda: definitions.known_classes(definition)
        )
        given: object = run_id
        if given is not None and not _is_name(given):
            raise RaftoralError(f"a run_id is printable text of 1 to 200 characters, got {run_id!r}")
        chosen = run_id if run_id is not None else self._new_id(name)
        # Only a run_id that was chosen can be given again.
        digest = "" if run_id is None else values.digest(input_) or ""
        command = StartRun(chosen, name, definition.version, data, self._host.wall_clock(), digest, RECORD_FORMAT)
        answer = self._host.propose(command, f"starting {name!r} as run {chosen!r}")
        if isinstance(answer, Rejected) and not self._same_run(command):
            raise _not_started(answer, chosen)
        return WorkflowRun(self._host, chosen, name, definition.version)

    def _same_run(self, command: StartRun) -> bool:
        """Tell whether the run that is there was started with this, though its record has no digest to tell it by."""
        run = self._host.head().runs.get(command.run_id)
        if run is None or not command.digest or run.digest:
            return False
        if (run.definition.workflow, run.definition.version) != (command.workflow, command.version):
            return False
        try:
            return values.digest(values.decode(run.input, what="the recorded input")) == command.digest
        except RaftoralError:  # it cannot be read here
            return False

    def _resolve(self, workflow: Any, version: int | None) -> tuple[str, int | None]:
        if isinstance(workflow, str):
            return workflow, version
        if not isinstance(workflow, Workflow) and not inspect.isfunction(workflow):
            raise WorkflowNotFoundError(
                f"a workflow is given by its name, as a Workflow or as an async function, not as {type(workflow).__name__}"
            )
        registration = self.register(workflow, version, None)
        return registration.workflow, registration.version

    def _definition(self, name: str, version: int | None) -> Definition:
        head = self._host.head()
        asked = version if version is not None else head.latest_version(name)
        definition = head.definitions.get((name, asked)) if asked is not None else None
        if definition is None:
            known = ", ".join(f"{one} v{number}" for one, number in sorted(head.definitions)) or "none yet"
            wanted = f"{name!r}" if version is None else f"{name!r} version {version!r}"
            raise WorkflowNotFoundError(f"no workflow {wanted} is registered; registered: {known}")
        return definition

    def _new_id(self, name: str) -> str:
        with self._lock:
            head = self._host.head()
            runs, evicted = head.runs, head.evicted
            number = self._numbers.get(name, 0) + 1
            while f"{name}-{number}" in runs or f"{name}-{number}" in evicted:
                number += 1
            self._numbers[name] = number
            return f"{name}-{number}"


def _arguments(name: Any, version: Any, fn: Any) -> tuple[str, int | None, Callable[..., Any]]:
    """Return the three ways to say it: ("order", 1, fn), ("order", fn), (workflow[, version])."""
    if fn is None and version is not None and not isinstance(version, int):
        version, fn = None, version
    if fn is None:
        if isinstance(name, str):
            raise WorkflowDefinitionError(f"register_workflow({name!r}, ...) needs the workflow's async function")
        fn = name
        name = name.name if isinstance(name, Workflow) else getattr(name, "__name__", None)
    if isinstance(fn, Workflow):
        version = version if version is not None else fn.version
        fn = fn.fn
    if not _is_name(name):
        raise WorkflowDefinitionError(f"a workflow's name is printable text of 1 to 200 characters, got {name!r}")
    if version is not None and (
        isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= MAX_VERSION
    ):
        raise WorkflowDefinitionError(f"a workflow's version is a number from 1 to {MAX_VERSION:,}, got {version!r}")
    return name, version, fn


def _refuse_findings(name: str, found: tuple[Finding, ...]) -> None:
    if found:
        listed = "".join(f"\n  {finding}" for finding in found)
        raise NonDeterministicCodeError(
            f"workflow {name!r} is not registered, as it was to be strictly: outside its steps it does what may differ from "
            f"node to node or in a replay.{listed}",
            found,
        )


def _unfinished(head: State, name: str, version: int) -> tuple[str, ...]:
    return tuple(
        run.run_id
        for run in tuple(head.runs.values())
        if run.unfinished and run.definition.workflow == name and run.definition.version != version
    )


def _is_name(given: object) -> bool:
    return isinstance(given, str) and bool(given.strip()) and given.isprintable() and len(given) <= 200


def _not_registered(answer: Rejected, head: State, name: str, version: int) -> RaftoralError:
    match answer.code:
        case "version_in_use":
            return _conflict(head, name, version)
        case "too_many_workflows":
            return TooManyWorkflowsError(
                f"workflow {name!r} was not registered: {answer.reason}. At most MAX_DEFINITIONS ({MAX_DEFINITIONS:,}) may be; "
                "register it under a name that is known already, or let runs of old versions end"
            )
        case _:
            return RaftoralError(answer.reason)


def _conflict(head: State, name: str, version: int) -> WorkflowConflictError:
    using = [
        run.run_id
        for run in tuple(head.runs.values())
        if run.unfinished and (run.definition.workflow, run.definition.version) == (name, version)
    ]
    shown = ", ".join(using[:5]) + (" ..." if len(using) > 5 else "")
    return WorkflowConflictError(
        f"workflow {name!r} version {version} has other code already, and unfinished runs use it ({shown or 'just ended'}): "
        "their steps were recorded by that code. Register the change under the next version, or let them end first."
    )


def _not_started(answer: Rejected, run_id: str) -> RaftoralError:
    match answer.code:
        case "run_conflict" | "run_evicted":
            return RunConflictError(f"run {run_id!r} cannot be started: {answer.reason}")
        case "unknown_workflow":
            return WorkflowNotFoundError(answer.reason)
        case _:
            return InternalError(f"run {run_id!r} was refused: {answer.reason}")

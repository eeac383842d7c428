"""Registering workflows: what is checked and encoded before a command is proposed."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.commands import RegisterWorkflow, Rejected
from ..core.records import Definition
from ..core.state import State
from ..errors import (
    NonDeterminismWarning,
    NonDeterministicCodeError,
    NotAcknowledgedError,
    RaftoralError,
    TooManyWorkflowsError,
    WorkflowConflictError,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
)
from ..executors import executor_table
from ..limits import MAX_DEFINITIONS
from ..workflow.lint import checker
from ..workflow.lint.checker import Finding
from ..workflow.shipping import definitions
from ..workflow.shipping.definitions import Captured, Workflow
from ..workflow.shipping.fingerprints import fingerprint

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

    def __init__(self, host: RunsBackend, executors: tuple[str, ...] | None = None) -> None:
        self._host = host
        self.executors = executors
        """The names of the executors that all nodes have; None if that is not known here, or a step runs anywhere, as in tests."""
        self._lock = threading.Lock()
        self._registering = threading.Lock()
        self._local: dict[tuple[str, int], tuple[Callable[..., Any], Registration]] = {}
        self._numbers: dict[str, int] = {}

    # --- registering

    def register(self, name: Any, version: Any, fn: Any, *, strict: bool = False) -> Registration:
        """See `Cluster.register_workflow`."""
        name, version, fn = _arguments(name, version, fn)
        definitions.validate(fn)
        if self.executors is not None:
            executor_table.check_named(name, fn, self.executors)
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
        same, registered = self._local.get((name, known.version), (None, None))
        captured = registered.captured if registered is not None else ()
        found = registered.findings if registered is not None and same is fn else checker.findings(fn)
        # The cell may have run again: checks of inputs compare with the classes of the code that is registered.
        self._local.setdefault((name, known.version), (fn, Registration(name, known.version, True, captured, found)))
        return Registration(name, known.version, False, captured, found)

    # --- for those who start runs

    def function(self, definition: Definition) -> Callable[..., Any] | None:
        """Return the function that was registered here as a definition; None if another process did."""
        fn, _ = self._local.get((definition.workflow, definition.version), (None, None))
        return fn

    def known(self, workflow: Any, version: int | None) -> tuple[str, int | None] | None:
        """Return the name and version that a workflow is registered under; None if it has to be registered first. Does not wait.

        Raises `WorkflowNotFoundError` for what cannot be a workflow, and `WorkflowDefinitionError`.
        """
        if isinstance(workflow, str):
            return workflow, version
        name, version, fn = self._given(workflow, version)
        found = self._unchanged(name, version, fn)
        return None if found is None else (name, found.version)

    def resolve(self, workflow: Any, version: int | None) -> tuple[str, int | None]:
        """Return the same; one that is not registered is. Waits for a majority then."""
        if isinstance(workflow, str):
            return workflow, version
        self._given(workflow, version)
        registration = self.register(workflow, version, None)
        return registration.workflow, registration.version

    @staticmethod
    def _given(workflow: Any, version: int | None) -> tuple[str, int | None, Callable[..., Any]]:
        if not isinstance(workflow, Workflow) and not inspect.isfunction(workflow):
            raise WorkflowNotFoundError(
                f"a workflow is given by its name, as a Workflow or as an async function, not as {type(workflow).__name__}"
            )
        name, version, fn = _arguments(workflow, version, None)
        definitions.validate(fn)
        return name, version, fn


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
    if not is_name(name):
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


def is_name(given: object) -> bool:
    """Return whether it may be the name of a workflow, or the id of a run."""
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

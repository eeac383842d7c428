"""Starting runs: what is checked and encoded before a start is proposed, one at a time or many together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import msgspec

from ..core.commands import Committed, Rejected, StartRun
from ..core.records import Definition
from ..core.run_record import RECORD_FORMAT
from ..errors import (
    BadArgumentError,
    BlockingCallError,
    InternalError,
    NotAllStartedError,
    RaftoralError,
    RunConflictError,
    WorkflowNotFoundError,
)
from ..hosts.asks import Answer
from ..threads.loop_thread import on_own_thread, refuse_on_own_thread
from ..threads.user_loop import current_poster, wait_for
from ..workflow.codec import values
from ..workflow.shipping import definitions, input_types
from .registry import Registry, is_name
from .run import WorkflowRun

if TYPE_CHECKING:
    from ..hosts.backend_parts import RunsBackend

MAX_REFUSALS_TOLD: Final = 5
"""Refusals that are written out when some of many runs are not started; `refusals` has all."""


class StartAsked(msgspec.Struct, frozen=True):
    """What `start_workflow` was given, each thing in its place."""

    workflow: Any
    version: int | None
    input: Any
    run_id: str | None

    @classmethod
    def given(
        cls, workflow: Any, args: tuple[Any, ...], named: dict[str, Any], *, version: int | None, run_id: str | None
    ) -> StartAsked:
        """Return it, however it was given. Raises `RaftoralError`."""
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
        return cls(workflow, version, args[0] if args else None, run_id)


class RunStarter:
    """The starts of one cluster's runs. Those that wait for a majority are called from any thread but the cluster's own."""

    def __init__(self, host: RunsBackend, registry: Registry) -> None:
        self._host = host
        self._registry = registry
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}

    # --- one

    def start(self, asked: StartAsked) -> WorkflowRun[Any]:
        """See `Cluster.start_workflow`."""
        definition = self._definition(*self._registry.resolve(asked.workflow, asked.version))
        command = self._command(definition, asked.input, asked.run_id)
        return self._started(command, self._host.propose(command, _words(command)))

    async def start_async(self, asked: StartAsked) -> WorkflowRun[Any]:
        """See `Cluster.start_workflow_async`."""
        _refuse_in_workflows("start_workflow_async")
        command = self._command(await self._resolved(asked.workflow, asked.version), asked.input, asked.run_id)
        (answer,) = await self._decided([command])
        return self._started(command, answer)

    async def _resolved(self, workflow: Any, version: int | None) -> Definition:
        known = self._registry.known(workflow, version)
        if known is None:
            known = await anyio.to_thread.run_sync(self._registry.resolve, workflow, version)
        return self._definition(*known)

    # --- many

    def start_many(
        self, workflow: Any, inputs: Iterable[Any], version: int | None, run_ids: Iterable[str] | None
    ) -> tuple[WorkflowRun[Any], ...]:
        """See `Cluster.start_many`."""
        refuse_on_own_thread("cluster.start_many()")
        definition = self._definition(*self._registry.resolve(workflow, version))
        commands = self._commands(definition, inputs, run_ids)
        decided = threading.Event()
        answers: list[Answer] = []

        def told(found: list[Answer]) -> None:
            answers.extend(found)
            decided.set()

        self._host.when_decided([(one, _words(one)) for one in commands if isinstance(one, StartRun)], told)
        decided.wait()
        return self._all_started(commands, answers)

    async def start_many_async(
        self, workflow: Any, inputs: Iterable[Any], version: int | None, run_ids: Iterable[str] | None
    ) -> tuple[WorkflowRun[Any], ...]:
        """See `Cluster.start_many_async`."""
        _refuse_in_workflows("start_many_async")
        definition = await self._resolved(workflow, version)
        # Beside the loop: thousands of inputs take a while.
        commands = await anyio.to_thread.run_sync(self._commands, definition, inputs, run_ids)
        answers = await self._decided([one for one in commands if isinstance(one, StartRun)])
        return await anyio.to_thread.run_sync(self._all_started, commands, answers)

    def _commands(
        self, definition: Definition, inputs: Iterable[Any], run_ids: Iterable[str] | None
    ) -> list[StartRun | RaftoralError]:
        """Return the starts to propose, and what is wrong with those that cannot be."""
        given = list(inputs)
        ids: list[str | None] = [None] * len(given) if run_ids is None else list(run_ids)
        if len(ids) != len(given):
            raise BadArgumentError(
                f"start_many was given {len(given):,} inputs and {len(ids):,} run_ids; there is one for each, or none at all"
            )
        found: list[StartRun | RaftoralError] = []
        for input_, run_id in zip(given, ids, strict=True):
            try:
                found.append(self._command(definition, input_, run_id))
            except RaftoralError as error:
                found.append(error)
        return found

    def _all_started(
        self, commands: Sequence[StartRun | RaftoralError], answers: Sequence[Answer]
    ) -> tuple[WorkflowRun[Any], ...]:
        told = iter(answers)
        runs: list[WorkflowRun[Any] | None] = []
        refusals: dict[int, RaftoralError] = {}
        for position, command in enumerate(commands):
            try:
                if isinstance(command, RaftoralError):
                    raise command
                runs.append(self._started(command, next(told)))
            except RaftoralError as error:
                refusals[position] = error
                runs.append(None)
        if refusals:
            raise _not_all_started(commands, tuple(runs), refusals)
        return tuple(run for run in runs if run is not None)

    # --- inside

    async def _decided(self, commands: Sequence[StartRun]) -> list[Answer]:
        """Have starts proposed; the caller's loop runs meanwhile."""
        decided = anyio.Event()
        answers: list[Answer] = []
        post = current_poster()

        def told(found: list[Answer]) -> None:
            answers.extend(found)
            post(decided.set)

        self._host.when_decided([(command, _words(command)) for command in commands], told)
        await wait_for(decided)
        return answers

    def _definition(self, name: str, version: int | None) -> Definition:
        head = self._host.head()
        asked = version if version is not None else head.latest_version(name)
        definition = head.definitions.get((name, asked)) if asked is not None else None
        if definition is None:
            known = ", ".join(f"{one} v{number}" for one, number in sorted(head.definitions)) or "none yet"
            wanted = f"{name!r}" if version is None else f"{name!r} version {version!r}"
            raise WorkflowNotFoundError(f"no workflow {wanted} is registered; registered: {known}")
        return definition

    def _command(self, definition: Definition, input_: Any, run_id: str | None) -> StartRun:
        """Check and encode one start. Raises `InputTypeError`, `ValueNotShippableError` and `RaftoralError`."""
        name = definition.workflow
        fn: Callable[..., Any] | None = self._registry.function(definition)
        if fn is not None:
            input_types.check(fn, input_, workflow=name)
        data = values.encode(
            input_, what=f"the input of workflow {name!r}", known=lambda: definitions.known_classes(definition)
        )
        given: object = run_id
        if given is not None and not is_name(given):
            raise RaftoralError(f"a run_id is printable text of 1 to 200 characters, got {run_id!r}")
        chosen = run_id if run_id is not None else self._new_id(name)
        # Only a run_id that was chosen can be given again.
        digest = "" if run_id is None else values.digest(input_) or ""
        return StartRun(chosen, name, definition.version, data, self._host.wall_clock(), digest, RECORD_FORMAT)

    def _new_id(self, name: str) -> str:
        with self._lock:
            head = self._host.head()
            runs, evicted = head.runs, head.evicted
            number = self._numbers.get(name, 0) + 1
            while f"{name}-{number}" in runs or f"{name}-{number}" in evicted:
                number += 1
            self._numbers[name] = number
            return f"{name}-{number}"

    def _started(self, command: StartRun, answer: Answer) -> WorkflowRun[Any]:
        if isinstance(answer, RaftoralError):
            raise answer
        if isinstance(answer, Rejected) and not self._same_run(command):
            raise _not_started(answer, command.run_id)
        assert isinstance(answer, Committed | Rejected)
        return WorkflowRun(self._host, command.run_id, command.workflow, command.version)

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


def _words(command: StartRun) -> str:
    return f"starting {command.workflow!r} as run {command.run_id!r}"


def _refuse_in_workflows(method: str) -> None:
    if on_own_thread():
        raise BlockingCallError(
            f"cluster.{method}() was called on one of the cluster's own threads: a workflow starts another run with "
            "`await ctx.start_child(...)`, which is recorded"
        )


def _not_started(answer: Rejected, run_id: str) -> RaftoralError:
    match answer.code:
        case "run_conflict" | "run_evicted":
            return RunConflictError(f"run {run_id!r} cannot be started: {answer.reason}")
        case "unknown_workflow":
            return WorkflowNotFoundError(answer.reason)
        case _:
            return InternalError(f"run {run_id!r} was refused: {answer.reason}")


def _not_all_started(
    commands: Sequence[StartRun | RaftoralError],
    runs: tuple[WorkflowRun[Any] | None, ...],
    refusals: dict[int, RaftoralError],
) -> NotAllStartedError:
    told = [f"\n  number {position}: {error}" for position, error in list(refusals.items())[:MAX_REFUSALS_TOLD]]
    if len(refusals) > len(told):
        told.append(f"\n  and {len(refusals) - len(told):,} more")
    error = NotAllStartedError(
        f"{len(refusals):,} of {len(commands):,} runs were not started (counted from 0); the others were, and `runs` has them, "
        f"`refusals` why not:{''.join(told)}",
        runs,
        refusals,
    )
    error.__cause__ = next(iter(refusals.values()))
    return error

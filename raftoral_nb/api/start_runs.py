"""Starting runs: what is checked and encoded before a start is proposed, one at a time or many together."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
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
    ValueNotShippableError,
    WorkflowNotFoundError,
)
from ..hosts.asks import Answer
from ..hosts.held_runs import HeldRun
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


class _Start(msgspec.Struct):
    """One start of a run. Invariant: undecided until it has an answer; only an undecided one is proposed."""

    command: StartRun
    held: HeldRun
    """Held from before the start on: of many runs that are started together some are over, and gone, when the last one is started."""
    answer: Answer | None = None


class RunStarter:
    """The starts of one cluster's runs. Those that wait for a majority are called from any thread but the cluster's own.

    An id is chosen by what this handle knows. If another start takes it first, the start is refused, and proposed again under
    another id: whoever gives no run_id gets a run of their own.
    """

    def __init__(self, host: RunsBackend, registry: Registry) -> None:
        self._host = host
        self._registry = registry
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._origin = secrets.token_hex(8)
        self._starts = itertools.count(1)

    # --- one

    def start(self, asked: StartAsked) -> WorkflowRun[Any]:
        """See `Cluster.start_workflow`."""
        definition = self._definition(*self._registry.resolve(asked.workflow, asked.version))
        start = self._start(definition, asked.input, asked.run_id)
        while self._undecided([start]):
            start.answer = self._host.propose(start.command, _words(start.command))
        return self._started(start)

    async def start_async(self, asked: StartAsked) -> WorkflowRun[Any]:
        """See `Cluster.start_workflow_async`."""
        _refuse_in_workflows("start_workflow_async")
        start = self._start(await self._resolved(asked.workflow, asked.version), asked.input, asked.run_id)
        await self._decide_async([start])
        return self._started(start)

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
        starts = self._prepared(definition, inputs, run_ids)
        self._decide([one for one in starts if isinstance(one, _Start)])
        return self._all_started(starts)

    async def start_many_async(
        self, workflow: Any, inputs: Iterable[Any], version: int | None, run_ids: Iterable[str] | None
    ) -> tuple[WorkflowRun[Any], ...]:
        """See `Cluster.start_many_async`."""
        _refuse_in_workflows("start_many_async")
        definition = await self._resolved(workflow, version)
        # Beside the loop: thousands of inputs take a while.
        starts = await anyio.to_thread.run_sync(self._prepared, definition, inputs, run_ids)
        await self._decide_async([one for one in starts if isinstance(one, _Start)])
        return await anyio.to_thread.run_sync(self._all_started, starts)

    def _prepared(
        self, definition: Definition, inputs: Iterable[Any], run_ids: Iterable[str] | None
    ) -> list[_Start | RaftoralError]:
        """Return the starts to propose, and what is wrong with those that cannot be."""
        given = list(inputs)
        ids: list[str | None] = [None] * len(given) if run_ids is None else list(run_ids)
        if len(ids) != len(given):
            raise BadArgumentError(
                f"start_many was given {len(given):,} inputs and {len(ids):,} run_ids; there is one for each, or none at all"
            )
        found: list[_Start | RaftoralError] = []
        for input_, run_id in zip(given, ids, strict=True):
            try:
                found.append(self._start(definition, input_, run_id))
            except RaftoralError as error:
                found.append(error)
        return found

    def _all_started(self, starts: Sequence[_Start | RaftoralError]) -> tuple[WorkflowRun[Any], ...]:
        runs: list[WorkflowRun[Any] | None] = []
        refusals: dict[int, RaftoralError] = {}
        for position, start in enumerate(starts):
            try:
                if isinstance(start, RaftoralError):
                    raise start
                runs.append(self._started(start))
            except RaftoralError as error:
                refusals[position] = error
                runs.append(None)
        if refusals:
            raise _not_all_started(tuple(runs), refusals)
        return tuple(run for run in runs if run is not None)

    # --- inside

    def _decide(self, starts: Sequence[_Start]) -> None:
        """Have starts proposed together, until all are decided."""
        while left := self._undecided(starts):
            decided = threading.Event()
            self._propose(left, decided.set)
            decided.wait()

    async def _decide_async(self, starts: Sequence[_Start]) -> None:
        """Do as `_decide`; the caller's loop runs meanwhile."""
        post = current_poster()
        while left := self._undecided(starts):
            decided = anyio.Event()
            self._propose(left, partial(post, decided.set))
            await wait_for(decided)

    def _undecided(self, starts: Iterable[_Start]) -> list[_Start]:
        """Return those that are to be proposed: those that were not, and those whose id another start took. They get another."""
        for one in starts:
            if isinstance(one.answer, Rejected) and one.answer.code == "run_id_taken":
                another = self._new_id(one.command.workflow)
                one.command, one.answer = msgspec.structs.replace(one.command, run_id=another), None
                one.held = self._host.hold(another)
        return [one for one in starts if one.answer is None]

    def _propose(self, starts: Sequence[_Start], decided: Callable[[], object]) -> None:
        """Propose starts together, and return; `decided` is called once each has its answer."""

        def told(answers: list[Answer]) -> None:
            for one, answer in zip(starts, answers, strict=True):
                one.answer = answer
            decided()

        self._host.when_decided([(one.command, _words(one.command)) for one in starts], told)

    def _definition(self, name: str, version: int | None) -> Definition:
        head = self._host.head()
        asked = version if version is not None else head.latest_version(name)
        definition = head.definitions.get((name, asked)) if asked is not None else None
        if definition is None:
            known = ", ".join(f"{one} v{number}" for one, number in sorted(head.definitions)) or "none yet"
            wanted = f"{name!r}" if version is None else f"{name!r} version {version!r}"
            raise WorkflowNotFoundError(f"no workflow {wanted} is registered; registered: {known}")
        return definition

    def _start(self, definition: Definition, input_: Any, run_id: str | None) -> _Start:
        """Check and encode one start. Raises `InputTypeError`, `ValueNotShippableError` and `RaftoralError`."""
        name = definition.workflow
        fn: Callable[..., Any] | None = self._registry.function(definition)
        if fn is not None:
            input_types.check(fn, input_, workflow=name)
        data = values.encode(
            input_,
            what=f"the input of workflow {name!r}",
            known=lambda: definitions.known_classes(definition),
            most=self._host.head().max_value_bytes,
        )
        given: object = run_id
        if given is not None and not is_name(given):
            raise RaftoralError(f"a run_id is printable text of 1 to 200 characters, got {run_id!r}")
        # Who gives a run_id asks for that run, known by its input; who gives none asks for another run, known by its start.
        if run_id is not None:
            digest, start_id = values.digest(input_) or "", ""
        else:
            run_id, digest, start_id = self._new_id(name), "", f"{self._origin}.{next(self._starts)}"
        at = self._host.wall_clock()
        command = StartRun(run_id, name, definition.version, data, at, digest, RECORD_FORMAT, start_id)
        return _Start(command, self._host.hold(run_id))

    def _new_id(self, name: str) -> str:
        with self._lock:
            head = self._host.head()
            known = (head.runs, head.evicted, head.deleted)
            number = self._numbers.get(name, 0) + 1
            while any(f"{name}-{number}" in one for one in known):
                number += 1
            self._numbers[name] = number
            return f"{name}-{number}"

    def _started(self, start: _Start) -> WorkflowRun[Any]:
        command, answer = start.command, start.answer
        if isinstance(answer, RaftoralError):
            raise answer
        if isinstance(answer, Rejected) and not self._same_run(command):
            raise _not_started(answer, command.run_id)
        assert isinstance(answer, Committed | Rejected)
        return WorkflowRun(self._host, command.run_id, command.workflow, command.version, start.held)

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
        case "value_too_large":  # the limit was lowered since it was encoded
            return ValueNotShippableError(f"the input of run {run_id!r} was refused: {answer.reason}")
        case _:
            return InternalError(f"run {run_id!r} was refused: {answer.reason}")


def _not_all_started(
    runs: tuple[WorkflowRun[Any] | None, ...], refusals: dict[int, RaftoralError]
) -> NotAllStartedError:
    told = [f"\n  number {position}: {error}" for position, error in list(refusals.items())[:MAX_REFUSALS_TOLD]]
    if len(refusals) > len(told):
        told.append(f"\n  and {len(refusals) - len(told):,} more")
    error = NotAllStartedError(
        f"{len(refusals):,} of {len(runs):,} runs were not started (counted from 0); the others were, and `runs` has them, "
        f"`refusals` why not:{''.join(told)}",
        runs,
        refusals,
    )
    error.__cause__ = next(iter(refusals.values()))
    return error

"""What the acting node does for one execution: it runs the functions of steps, and proposes records.

An effect never resumes the workflow: its record does, when that comes back through the log and has its turn. Effects begin when the
execution has had every record that was handed over, for what it still waits for, in the order in which it asked.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ...core.cluster_events import ValueHeld
from ...core.command_values import with_values
from ...core.commands import Command, Outcome, Rejected
from ...core.held_keys import THE_END, HeldKey
from ..codec.blobs import plain
from . import recording
from .environment import FINAL_REFUSALS, ExecutionEnv
from .products import Made, Product

if TYPE_CHECKING:
    from ...core.records import Operation, Step, StepId

_logger = logging.getLogger(__name__)

Produce = Callable[["StepId"], "Product | Awaitable[Product]"]
"""Makes the product of a step, where and when this node acts."""


class StepPlace(NamedTuple):
    """Where a step is done."""

    label: str
    """Of the nodes that may do it."""
    group: tuple[StepId, ...]
    """The steps that go to one node: this one, behind its intent if it has one."""


class OpenStep:
    """An operation that an execution waits for: what it is, and how its product is made."""

    __slots__ = ("context", "future", "operation", "path", "place", "produce", "step_id")

    def __init__(
        self,
        step_id: StepId,
        operation: Operation,
        path: str,
        produce: Produce,
        future: asyncio.Future[Step],
        place: StepPlace | None = None,
    ) -> None:
        self.step_id = step_id
        self.operation = operation
        self.path = path
        """Of the branch that asked."""
        self.produce = produce
        self.future = future
        self.place = place
        """Where it is done; None if whoever does the steps of the run does it."""
        self.context = contextvars.copy_context()


class ActingExecution(recording.RecordingExecution, Protocol):
    """The part of an `Execution` that its effects need."""

    def broke(self, what: str, error: BaseException) -> None:
        """End the execution: a bug of ours was found in it."""
        ...


class _Effect:
    """One effect: begun in `term`, and over once its record has come or nobody waits for it."""

    __slots__ = ("over", "task", "term")

    def __init__(self, term: int) -> None:
        self.term = term
        self.task: asyncio.Task[Any] | None = None
        """The task that makes the product, from its first turn to its last."""
        self.over = False


class ActingEffects:
    """The effects of one execution that are under way here."""

    def __init__(self, execution: ActingExecution, around: ExecutionEnv) -> None:
        self._execution = execution
        self._around = around
        # Invariant: begun here in the present epoch, and their records have not come. A dict for its order.
        self._begun: dict[StepId, _Effect] = {}
        self.held: dict[StepId, str] = {}
        """Why values wait that are not kept now, by what they are of: steps, or the end. Read from any thread."""

    def begin(self, ask: OpenStep, term: int) -> None:
        """Begin to make the product of what was asked for, and record it, unless that is under way."""
        if ask.step_id in self._begun:
            return
        effect = self._begun[ask.step_id] = _Effect(term)
        try:
            product: Product | Awaitable[Product]
            held = self._around.large_values.held
            if held and ask.operation == "compute" and (key := self._key(ask.step_id)) in held:
                product = self._held_or_made(ask, key)
            else:
                product = ask.context.run(ask.produce, ask.step_id)
        except Exception as error:
            self._execution.broke(f"making step {ask.step_id!r}", error)
            return
        if not inspect.isawaitable(product):
            self._record(ask, effect, product)
        else:
            ask.context.run(self._around.spawn, partial(self._run, ask, effect, product))

    def end(self, step_id: StepId) -> None:
        """Stop what is done for a step: its record has come, or nobody waits for it any more."""
        held = step_id in self.held
        self.stop(step_id)
        if held or self._around.large_values.held:
            self._around.large_values.drop(self._key(step_id))

    def stop(self, step_id: StepId) -> None:
        """Stop what is done for a step: it is another node's, or is to be begun anew. A value that is held for it stays."""
        effect = self._begun.pop(step_id, None)
        if effect is not None:
            self._stop(effect)
        self.held.pop(step_id, None)

    def stop_all(self, but: Collection[StepId] = ()) -> None:
        """Stop whatever is done, `but` for some steps: this node does not act any more, or the execution is over."""
        for step_id in [step_id for step_id in (*self._begun, *self.held) if step_id not in but]:
            self.stop(step_id)

    def _stop(self, effect: _Effect) -> None:
        effect.over = True
        if effect.task is not None:
            effect.task.cancel()

    async def _run(self, ask: OpenStep, effect: _Effect, product: Awaitable[Product]) -> None:
        if effect.over:
            if inspect.iscoroutine(product):
                product.close()
            return
        # No scope of anyio's: it would cost more than all else that is done for a step.
        effect.task = asyncio.current_task()
        try:
            self._record(ask, effect, await product)
        except asyncio.CancelledError:
            if not effect.over:  # the node stops
                raise
        except Exception as error:
            if not effect.over:
                self._execution.broke(f"making step {ask.step_id!r}", error)
        finally:
            effect.task = None

    def _key(self, step_id: StepId) -> HeldKey:
        execution = self._execution
        return HeldKey(execution.run_id, execution.generation, execution.definition.version, step_id)

    async def _held_or_made(self, ask: OpenStep, key: HeldKey) -> Product:
        """Return what this node holds of a step whose function has run; if it is not whole any more the function runs again."""
        came = asyncio.Event()
        found: list[bytes | None] = []

        def looked(value: bytes | None) -> None:
            found.append(value)
            came.set()

        self._around.large_values.bring(key, looked)
        await came.wait()
        if found[0] is not None:
            return found[0], None
        product = ask.produce(ask.step_id)
        return await product if inspect.isawaitable(product) else product

    def propose_end(self, command: Command, wanted: Callable[[], bool]) -> None:
        """Propose the end of the run, or of its generation."""

        def broken(reason: str) -> None:
            self._execution.broke("recording the end", RuntimeError(reason))

        propose(self._around, command, wanted, broken, partial(self._holds, THE_END))

    def _holds(self, what: StepId, reason: str) -> None:
        """Note that a value waits, as it is not kept now: of a step, or of the end."""
        if self.held.get(what) != reason:
            self.held[what] = reason
            around, run_id = self._around, self._execution.run_id
            around.say(run_id, f"the run waits, and nothing is lost: {reason}")
            around.tell(ValueHeld(around.node, run_id, reason))

    def _record(self, ask: OpenStep, effect: _Effect, product: Product) -> None:
        if not effect.over:
            made = product if isinstance(product, Made) else Made(*product)
            command = recording.step_command(self._execution, ask.step_id, ask.operation, made, effect.term)
            broken, held = partial(self._refused, ask.step_id), partial(self._holds, ask.step_id)
            propose(self._around, command, lambda: not effect.over, broken, held)

    def _refused(self, step_id: StepId, reason: str) -> None:
        self._execution.broke(f"recording step {step_id!r}", RuntimeError(reason))


def propose(
    around: ExecutionEnv,
    command: Command,
    wanted: Callable[[], bool],
    broken: Callable[[str], object],
    held: Callable[[str], object] = lambda reason: None,
) -> None:
    """Propose a command, again and again until it is known that its record, an epoch or the run's end is on its way.

    Said only as long as `wanted()`. The first record wins, so saying it again does no harm. `broken(reason)` is called if it can
    never be recorded, `held(reason)` if its value is not kept now: it is proposed again when that may have changed.
    """

    def refused(outcome: Outcome) -> None:
        nonlocal command
        if not wanted():
            return
        match outcome:
            case Rejected(code=code, reason=reason) if code in ("bad_command", "unknown_run"):
                broken(reason)
            case Rejected(code=code) if code in FINAL_REFUSALS or code == "stopped":
                return
            case Rejected(code="value_not_stored", reason=reason):
                held(reason)
                around.propose(command, refused)
            case Rejected(code="value_too_large", reason=reason):
                held(reason)
                command = with_values(command, plain)  # its bytes are stored, and need not be in memory as well
                around.large_values.when_limit_changes(wanted, lambda: around.propose(command, refused))
            case _:
                around.propose(command, refused)

    around.propose(command, refused)

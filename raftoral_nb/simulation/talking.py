"""The part of the simulated load that talks with runs: signals, updates, children, pausing, cancelling, ending, beginning anew.

One client starts a run and then says things to it, each under an id of its own, until it is known to be recorded or the run
has ended. The workflow waits for none of it longer than a moment, so that it ends whatever was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..core.commands import (
    CancelRun,
    Command,
    Committed,
    Outcome,
    PauseRun,
    Rejected,
    ResumeRun,
    SendSignal,
    TerminateRun,
)
from ..core.records import RunId
from ..errors import RunConflictError, RunEndedError, WorkflowFailedError
from ..workflow.codec import values
from .diaries import Diary, Scene
from .listening import ASK, OTHER, WORD, listen

if TYPE_CHECKING:
    from ..workflow.language.child_runs import ChildRun, OnCancel
    from ..workflow.language.context import WorkflowContext
    from .dice import SeededDice

TALK: Final = "talk"
CHILD: Final = "child"
SHARED: Final = "shared/child"
"""The run_id of the child that all runs share; no client starts it."""
LONGEST_PAUSE: Final = 6.0
"""The longest time a run is paused before somebody thinks of it (seconds)."""
FORGOTTEN: Final = 0.15
"""The number of times nobody thinks of it: then it is paused until all is healed."""

Ask = Callable[[str, Command], Awaitable[Outcome]]


async def talk(ctx: WorkflowContext, input: Mapping[str, Any]) -> object:  # noqa: A002
    """Listen, answer, have children, and begin anew until it has had all its rounds; cleans up if it is cancelled."""
    diary = Diary(ctx)
    heard = await ctx.var("heard", input["heard"])
    scene = Scene(ctx, diary, f"{ctx.run_id} {input['round']}")
    try:
        on_cancel: OnCancel = ctx.rng.choice(("wait", "ask", "leave"))
        child = await ctx.start_child(CHILD, scene.name, on_cancel=on_cancel)
        with contextlib.suppress(RunEndedError):
            await ctx.signal(child.run_id, WORD, f"from {scene.name}")
        waiting = asyncio.create_task(_wait(diary, child, ctx.random()))
        await listen(scene)
        await waiting
    except asyncio.CancelledError:
        await scene.quick("clean up")
        raise
    diary.note("shared", await _shared(ctx))
    total = await heard.update(partial(_plus, len(diary.received)))
    if input["round"] > 0:
        raise ctx.continue_as_new({"heard": total, "round": input["round"] - 1})
    return [total, diary.seen]


def _plus(more: int, number: int) -> int:
    return number + more


async def _shared(ctx: WorkflowContext) -> object:
    """Return what a child came to that all runs share, and that is done again once it was deleted."""
    try:
        return await ctx.run_child(CHILD, "shared", run_id=SHARED)
    except WorkflowFailedError as error:
        return error.failure.type_name
    except RunConflictError as error:
        return str(error)


async def _wait(diary: Diary, child: ChildRun[Any], patience: float) -> None:
    """Wait for a child, now and then not for long."""
    try:
        async with asyncio.timeout(None if patience < 0.7 else patience / 4):
            diary.note("child", await child)
    except WorkflowFailedError as error:
        diary.note("child", error.failure.type_name)
    except TimeoutError:
        diary.note("no patience with the child")


async def child(ctx: WorkflowContext, input: str) -> object:  # noqa: A002
    """A child with a step or two, which may have heard something meanwhile."""
    diary = Diary(ctx)
    scene = Scene(ctx, diary, ctx.run_id)
    diary.note(input, await scene.quick("first"))
    if ctx.random() < 0.5:
        heard: Any = await ctx.receive(WORD, timeout=0.5 * ctx.random(), default=None)
        diary.note("heard", None if heard is None else diary.got(heard))
    diary.note(await scene.slow("then"))
    return diary.seen


async def converse(run_id: str, dice: SeededDice, ask: Ask, acknowledged: Callable[[RunId, str], object]) -> None:
    """Say things to a run; `ask` sends a command to some node and gives its outcome, `acknowledged` is told what is recorded."""
    drawn = dice.random()
    asked = {1 + dice.below(3), 3 + dice.below(4)}
    for number in range(4 + dice.below(8)):
        name = WORD if dice.happens(0.6) else OTHER
        update = number in asked
        message_id = f"{'asked' if update else name} {number}"
        value = values.encode(message_id, what="a word")
        command = SendSignal(run_id, message_id, ASK if update else name, value, update=update)
        if isinstance(await _until_known(ask, command), Committed):
            acknowledged(run_id, message_id)
        if update and dice.happens(0.3):
            await pause(run_id, dice, ask)
        if drawn < 0.1 and dice.happens(0.2):
            break
    if drawn < 0.25:
        await _until_known(ask, CancelRun(run_id, "as drawn"))
    elif drawn < 0.3:
        await _until_known(ask, TerminateRun(run_id, "as drawn"))


async def pause(run_id: RunId, dice: SeededDice, ask: Ask) -> None:
    """Pause a run for a while, long enough for leaders to die."""
    await _until_known(ask, PauseRun(run_id))
    await asyncio.sleep(LONGEST_PAUSE * dice.random() ** 3)
    if not dice.happens(FORGOTTEN):
        await _until_known(ask, ResumeRun(run_id))


async def _until_known(ask: Ask, command: Command) -> Outcome:
    """Say it a few times, until it is known: what is said twice is heard once. Return what was told last."""
    for _ in range(3):
        outcome = await ask(type(command).__name__, command)
        if isinstance(outcome, Committed) or (isinstance(outcome, Rejected) and outcome.code != "no_leader"):
            break
    return outcome

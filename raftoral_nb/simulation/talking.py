"""The part of the simulated load that talks with runs: signals, updates, children, pausing, cancelling, ending, beginning anew.

One client starts a run and then says things to it, each under an id of its own, until it is known to be recorded or the run
has ended. The workflow waits for none of it longer than a moment, so that it ends whatever was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
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
from ..errors import WorkflowFailedError
from ..workflow.codec import values
from .effects import effect, slow_effect

if TYPE_CHECKING:
    from ..workflow.language.context import WorkflowContext
    from .dice import SeededDice

TALK: Final = "talk"
CHILD: Final = "child"
PATIENCE: Final = 3.0
"""The time the workflow waits for what it may be told (seconds)."""

LONGEST_PAUSE: Final = 6.0
"""The longest time a run is paused before somebody thinks of it (seconds)."""
FORGOTTEN: Final = 0.15
"""The number of times nobody thinks of it: then it is paused until all is healed."""

Ask = Callable[[str, Command], Awaitable[Outcome]]


async def talk(ctx: WorkflowContext, input: Mapping[str, Any]) -> object:  # noqa: A002
    """Listen, answer, have children, and begin anew until it has had all its rounds; cleans up if it is cancelled."""
    heard: list[Any] = list(input["heard"])
    answers = await ctx.var("heard", len(heard))
    ctx.on_query("heard", lambda: answers.value)
    try:
        child = await ctx.start_child(CHILD, f"{ctx.run_id} {input['round']}")

        async def listen(inner: WorkflowContext) -> object:
            return await inner.receive("word", timeout=PATIENCE, default="silence")

        heard.append(sorted(map(str, await ctx.gather(listen, listen))))
        if input["round"] == 1:
            try:
                update = await ctx.receive_update("ask", timeout=PATIENCE)
            except TimeoutError:
                heard.append("nobody asked")
            else:
                await update.answer([update.value, len(heard)])
        try:
            heard.append(await child)
        except WorkflowFailedError as error:
            heard.append(error.failure.type_name)
    except asyncio.CancelledError:
        await ctx.compute("clean up", effect, f"{ctx.run_id} clean up {input['round']}")
        raise
    if input["round"] > 0:
        raise ctx.continue_as_new({"heard": heard, "round": input["round"] - 1})
    return heard


async def child(ctx: WorkflowContext, input: str) -> object:  # noqa: A002
    """A child with a step or two."""
    first = await ctx.compute("first", effect, f"{ctx.run_id} first")
    return [input, first, await ctx.compute("then", slow_effect, f"{ctx.run_id} then")]


async def converse(run_id: str, dice: SeededDice, ask: Ask) -> None:
    """Say things to a run; `ask` sends a command to some node and gives its outcome."""
    for number in range(2 + dice.below(4)):
        word = values.encode(number, what="a word")
        await _until_known(ask, SendSignal(run_id, f"w{number}", "word", word))
    await _until_known(ask, SendSignal(run_id, "q", "ask", values.encode("why", what="a question"), update=True))
    if dice.happens(0.3):
        await pause(run_id, dice, ask)
    drawn = dice.random()
    if drawn < 0.3:
        await _until_known(ask, CancelRun(run_id, "as drawn"))
    elif drawn < 0.4:
        await _until_known(ask, TerminateRun(run_id, "as drawn"))


async def pause(run_id: RunId, dice: SeededDice, ask: Ask) -> None:
    """Pause a run for a while, long enough for leaders to die."""
    await _until_known(ask, PauseRun(run_id))
    await asyncio.sleep(LONGEST_PAUSE * dice.random() ** 3)
    if not dice.happens(FORGOTTEN):
        await _until_known(ask, ResumeRun(run_id))


async def _until_known(ask: Ask, command: Command) -> None:
    """Say it a few times, until it is known: what is said twice is heard once."""
    for _ in range(3):
        outcome = await ask(type(command).__name__, command)
        if isinstance(outcome, Committed) or (isinstance(outcome, Rejected) and outcome.code != "no_leader"):
            return

"""Scenarios as text: commands in, and what a cluster does about them, in the words of the Raft paper.

A transcript is a text file. A line that begins with `> ` is a command; what is below it, up to the next command, is what happened
then: the time (virtual seconds), the node, or the two between which a message went, and what. A line that begins with `#` is a
comment. `play` runs the commands and gives the same text with what happens now; nothing in it depends on the machine, the Python or
the process. So a transcript that is kept is a specification: whatever changes it has changed how the cluster behaves.

Messages are shown when they arrive, with their content; of heartbeats, and answers to them, only those that say something new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal

from ..core.commands import ChangeMembers, Command, RegisterWorkflow, StartRun
from ..core.records import Definition, NodeId
from ..core.run_record import RECORD_FORMAT
from ..errors import ClusterError
from ..workflow.codec import values
from ..workflow.language.context import WorkflowContext
from . import workload
from .simulation import _quiet
from .stage import LATENCY, Stage

PROMPT: Final = "> "
COMMENT: Final = "#"
QUIETLY: Final = "quietly "
"""The prefix of a command whose effects are not shown: the way to where a scenario begins."""

# --- the workflow that transcripts run


def look_up(item: str) -> int:
    """The price of an item."""
    return len(item) * 10


def charge(item: str, price: int) -> str:
    """Have it paid."""
    return f"{price} charged for {item}"


def ship(item: str) -> str:
    """Send it."""
    return f"{item} shipped"


async def order(ctx: WorkflowContext, item: str) -> str:
    """Three steps, one after the other."""
    price = await ctx.compute("price", look_up, item)
    await ctx.compute("charge", charge, item, price)
    return await ctx.compute("ship", ship, item)


# --- commands

Action = Callable[..., Any]


def _proposed(name: str, kibibytes: str | None) -> Command:
    # A definition that nobody runs: an entry with a name, of any size.
    return RegisterWorkflow(Definition(name, 1, name, "", bytes(1024 * int(kibibytes or 0)), {}))


def _registered(name: str) -> Command:
    if name != "order":
        raise ClusterError(f"there is no workflow {name!r} here; there is order")
    return RegisterWorkflow(workload.definition(name, name, order))


def _started(run_id: str) -> Command:
    return StartRun(run_id, "order", 1, values.encode(run_id.upper(), what="an input"), format=RECORD_FORMAT)


def _member(change: Literal["add", "remove"]) -> Action:
    return lambda stage, node, on: stage.propose(int(on), ChangeMembers(int(node), change))


def _each(act: Callable[[Stage, NodeId], object]) -> Action:
    def act_on_each(stage: Stage, numbers: str) -> None:
        for number in numbers.split():
            act(stage, int(number))

    return act_on_each


async def _advance(stage: Stage, time: str) -> None:
    number, unit = re.fullmatch(r"(\d+)(\w+)", time).groups()  # type: ignore[union-attr] # as the command's pattern says
    await stage.advance(int(number) / (1000 if unit == "ms" else 1))


COMMANDS: Final[dict[str, Action]] = {
    "start N nodes": lambda stage, count: stage.start(int(count)),
    "join N": lambda stage, number: stage.join(int(number)),
    "advance TIME": _advance,
    "deliver": lambda stage: stage.advance(LATENCY + 0.001),
    "settle": lambda stage: stage.settle(),
    "show": lambda stage: stage.describe(),
    "campaign N ...": _each(lambda stage, number: stage.node(number).member.campaign()),
    "transfer N": lambda stage, to: stage.leader().member.yield_leadership(int(to)),
    "propose NAME on N": lambda stage, name, on: stage.propose(int(on), _proposed(name, None)),
    "propose NAME with N KiB on N": lambda stage, name, size, on: stage.propose(int(on), _proposed(name, size)),
    "add N on N": _member("add"),
    "remove N on N": _member("remove"),
    "register NAME on N": lambda stage, name, on: stage.propose(int(on), _registered(name)),
    "run NAME on N": lambda stage, run_id, on: stage.propose(int(on), _started(run_id)),
    "cut N-N": lambda stage, a, b: stage.cut(int(a), int(b)),
    "cut N->N": lambda stage, a, b: stage.cut(int(a), int(b), both=False),
    "cut N->N after entry N": lambda stage, a, b, index: stage.cut_after(int(a), int(b), int(index)),
    "isolate N ...": _each(lambda stage, number: stage.isolate(number)),
    "heal": lambda stage: stage.heal(),
    "kill N ...": _each(lambda stage, number: stage.kill(number)),
    "restart N ...": _each(lambda stage, number: stage.restart(number)),
    "pause N ...": _each(lambda stage, number: stage.node(number).incarnation.pause()),
    "resume N ...": _each(lambda stage, number: stage.node(number).incarnation.resume()),
    "hold N ...": _each(lambda stage, number: stage.node(number).incarnation.hold()),
    "release N ...": _each(lambda stage, number: stage.node(number).incarnation.release()),
    "snapshot N": lambda stage, number: stage.snapshot(int(number)),
}
"""The commands that may follow the prompt: N is a number, `N ...` one or more, NAME a word, TIME as `200ms` or `3s`.

`deliver` lets what is on its way arrive; `settle` waits until nothing but heartbeats has been sent for 0.2 s. `propose` puts an entry
of a name, and of a size, into the log. `register order` and `run ID` are for workflows. `isolate` cuts all links of a node, `hold` stops
its executions and not its log, `snapshot` has it make one and drop the log before. `show` says how the nodes stand.
"""

_PLACEHOLDERS: Final = {"N ...": r"(\d+(?: \d+)*)", "N": r"(\d+)", "NAME": r"([\w-]+)", "TIME": r"(\d+(?:ms|s))"}


def _pattern(usage: str) -> re.Pattern[str]:
    parts = re.split(r"(\bN \.\.\.|\bN\b|\bNAME\b|\bTIME\b)", usage)
    return re.compile("".join(_PLACEHOLDERS.get(part) or re.escape(part) for part in parts))


_PATTERNS: Final = {_pattern(usage): action for usage, action in COMMANDS.items()}

# --- playing


def play(text: str) -> str:
    """Return the transcript with what its commands lead to now, in place of what is written below them.

    Raises `ClusterError` for a line before the first command that is no comment, and for a command that there is not, or that
    cannot be done; it names the line.
    """
    with _quiet():
        stage = Stage()
        try:
            return "\n".join(_played(text, stage)) + "\n"
        finally:
            stage.close()


def _played(text: str, stage: Stage) -> Iterator[str]:
    shown = ""
    before = COMMENT
    said = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith((PROMPT, COMMENT)):
            if said:
                yield ""
            yield line.rstrip()
        elif line.strip() and before is COMMENT:
            raise ClusterError(f"line {number}, {line!r}: a transcript begins with a command ({PROMPT!r}) or a comment")
        else:
            continue  # what happened the last time
        before, said = line, False
        if line.startswith(PROMPT):
            command = line.removeprefix(PROMPT).strip()
            try:
                described = _done(command.removeprefix(QUIETLY), stage)
            except ClusterError as error:
                raise ClusterError(f"line {number}, {line!r}: {error}") from error
            if command.startswith(QUIETLY):
                stage.lines.clear()
            for time, who, what in stage.lines:
                moment = f"{time:.3f}"
                yield f"{'' if moment == shown else moment:>7}  {who:<6}  {what}"
                shown = moment
            said = bool(stage.lines or described)
            stage.lines.clear()
            yield from (f"{'':9}{one}" for one in described)


def _done(command: str, stage: Stage) -> list[str]:
    for pattern, action in _PATTERNS.items():
        if found := pattern.fullmatch(command):
            described = stage.run(partial(action, stage, *found.groups()))
            return described if isinstance(described, list) else []
    raise ClusterError(f"there is no such command; there are: {'; '.join(COMMANDS)}")

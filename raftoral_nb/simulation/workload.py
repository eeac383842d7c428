"""The work of clients in a simulation: they register, start and wait; and the workflows that are started.

Everything runs through the nodes' own way in (`Incarnation.ask`); the clients know nothing of leaders. Workflows use every
operation that there is. What their steps do is in `effects`: every effect has a value of its own, so that two nodes which took
different ones cannot look alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from typing import Any, Final, Protocol

import msgspec

from ..core.command_values import references
from ..core.commands import (
    AssignRun,
    CancelRun,
    Command,
    Committed,
    DeleteRun,
    Entry,
    MoveRun,
    Outcome,
    PauseRun,
    Proposal,
    RegisterWorkflow,
    Rejected,
    ResumeRun,
    SendSignal,
    SetRetention,
    StartRun,
    TerminateRun,
)
from ..core.entry_codec import encode_entry
from ..core.records import Definition, NodeId, ProposalId, RunId
from ..core.run_record import RECORD_FORMAT
from ..errors import NonDeterminismError
from ..node.replay_run import replay_run
from ..raft.blob_exchange import SLOWEST_BYTES_A_SECOND
from ..workflow.codec import values
from ..workflow.language.context import WorkflowContext
from ..workflow.language.variables import ReplicatedVar
from ..workflow.shipping import definitions
from ..workflow.shipping.step_function import step
from . import language, talking
from .diaries import Diary, Scene
from .dice import SeededDice
from .effects import LABEL, effect, slow_effect
from .invariants import Checker
from .linearizability import Access, Append
from .plain_asyncio import plain_asyncio
from .watched import WatchedNode

# --- workflows


class _NoNodeLeftError(Exception):
    """A client found no node to ask, long after everything was healed."""


class RefusedCommand(Exception):  # noqa: N818 - what a step raises on purpose
    """A step failed, as planned."""


def refused(what: str) -> None:
    """A synchronous step that has its effect and then fails."""
    effect(what)
    raise RefusedCommand(f"{what} was refused")


def plus_one(number: int) -> int:
    """Return what a variable is updated with."""
    return number + 1


async def everything(ctx: WorkflowContext, input: Mapping[str, Any]) -> list[object]:  # noqa: A002
    """A workflow of every operation: its result says all that it has seen."""
    return await _everything(ctx, input, _unchanged)


async def changed(ctx: WorkflowContext, input: Mapping[str, Any]) -> list[object]:  # noqa: A002
    """Its next version, with new steps behind gates: runs of the other are moved to it wherever they are."""
    return await _everything(ctx, input, _gate)


async def _unchanged(ctx: WorkflowContext, what: str) -> list[object]:  # noqa: ARG001
    return []


async def _gate(ctx: WorkflowContext, what: str) -> list[object]:
    if not await ctx.patched(f"gate {what}"):
        return []
    return [await ctx.compute(f"new {what}", effect, f"{ctx.run_id} new {what}"), await ctx.patched("open")]


Gate = Callable[[WorkflowContext, str], Awaitable[list[object]]]


async def _everything(ctx: WorkflowContext, input: Mapping[str, Any], gate: Gate) -> list[object]:  # noqa: A002
    diary = Diary(ctx)
    seen = diary.seen
    seen += await gate(ctx, "begin")
    counter = await ctx.var("counter", input["first"])
    for number in range(input["rounds"]):
        seen += await gate(ctx, f"round {number}")
        seen.append(await ctx.compute(f"sync {number}", effect, f"{ctx.run_id} sync {number}"))
        seen.append(await ctx.compute(f"async {number}", slow_effect, f"{ctx.run_id} async {number}"))
        seen.append(await counter.update(plus_one))
    computed = await ReplicatedVar.with_computation("computed", ctx, lambda: effect("computed"))
    seen.append(await computed.set(seen[-1]))
    seen += await gate(ctx, "branches")

    async def branch(inner: WorkflowContext, number: int) -> None:
        seen.append(await inner.compute("in a branch", effect, f"{ctx.run_id} branch {number}"))
        seen.extend(await gate(inner, f"branch {number}"))
        bound = step(slow_effect, where=LABEL)
        seen.append(await inner.compute("then", bound, f"{ctx.run_id} branch {number} then"))

    await ctx.gather(*(partial(branch, number=number) for number in range(input["branches"])))
    seen += await gate(ctx, "parts")
    await language.language(Scene(ctx, diary, ctx.run_id))
    await plain_asyncio(Scene(ctx, diary, ctx.run_id))
    seen += await gate(ctx, "end")
    try:
        await ctx.compute("refused", refused, f"{ctx.run_id} refused")
    except RefusedCommand as error:
        seen.append(str(error))
    if input["fails"]:
        raise RefusedCommand(f"{ctx.run_id} ends with a failure after {len(seen)}")
    return seen


async def nothing(ctx: WorkflowContext, input: object) -> object:  # noqa: A002, ARG001
    """A workflow without steps: only its start matters."""
    return input


@cache
def _built(fn: Callable[..., Any]) -> Definition:
    return definitions.build(fn.__name__, 1, fn)[0]


def definition(name: str, fingerprint: str, fn: Callable[..., Any], version: int = 1) -> Definition:
    """Return the definition of a simulated workflow; its fingerprint is ours, as it would differ between Pythons."""
    return msgspec.structs.replace(_built(fn), workflow=name, version=version, fingerprint=fingerprint, sources={})


# --- clients

EVERYTHING: Final = "everything"
REGISTERS: Final = ("register-a", "register-b")
LIBRARY_BATCH_BYTES: Final = 65_536
"""PySyncObj's own `appendEntriesBatchSizeBytes`: entries of about this size, or a multiple of it, are a hazard of its."""
ASK_SECONDS: Final = 6.0
"""The longest that a client waits for an answer; mostly it is much less patient."""
RESUME_SECONDS: Final = 15.0
"""The time within which whatever is paused must be resumed in the end (seconds)."""
NO_NODE_SECONDS: Final = 60.0
"""The time after the end in which a client still looks for a node to ask (seconds); by then everything has been healed."""
LATE_SECONDS: Final = 1.0
"""The time after the last answer in which a command that a client gave up may still be committed (seconds)."""
THINK_SECONDS: Final = 3.6
"""Mean time between an answer and the next request of a client; mostly it is much shorter, sometimes much longer."""


class WorkloadWorld(Protocol):
    """The part of the simulation that clients need."""

    seed: int
    large: float
    takes_runs: bool
    checker: Checker

    @property
    def nodes(self) -> Mapping[NodeId, WatchedNode]:
        """The living nodes."""
        ...

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the beginning."""
        ...

    def node_for(self, client: int) -> WatchedNode | None:
        """Return a node that this client may ask now; None if there is none."""
        ...

    def answered(self, client: int, node: NodeId, what: str, outcome: Outcome, began: float, limit: float) -> None:
        """Note that a client got an answer."""
        ...


class Clients:
    """All clients of a simulation, and what they were told."""

    def __init__(self, world: WorkloadWorld, count: int, until: float) -> None:
        self.appends: list[Append] = []
        self.accesses: dict[str, list[Access]] = {name: [] for name in REGISTERS}
        self.asked_again = 0
        """Commands that a client gave to a node after it had given them to one before."""
        self.reassigned = 0
        """Runs that were given to a node, or to any other."""
        self._world = world
        self._count = count
        self._until = until
        self._numbers = 0
        self._asked: dict[int, Command] = {}

    async def run(self) -> None:
        """Let all of them work until the time is over; then whatever is paused is resumed."""
        await asyncio.gather(*(self._client(number) for number in range(1, self._count + 1)))
        await asyncio.sleep(LATE_SECONDS)
        dice = SeededDice(self._world.seed, "client", "last")
        # Where nobody answers any more, that is what the checks tell.
        with contextlib.suppress(TimeoutError, _NoNodeLeftError):
            async with asyncio.timeout(RESUME_SECONDS):
                while paused := self._paused():
                    await self._ask(1, dice, f"resume {paused[0]}", ResumeRun(paused[0]))
                    await asyncio.sleep(0.05)  # a node that lags may say so of a run that continues

    def _paused(self) -> list[RunId]:
        """Return the runs that some living node knows as paused."""
        known = {
            run_id: None
            for node in self._world.nodes.values()
            for run_id, run in node.member.state.runs.items()
            if run.status == "paused"
        }
        return list(known)

    async def _client(self, client: int) -> None:
        with contextlib.suppress(_NoNodeLeftError):  # what comes of that is seen after the healing
            await self._go_on_asking(client)

    async def _go_on_asking(self, client: int) -> None:
        world = self._world
        dice = SeededDice(world.seed, "client", client)
        while world.elapsed < self._until:
            await asyncio.sleep(THINK_SECONDS * 5 * dice.random() ** 4)
            drawn = dice.random()
            if drawn < 0.05 or self._numbers < 1:
                await self._register_workflow(client, dice)
            elif drawn < 0.15:
                run_id = await self._append(client, dice, EVERYTHING)
                await self._meddle(client, dice, run_id)
            elif drawn < 0.25:
                await self._talk(client, dice)
            elif drawn < 0.55:
                await self._write(client, dice, dice.pick(REGISTERS))
            else:
                await self._append(client, dice, dice.pick(REGISTERS))

    async def _ask(self, client: int, dice: SeededDice, what: str, command: Command) -> tuple[Outcome, WatchedNode]:
        world = self._world
        while (node := world.node_for(client)) is None:
            if world.elapsed > self._until + NO_NODE_SECONDS:
                raise _NoNodeLeftError
            await asyncio.sleep(0.1)  # as a client would
        self.asked_again += self._asked.get(client) is command
        self._asked[client] = command
        began = node.clock.time()
        limit = 0.2 + (ASK_SECONDS - 0.2) * dice.random() ** 2
        outcome = await node.incarnation.ask(_stamped(command, node), limit)
        longer = sum(ref.size for ref in references(command)) / SLOWEST_BYTES_A_SECOND
        world.answered(client, node.number, what, outcome, node.clock.time() - began, limit + longer)
        return outcome, node

    def send(self, node: NodeId) -> None:
        """Send a command to a node, and do not wait for the answer: a write that nobody ever reads."""
        asked = self._world.nodes.get(node)
        if asked is None or asked.member.paused:
            return
        self._numbers += 1
        value = f"v{self._numbers}"
        command = RegisterWorkflow(definition("burst", value, nothing))

        def answered(outcome: Outcome) -> None:
            self._world.answered(0, node, f"send {value}", outcome, 0.0, ASK_SECONDS)

        asked.member.propose(command, ASK_SECONDS, answered)

    async def _register_workflow(self, client: int, dice: SeededDice) -> None:
        self._numbers += 1
        await self._ask(client, dice, "register", RegisterWorkflow(definition(EVERYTHING, "1", everything)))

    async def _talk(self, client: int, dice: SeededDice) -> None:
        """Start a run that listens, and say things to it."""
        for name, fn in ((talking.CHILD, talking.child), (talking.TALK, talking.talk)):
            await self._ask(client, dice, f"register {name}", RegisterWorkflow(definition(name, "1", fn)))
        run_id = await self._append(client, dice, talking.TALK)

        async def ask(what: str, command: Command) -> Outcome:
            return (await self._ask(client, dice, f"{what} to {run_id}", command))[0]

        await talking.converse(run_id, dice, ask, self._world.checker.messages.acknowledged)
        node = self._world.node_for(client)
        if node is not None:
            for command in _clearing(node, run_id, dice):
                await ask(type(command).__name__, command)

    async def _meddle(self, client: int, dice: SeededDice, run_id: RunId) -> None:
        """Cancel, pause or move a run that has begun, give it to other owners, or leave it alone."""

        async def ask(what: str, command: Command) -> Outcome:
            return (await self._ask(client, dice, f"{what} to {run_id}", command))[0]

        drawn = dice.random()
        if drawn < 0.8:
            await asyncio.sleep(2.0 * dice.random())
        if drawn < 0.25:
            await ask("cancel", CancelRun(run_id, "as drawn"))
        elif drawn < 0.5:
            await talking.pause(run_id, dice, ask)
        elif drawn < 0.8:
            await ask("register", RegisterWorkflow(definition(EVERYTHING, "2", changed, 2)))
            # One that stands still can be moved where it is; one that advances may be quicker than we are.
            stand_still = dice.happens(0.5)
            if stand_still:
                await ask("pause", PauseRun(run_id))
            for _ in range(4):
                node = self._world.node_for(client)
                if node is None or await self._moved(node, run_id, ask):
                    break
            if stand_still:
                await ask("resume", ResumeRun(run_id))
        elif self._world.takes_runs:
            for _ in range(1 + dice.below(3)):
                owner = dice.pick([0, *sorted(self._world.nodes)])
                outcome = await ask(f"assign node {owner}", AssignRun(run_id, owner))
                self.reassigned += isinstance(outcome, Committed)
                await asyncio.sleep(dice.random())

    async def _moved(self, node: WatchedNode, run_id: RunId, ask: talking.Ask) -> bool:
        """Move a run to the changed code as this node knows both; True if that is done, or makes no sense."""
        state = node.member.state
        run, code = state.runs.get(run_id), state.definitions.get((EVERYTHING, 2))
        if run is None or code is None or not run.unfinished or run.definition.version == 2:
            return True
        try:
            replay_run(run, code)
        except NonDeterminismError as error:
            self._world.checker.violated("gates fit wherever a run is", str(error), run_id)
        outcome = await ask("move", MoveRun(run_id, 2, len(run.records), run.generation))
        return not (isinstance(outcome, Rejected) and outcome.code == "run_went_on")

    async def _write(self, client: int, dice: SeededDice, register: str) -> None:
        """Write a register: register another definition under its name."""
        self._numbers += 1
        value = f"v{self._numbers}"
        began = self._world.elapsed
        outcome, _ = await self._ask(
            client, dice, f"write {register}={value}", RegisterWorkflow(definition(register, value, nothing))
        )
        if isinstance(outcome, Rejected):
            # "version_in_use" and "no_leader" alike say that nothing was written: then it must never be read.
            return
        ended = self._world.elapsed if isinstance(outcome, Committed) else float("inf")
        self.accesses[register].append(Access("write", value, began, ended))

    async def _append(self, client: int, dice: SeededDice, workflow: str) -> str:
        """Start a run: appends to the list of runs, and reads the register if the workflow is one.

        What is not known to have happened is asked for again, of whichever node: the `run_id` makes it one start.
        """
        self._numbers += 1
        run_id = f"run-{self._numbers}"
        plan: object = self._numbers
        if workflow == EVERYTHING:
            plan = {
                "first": self._numbers,
                "rounds": 1 + dice.below(3),
                "branches": 1 + dice.below(3),
                "fails": dice.happens(0.2),
            }
        elif workflow == talking.TALK:
            plan = {"heard": 0, "round": dice.below(3)}
        version = 2 if workflow == EVERYTHING and dice.happens(0.2) else 1
        data = values.encode(plan, what=run_id)
        command = StartRun(run_id, workflow, version, data, format=RECORD_FORMAT)
        if workflow in REGISTERS and dice.happens(self._world.large):
            command = _near_a_multiple(command, dice)
        began = self._world.elapsed
        maybe = False
        for _ in range(3):
            outcome, node = await self._ask(client, dice, f"start {run_id} of {workflow}", command)
            if isinstance(outcome, Committed):
                self._started(run_id, workflow, began, node)
                return run_id
            if isinstance(outcome, Rejected) and outcome.code == "unknown_workflow":
                if workflow in REGISTERS and not maybe:
                    self.accesses[workflow].append(Access("read", None, began, self._world.elapsed))
                break
            maybe = maybe or not isinstance(outcome, Rejected)
        outcome_name = "unknown" if maybe else "refused"
        self.appends.append(Append(run_id, began, float("inf"), outcome_name))  # type: ignore[arg-type]
        return run_id

    def _started(self, run_id: str, workflow: str, began: float, node: WatchedNode) -> None:
        # Read in the same turn of the loop in which the answer was: the node applied it before it answered.
        runs = node.member.state.runs
        names = self._names(node)
        ended = self._world.elapsed
        seen = tuple(names[: names.index(run_id) + 1]) if run_id in names else ()
        self.appends.append(Append(run_id, began, ended, "done", seen))
        if workflow in REGISTERS and run_id in runs:
            self.accesses[workflow].append(Access("read", runs[run_id].definition.fingerprint, began, ended))

    def _names(self, node: WatchedNode) -> list[RunId]:
        """Return the runs that a node knows in their order, and among them, where they were started, those that it knows as evicted."""
        state, starts = node.member.state, self._world.checker.starts

        def place(run_id: RunId) -> float:
            return starts.get(
                run_id, math.inf
            )  # of a history that is the node's alone, where the engine was broken on purpose

        # Children are started by no client.
        there = (name for name in state.runs if "/" not in name)
        gone = sorted((name for name in state.evicted if "/" not in name), key=place)
        return list(heapq.merge(there, gone, key=place))


def _clearing(node: WatchedNode, run_id: RunId, dice: SeededDice) -> list[Command]:
    """Return what a client does about runs that have ended: it deletes children, and says how many are to be kept."""
    known = node.member.state.runs
    ended = [run for name, run in known.items() if name == talking.SHARED or name.startswith(f"{run_id}/")]
    clearing: list[Command] = [DeleteRun(run.run_id, run.generation) for run in ended if dice.happens(0.5)]
    if dice.happens(0.3):
        clearing.append(SetRetention(4 + dice.below(30), None if dice.happens(0.5) else 4000 + dice.below(100_000)))
    return clearing


def _stamped(command: Command, node: WatchedNode) -> Command:
    """Return the command with the time of day of the node that is asked, where it has one."""
    if isinstance(command, StartRun | SendSignal | CancelRun | PauseRun | ResumeRun | TerminateRun | DeleteRun):
        return msgspec.structs.replace(command, at=node.executor.wall_clock())
    return command


def _near_a_multiple(command: StartRun, dice: SeededDice) -> StartRun:
    """Return the same with an input that makes its entry about a multiple of the library's batch size (bytes)."""
    target = LIBRARY_BATCH_BYTES * (1 + dice.below(3)) - dice.below(45) + 5
    # As long as most of those that nodes give.
    id_ = ProposalId("100.1.0123456789ab", 50)

    def sized(length: int) -> StartRun:
        return msgspec.structs.replace(command, input=values.encode("x" * length, what=command.run_id))

    over = len(encode_entry(Entry((Proposal(id_, sized(target)),)))) - target
    return sized(target - over)

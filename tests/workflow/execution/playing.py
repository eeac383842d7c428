"""An execution alone: no node, no cluster, no log but a list of records. Nothing acts; the schedule makes the records."""

from __future__ import annotations

import contextvars
import gc
import hashlib
import random
from collections.abc import Coroutine
from typing import Any, Final
from unittest.mock import Mock

from raftoral_nb.core.records import CancelRecord, Definition, Message, Record, Step, TimersFired
from raftoral_nb.simulation.observations import DiaryReader, Observation, diary_of, observed
from raftoral_nb.workflow.codec import values
from raftoral_nb.workflow.execution.acting import OpenStep
from raftoral_nb.workflow.execution.alarms import Alarms
from raftoral_nb.workflow.execution.execution import Execution
from raftoral_nb.workflow.execution.inbox import RunStarted
from raftoral_nb.workflow.execution.large_values import LargeValues
from raftoral_nb.workflow.execution.products import Made
from raftoral_nb.workflow.execution.running_step import CONTEXT
from raftoral_nb.workflow.language.context import WorkflowContext
from raftoral_nb.workflow.loop import asyncio_patches
from tests.workflow.execution.programs import SIGNALS, Block, Choose, ProgramRun, drawn

MOST_RECORDS: Final = 40
"""The longest schedule; a program that needs more is left where it is."""

BEGAN: Final = 1_700_000_000.0


class Alone:
    """The environment of an execution that never acts (`environment.ExecutionEnv`)."""

    node = 1
    acting = None
    steps: Any = None

    def __init__(self, program: Block) -> None:
        self.timers = self.alarms = Alarms(lambda: BEGAN, lambda seconds, call: None, lambda call: None)
        self.large_values = LargeValues(Mock())
        self._program = program

    def prepare(self, execution: Any) -> tuple[Coroutine[Any, Any, Any], contextvars.Context]:
        context = contextvars.Context()
        ctx = WorkflowContext(execution, self.node)
        context.run(CONTEXT.set, ctx)
        return self._code(ctx), context

    async def _code(self, ctx: WorkflowContext) -> Any:
        return await ProgramRun(ctx, self._program).run()

    def say(self, run_id: str, text: str) -> None:
        """Do nothing."""

    def execution_stopped(self, execution: Any, reason: str) -> None:
        """Do nothing: the status says it."""

    def execution_done(self, execution: Any) -> None:
        """Do nothing."""

    def broke(self, execution: Any, what: str, error: BaseException) -> None:
        raise error


class Played:
    """An execution of a program, and what it had come to after each turn."""

    def __init__(self, run_id: str, program: Block) -> None:
        asyncio_patches.install()
        around: Any = Alone(program)
        self.execution = Execution(RunStarted(run_id, Definition("w", 1, "", "", b"", {}), b"", 1, BEGAN), around)
        self.records: list[Record] = []
        self.turns: list[Observation] = []
        self.asked: dict[str, OpenStep] = {}
        """All that it was seen to wait for, ever."""
        self._reader = DiaryReader()
        take = self.execution._take

        def taken(record: Record) -> None:
            take(record)
            self._look()

        self.execution._take = taken  # type: ignore[method-assign]
        self.execution.take_turns(0)
        self._look()

    def _look(self) -> None:
        self.asked.update(self.execution.asks)
        self.turns.append(observed(self.execution, self._reader))

    def have(self, *records: Record, at_once: int = 1) -> None:
        """Hand records over, and let them have their turns, so many at once."""
        self.records += records
        for first in range(0, len(records), at_once):
            for record in records[first : first + at_once]:
                self.execution.add(record)
            while self.execution.waits_for_turns:
                self.execution.take_turns(at_once)

    @property
    def outcome(self) -> tuple[object, ...]:
        """The end of it."""
        execution, failure = self.execution, self.execution.failure
        diary = diary_of(execution)
        told = None if failure is None else (failure.type_name, failure.message)
        return execution.status, execution.reason, execution.ended, execution.result, told, diary and diary.seen

    def close(self) -> None:
        """Drop it."""
        self.execution.drop()


def _made(ask: OpenStep, number: int, at: float) -> Step:
    """Return the record of a step: a number for one that is computed, else what every node computes."""
    value: bytes | None = values.encode(number, what="a step")
    if ask.operation != "compute":
        product: Any = ask.produce(ask.step_id)
        value = product.value if isinstance(product, Made) else product[0]
    return Step(ask.step_id, ask.operation, value, None, 1, 1, at)


def next_record(played: Played, choose: Choose, number: int) -> Record | None:
    """Choose what happens next, of all that may; None if nothing can wake it."""
    execution = played.execution
    at = execution.loop.time() + choose(3) / 4
    waited = list(execution.asks)
    # What is asked for and given up in one turn has no effect, and no record.
    given_up = [step_id for step_id, _ in execution._open._asked._given_up.values() if step_id in played.asked]
    due = execution.loop.next_due
    names = sorted({name for getter in execution.mailbox.getters for name in getter.names})
    may = ["step"] * 4 * bool(waited) + ["timer"] * 2 * (due is not None) + ["wanted"] * 2 * bool(names)
    may += ["late"] * bool(given_up)
    if not may:
        return None
    may += ["any", "cancel"] if choose(8) == 7 else []
    match may[choose(len(may))]:
        case "step":
            return _made(played.asked[waited[choose(len(waited))]], number, at)
        case "late":
            return _made(played.asked[given_up[choose(len(given_up))]], -number, at)
        case "timer":
            assert due is not None
            return TimersFired(due, max(at, due), 1, 1)
        case "cancel" if execution.cancel_reason is None:
            return CancelRecord("", at)
        case "wanted":
            name = names[choose(len(names))]
        case _:
            name = SIGNALS[choose(2)]
    word = f"{name} {number}"
    return Message(word, "signal", name, values.encode(word, what="a word"), None, at)


def played(run_id: str, choose: Choose) -> tuple[Block, Played]:
    """Draw a program and a schedule, and play it live: each record is made when the one before has had its turn."""
    program = drawn(choose)
    live = Played(run_id, program)
    for number in range(MOST_RECORDS):
        if live.execution.ended or live.execution.status != "running":
            break
        record = next_record(live, choose, number)
        if record is None:
            break
        live.have(record)
    return program, live


def replayed(run_id: str, program: Block, records: list[Record], at_once: int) -> Played:
    """Play the same records again, which all are there."""
    replay = Played(run_id, program)
    if at_once == 2:
        gc.collect(1)
    replay.have(*records, at_once=at_once)
    return replay


def digest_of(seeds: range) -> str:
    """Return the digest of what the programs of these seeds see, turn for turn: the same in each process."""
    found = hashlib.blake2b(digest_size=12)
    for seed in seeds:
        _, live = played(f"program {seed}", random.Random(seed).randrange)
        found.update(repr((live.turns, live.records, live.outcome)).encode())
        live.close()
    return found.hexdigest()

"""The words everything else is written in: identifiers, limits, commands, records and events.

All of it is frozen data (`msgspec.Struct`), without behaviour, I/O, clocks or threads, and `gc=False`: made of values that were
there before, it cannot be part of a cycle, and the garbage collector need not walk through hundreds of thousands of them. Commands are what a node
proposes; records are what the replicated state keeps; events are what applying a command says happened.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from .blob_refs import kept_bytes

# --- Identifiers ---------------------------------------------------------------------------------------------------

NodeId = int
"""Nodes are numbered 1, 2, 3 ..."""

RunId = str
StepId = str
"""Branch path, ordinal within the branch, and key: `0/charge`, or `2.1.0/fit` inside branch 1 of operation 2."""


class ProposalId(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The id of one proposal, for ever: retries carry the same one, so that it is applied at most once.

    `client` names one incarnation of one node and starts with the log index it was born at (`"{birth}.{node}.{nonce}"`);
    `number` counts that client's proposals from 1.
    """

    client: str
    number: int

    @property
    def birth(self) -> int:
        """The applied index at which the client was made (entries)."""
        return int(self.client.partition(".")[0])


# --- Records -------------------------------------------------------------------------------------------------------

Operation = Literal[
    "compute",
    "intent",
    "var",
    "set",
    "update",
    "patched",
    "answer",
    "child",
    "signal",
    "cancel",
]
"""The kind of step that was recorded. An execution that asks for another kind than the recorded one has diverged."""

EarlierOperation = Literal[
    "now",
    "sleep",
    "wake",
    "deadline",
    "expiry",
    "race",
    "group",
    "due",
    "receive",
    "join",
]
"""The kinds of steps that logs of the first format hold besides. Nothing records them any more, and nothing replays them."""


class Failure(msgspec.Struct, frozen=True, gc=False):
    """An exception as data: readable everywhere, even where the exception itself does not unpickle.

    `exception` holds the encoded exception, as far as it came back from its pickle on the node that raised it; None if its class did not.
    `traceback` is text, engine frames left out.
    """

    type_name: str
    message: str
    traceback: str = ""
    exception: bytes | None = None

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


class StepSource(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where the value of a step was computed that was found in the cache."""

    run_id: RunId
    step_id: StepId

    def __str__(self) -> str:
        return f"run {self.run_id}, step {self.step_id}"


class Step(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One recorded step (a checkpoint). Exactly one of `value` and `failure` is set. Its turn resolves what waits for it."""

    step_id: StepId
    operation: Operation | EarlierOperation
    value: bytes | None
    failure: Failure | None
    node: NodeId
    epoch: int
    """The term in which `node` acted; if it owns the run, or the step is bound to it, the number of that assignment, which is negative."""
    at: float = 0.0
    """The time when it was proposed (Unix seconds, the clock of `node`), but not before that of the record before it."""
    message_id: str | None = None
    """The update that this step answers."""
    cached_from: StepSource | None = None
    """Where its value comes from, if it was found in the cache of steps: its function did not run."""

    @property
    def key(self) -> str:
        """The name the workflow gave the step."""
        return self.step_id.partition("/")[2]


class StepState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the function of an open step saved last, for the next attempt at it. No record of the run: no execution replays it."""

    step_id: StepId
    number: int
    """Counts from 1 what was saved of this step; some numbers may be left out."""
    value: bytes
    at: float = 0.0
    """The time when it was proposed (Unix seconds, the clock of the node)."""


class CachedStep(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A result in the cache of steps: what `cluster.cached_steps()` returns."""

    key: str
    """A digest of the function's code and of its inputs, by which it is found."""
    name: str
    """The name of the function."""
    inputs: str
    """The inputs, shortened."""
    value: bytes
    """The encoded result."""
    source: StepSource
    """The step that computed it."""
    at: float
    """The time when that was recorded (Unix seconds, the run's time)."""
    hits: int = 0
    """The number of steps that were recorded with it since."""

    @property
    def size(self) -> int:
        """The size of the encoded result, in bytes."""
        return kept_bytes(self.value)


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message to a run: a signal, an update (which wants an answer), or the end of a child run.

    Its turn puts it into the run's mailbox. Of a child's end, `name` is the child's run_id, and a failure may stand in place of
    the value.
    """

    message_id: str
    kind: Literal["signal", "update", "child"]
    name: str
    value: bytes | None
    failure: Failure | None = None
    at: float = 0.0
    """The time when it was sent (Unix seconds, the sender's clock), but not before that of the record before it."""


class TimersFired(msgspec.Struct, frozen=True, gc=False):
    """The timers of a run that were due by `at` fired, in the order of their due times. `due` is that of the first of them."""

    due: float
    at: float
    node: NodeId
    epoch: int


class CancelRecord(msgspec.Struct, frozen=True, gc=False):
    """The request to cancel the run. Its turn cancels the main task, once."""

    reason: str
    at: float


class MoveRecord(msgspec.Struct, frozen=True, gc=False):
    """The run continues with another version of its workflow from here on. Its turn does nothing: gates look for it."""

    version: int
    at: float


Record = Step | Message | TimersFired | CancelRecord | MoveRecord
"""One record of a run. An execution gets them one at a time, in the order of the log; each has its turn."""


class Definition(msgspec.Struct, frozen=True, gc=False):
    """A registered workflow: its code, and the text of its source for tracebacks after a restart.

    `fingerprint` decides whether a re-run cell changed anything (normalised source and captured values); `digest` is
    the digest of `code` and guards its transport. `sources` maps a code file name (a notebook cell) to its text.
    """

    workflow: str
    version: int
    fingerprint: str
    digest: str
    code: bytes
    sources: dict[str, str]
    made_with: dict[str, str] = {}
    """The versions of Python (`python`) and of the packages that the code refers to, where it was registered."""
    arithmetic: dict[str, str] | UnsetType = UNSET
    """The decimal context and numpy's error state where it was registered, as far as they differ from the usual."""


# --- Commands ------------------------------------------------------------------------------------------------------


# --- Events of apply -----------------------------------------------------------------------------------------------


class Difference(msgspec.Struct, frozen=True, gc=False):
    """The point where an execution differs from the record.

    It has both sides, the line that asked, and the likely cause.

    All of it is text to be shown; "" where it is not known. `recorded` and `asked` are an operation with its step_id,
    and the value where that is what differs.
    """

    reason: str
    recorded: str = ""
    asked: str = ""
    where: str = ""
    """File or cell, line and function of the workflow's code, as in a traceback."""
    line: str = ""
    cause: str = ""

    def __str__(self) -> str:
        """Return the difference on several lines."""
        rows = [
            ("recorded", self.recorded),
            ("asked for", self.asked),
            ("at", f"{self.where}: {self.line}" if self.line else self.where),
            ("likely cause", self.cause),
        ]
        return "".join([self.reason, *(f"\n  {name + ':':<14}{text}" for name, text in rows if text)])

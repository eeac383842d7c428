"""What is told to other runs, and how that can fail: signals, and requests to end, from a workflow and from within its steps."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from hashlib import blake2b
from typing import Any, Final, Protocol

from ...core.commands import CancelRun, Command, Committed, Outcome, Rejected, SendSignal, Unknown
from ...core.records import RunId, StepId
from ...core.step_ids import check_key
from ...errors import (
    BadArgumentError,
    ClusterError,
    InternalError,
    NotAcknowledgedError,
    RaftoralError,
    RunEndedError,
    RunNotFoundError,
    RunUnfinishedError,
    SignalRefusedError,
    ValueNotShippableError,
)
from ...limits import MAX_NAME_CHARS, MAX_REASON_CHARS
from ..codec import values
from .large_values import LargeValues

SEND_SECONDS: Final = 60.0
"""The time that a step on a thread waits for what it sends to be recorded (seconds)."""

FINAL: Final = frozenset(
    {"unknown_run", "run_ended", "run_cancelling", "too_many_signals", "bad_command", "value_too_large"}
)
"""Codes of refusals that no repetition changes."""

_CHARS_KEPT: Final = MAX_NAME_CHARS - 60


def refusal(code: str, what: str, reason: str) -> RaftoralError:
    """Return the error that says why a run could not be told something; `what` says what that was."""
    match code:
        case "unknown_run":
            more = "; it was never started, or its records were evicted" if reason.endswith("is known") else ""
            return RunNotFoundError(f"{what} was refused: {reason}{more}")
        case "run_ended" | "run_cancelling":
            return RunEndedError(f"{what} was refused: {reason}")
        case "run_unfinished":
            return RunUnfinishedError(f"{what} was refused: {reason}")
        case "no_such_owner":
            return ClusterError(f"{what} was refused: {reason}")
        case "too_many_signals":
            return SignalRefusedError(f"{what} was refused: {reason}; the workflow must receive some first")
        case "value_too_large":  # the limit was lowered since it was encoded
            return ValueNotShippableError(f"{what} was refused: {reason}")
    return InternalError(f"{what} was refused: {reason}")


def checked_run_id(given: object) -> RunId:
    """Return the run_id of a run that is to be told something. Raises `BadArgumentError`."""
    run_id = getattr(given, "run_id", given)  # a child, or a handle
    if isinstance(run_id, str) and 0 < len(run_id) <= MAX_NAME_CHARS and run_id.isprintable():
        return run_id
    raise BadArgumentError(f"a run is told something by its run_id, a text; got {given!r}")


def checked_reason(given: object) -> str:
    """Return the reason for ending a run, as it can be recorded. Raises `RaftoralError`."""
    if not isinstance(given, str):
        raise RaftoralError(f"a reason is text, got {type(given).__name__}")
    # Half surrogates, which no frame can carry, are written out.
    return given.encode("utf-8", "backslashreplace").decode()[:MAX_REASON_CHARS]


def signal_id(run_id: RunId, generation: int, place: str) -> str:
    """Return the id of a signal that a run sends at `place`, a step_id or what a step makes of it: another in each generation."""
    own = place if generation == 1 else f"{generation}:{place}"
    whole = f"{run_id}/{own}"
    if len(whole) <= MAX_NAME_CHARS:
        return whole
    digest = blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{whole[:_CHARS_KEPT]}.../{digest}"


class Sending:
    """Something that a step's function sends. It is under way already; awaiting it waits until it is recorded, or raises why not."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.looked_at = False
        """True once somebody waited for it."""
        self._future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._future.set_running_or_notify_cancel()  # who stops waiting for it does not stop it

    def __await__(self) -> Generator[Any, None, None]:
        self.looked_at = True
        return asyncio.wrap_future(self._future).__await__()

    def wait(self) -> None:
        """Block until it is recorded, or raise why not."""
        self.looked_at = True
        try:
            self._future.result(SEND_SECONDS)
        except TimeoutError:
            raise self._unknown("no answer came") from None

    def done(self, outcome: Outcome) -> bool:
        """Note how a proposal ended. False if it is to be proposed again."""
        match outcome:
            case Committed():
                self._future.set_result(None)
            case Rejected(code=code, reason=reason) if code in FINAL:
                self._future.set_exception(refusal(code, self.what, reason))
            case _:
                return False
        return True

    def give_up(self, outcome: Outcome) -> None:
        """Note that it is not proposed again."""
        assert isinstance(outcome, Rejected | Unknown)
        self._future.set_exception(self._unknown(outcome.reason))

    def _unknown(self, reason: str) -> NotAcknowledgedError:
        return NotAcknowledgedError(f"{self.what} was not acknowledged: {reason}", may_commit=True)


class SenderEnv(Protocol):
    """The part of an execution's environment that sends what steps say."""

    def wall_clock(self) -> float:
        """Return the time of day by this node's clock, in Unix seconds."""
        ...

    large_values: LargeValues

    def ask(self, command: Command, done: Callable[[Outcome], None]) -> None:
        """Propose a command; `done(outcome)` is called once, on another thread. From any thread."""
        ...


class Sender:
    """Sends for one attempt at one step. A repeated attempt that sends the same says it under the same ids, so it is sent once."""

    def __init__(self, env: SenderEnv, run_id: RunId, generation: int, step_id: StepId) -> None:
        self._env = env
        self._run_id = run_id
        self._generation = generation
        self._step_id = step_id
        self._counts: dict[tuple[RunId, str], int] = {}
        # Invariant: in the order in which it was sent.
        self._sent: list[Sending] = []
        self.ended = False
        """True once the step is not needed here any more: nothing is proposed again."""

    def signal(self, target: object, name: str, value: Any) -> Sending:
        """See `RunningStep.signal`."""
        run_id = checked_run_id(target)
        check_key(name)
        data = values.encode(value, what=f"the value of the signal {name!r}", most=self._env.large_values.most)
        number = self._counts[run_id, name] = self._counts.get((run_id, name), 0) + 1
        place = f"{self._step_id}/{name}.{number}"
        sent = SendSignal(
            run_id, signal_id(self._run_id, self._generation, place), name, data, at=self._env.wall_clock()
        )
        return self._send(sent, f"the signal {name!r} to run {run_id!r}")

    def cancel(self, target: object, reason: str) -> Sending:
        """See `RunningStep.cancel`."""
        run_id = checked_run_id(target)
        command = CancelRun(run_id, checked_reason(reason), self._env.wall_clock())
        return self._send(command, f"cancelling run {run_id!r}")

    def _send(self, command: Command, what: str) -> Sending:
        sending = Sending(what)
        self._sent.append(sending)

        def done(outcome: Outcome) -> None:
            if sending.done(outcome):
                return
            if self.ended or (isinstance(outcome, Rejected) and outcome.code == "stopped"):
                sending.give_up(outcome)
            else:
                self._env.ask(command, done)

        self._env.ask(command, done)
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # on the step's own thread
            sending.wait()
        return sending

    async def settle(self) -> None:
        """Wait for what the function sent and did not wait for. Raises what became of the first that failed."""
        for sending in self._sent:
            if not sending.looked_at:
                await sending

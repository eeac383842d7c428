"""The time that a step has, for one attempt and for all of them, and when it is tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...errors import RetryAfter, StepTimeoutError, WrongTaskError
from ..codec.failures import TracebackElsewhere
from ..codec.values import describe
from ..shipping.step_function import Retry

if TYPE_CHECKING:
    from ...core.records import StepId
    from ..shipping.step_function import StepOptions

_ASKED: Final = Retry()
"""The policy of a step that has none, and asks to be tried again."""


class TimeLeft:
    """The time that is left for one step, on this node. Times are Unix seconds by its clock; `ends_at` None is never."""

    __slots__ = ("_ends_at", "_in_all", "_over", "_step_id", "attempts", "cache", "options", "ttl")

    def __init__(self, options: StepOptions, step_id: StepId, ends_at: float | None) -> None:
        self.cache, self.ttl = options.cache, options.ttl
        """Of the step's options, which are at hand here: whether its result is cached, and for how many seconds."""
        self.attempts = 0
        """How many there may be, by the policy after which it was tried again last."""
        self.options = options
        self._step_id = step_id
        self._ends_at = ends_at
        # Whether the time of the attempt that runs ends with that of all, so that none follows.
        self._in_all = False
        self._over = False

    def of_attempt(self, now: float) -> float | None:
        """Return how many seconds an attempt that begins now may take; None if as many as it likes.

        Raises `StepTimeoutError` if there is no time left to begin one.
        """
        timeout, ends_at = self.options.timeout, self._ends_at
        if ends_at is None:
            return timeout
        left = ends_at - now
        self._in_all = timeout is None or left <= timeout
        if left <= 0:
            raise self._total("it was over before an attempt began here")
        return left if self._in_all else timeout

    def passed(self, attempt: int, behind: str) -> StepTimeoutError:
        """Return the error of an attempt that took longer than it may; `behind` says what became of its function."""
        if self._in_all:
            return self._total(f"attempt {attempt} was running{behind}")
        timeout = self.options.timeout
        return StepTimeoutError(
            f"step {self._step_id!r} took longer than its timeout of {timeout:g} s (attempt {attempt}){behind}"
        )

    def after(
        self, raised: BaseException, attempt: int, chance: float, now: float
    ) -> tuple[BaseException, float | None]:
        """Return what an attempt failed with, and after how many seconds another one begins: None if none does."""
        retry, error = self.options.retry, raised
        if self._over:
            return error, None
        if isinstance(raised, RetryAfter):
            cause = raised.cause if isinstance(raised.__cause__, TracebackElsewhere) else raised.__cause__
            error = raised if cause is None else cause
            if retry is None and not self.options.at_most_once:
                retry = _ASKED
            if retry is None or attempt >= retry.attempts or isinstance(error, retry.final):
                return error, None
            seconds = raised.seconds(now)
        elif retry is None or isinstance(raised, WrongTaskError) or not retry.again(raised, attempt):
            # A WrongTaskError is a mistake in the code, which the next attempt would make again.
            return error, None
        else:
            seconds = retry.wait(attempt, chance)
        self.attempts = retry.attempts
        if self._ends_at is None or now + seconds < self._ends_at:
            return error, seconds
        self._over = True
        return StepTimeoutError(
            f"step {self._step_id!r} cannot be done within its total_timeout of {self.options.total_timeout:g} s: attempt {attempt} failed "
            f"with {describe(error)}, and the next attempt may begin only in {round(seconds, 3):g} s"
        ), None

    def _total(self, how: str) -> StepTimeoutError:
        self._over = True
        total = self.options.total_timeout
        return StepTimeoutError(
            f"step {self._step_id!r} took longer than its total_timeout of {total:g} s, counted from when it was asked for: {how}"
        )

"""Lengths of time as users give them: a number of seconds, or a `timedelta`. What is kept of either is a number."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any, TypeAlias

import msgspec

from ..errors import BadArgumentError, RaftoralError

Seconds: TypeAlias = float | timedelta
"""A length of time: a number of seconds, or a `timedelta`."""


def as_number(given: Any) -> Any:
    """Return the seconds of a `timedelta`; whatever else was given as it is, for its own check."""
    return given.total_seconds() if isinstance(given, timedelta) else given


def keep_numbers(options: msgspec.Struct, *names: str) -> None:
    """Turn each `timedelta` in these fields of a new struct into a number of seconds."""
    for name in names:
        given = getattr(options, name)
        if (number := as_number(given)) is not given:
            msgspec.structs.force_setattr(options, name, number)


def is_number(value: object) -> bool:
    """Return whether `value` is a number of seconds: not `True`, and not NaN."""
    # An int may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124


def seconds(given: object, what: str, error: type[RaftoralError] = BadArgumentError) -> float:
    """Return a number of seconds, which may be infinite or below 0.

    Raises `error`, which says that `what` takes one.
    """
    number = as_number(given)
    if not is_number(number):
        raise error(f"{what} takes a number of seconds, or a timedelta, not {given!r}")
    result: float = number
    return result


def patience(given: object, what: str) -> float | None:
    """Return how long to wait, None for ever, as a lock or a loop takes it. A time in the past counts as 0.

    Raises `BadArgumentError`, which says that `what` takes a number of seconds, a `timedelta` or None.
    """
    if given is None:
        return None
    number = as_number(given)
    if not is_number(number):
        raise BadArgumentError(
            f"{what} takes a number of seconds, a timedelta, or None to wait for ever, not {given!r}"
        )
    return None if number > threading.TIMEOUT_MAX else max(0.0, number)

"""Renewal and cancellation of a run, as its own code meets them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from ...core.records import Failure
from ..codec import values


class ContinueAsNew(BaseException):
    """The exception that ends this execution of a run and begins the run anew.

    Made by `ctx.continue_as_new(input)`, to be raised or returned.
    """

    def __init__(self, input: Any) -> None:  # noqa: A002 - the word that workflows use
        super().__init__("the run begins anew")
        self.input = input


def is_cancellation(error: BaseException) -> bool:
    """Return whether nothing but a cancellation was raised, by one branch or by several."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_cancellation(one) for one in error.exceptions)
    return isinstance(error, asyncio.CancelledError)


_BY_ITSELF = "the code of the workflow cancelled it, and nobody had asked it to end"


def as_cancelled(failure: Failure, reason: str | None) -> Failure:
    """Return the failure of a run that ends with its cancellation, from that of its code; it failed if no `reason` was given."""
    if reason is None:
        return msgspec.structs.replace(failure, type_name="asyncio.CancelledError", message=_BY_ITSELF, exception=None)
    name = values.type_name(asyncio.CancelledError)
    return msgspec.structs.replace(failure, type_name=name, message=reason, exception=None)

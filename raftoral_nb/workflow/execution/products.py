"""Products of steps: what the acting node computed, before it is recorded."""

from __future__ import annotations

import msgspec

from ...core.records import Failure, RunId, StepSource


class ChildStart(msgspec.Struct, frozen=True):
    """The child run that a step starts. `version` None means the latest."""

    run_id: RunId
    workflow: str
    version: int | None
    input: bytes
    detached: bool
    digest: str = ""
    """Of the input; "" where the same child cannot be started again."""


class Told(msgspec.Struct, frozen=True):
    """What a step tells another run: a signal, or (with the operation "cancel") that it is to end."""

    run_id: RunId
    signal_id: str
    name: str
    """Of the signal; the reason of a request to end."""
    value: bytes = b""


class ForCache(msgspec.Struct, frozen=True):
    """What the cache of steps is told of a step: the key, the function's name, its inputs shortened, and where the value comes from.

    That is None if it was computed.
    """

    key: str
    name: str
    inputs: str
    source: StepSource | None = None


class Made(msgspec.Struct, frozen=True):
    """The product of a step, when there is more to it than a value or a failure."""

    value: bytes | None = None
    failure: Failure | None = None
    message_id: str | None = None
    """The update that it answers."""
    child: ChildStart | None = None
    told: Told | None = None
    cached: ForCache | None = None


Encoded = tuple[bytes | None, Failure | None]
"""An encoded value or a failure."""

Product = Encoded | Made
"""The product of a step."""

"""The values in a command: what of it is a user's, and may be a reference to a blob."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from .blob_refs import REFERENCE_MARK, BlobRef, reference
from .commands import (
    CacheStep,
    Command,
    ContinueRun,
    EndRun,
    SaveStepState,
    SendSignal,
    SetCheckpoint,
    StartChild,
    StartRun,
    TellRun,
)

_FIELDS: Final[dict[type[Any], tuple[str, ...]]] = {
    StartRun: ("input",),
    StartChild: ("step.value", "input"),
    SetCheckpoint: ("step.value",),
    CacheStep: ("step.value",),
    SaveStepState: ("value",),
    TellRun: ("step.value", "value"),
    EndRun: ("result",),
    ContinueRun: ("input",),
    SendSignal: ("value",),
}
"""The fields that hold values, by the kind of command; those of no other kind do."""


def references(command: Command) -> tuple[BlobRef, ...]:
    """Return the references in a command, in the order of its fields. Most have none, and that is quickly told."""
    kind = type(command)
    if kind is SetCheckpoint:  # on the way of every step
        value = command.step.value  # type: ignore[union-attr]
        if value is None or value[:1] != REFERENCE_MARK:
            return ()
    found: list[BlobRef] = []
    for field in _FIELDS.get(kind, ()):
        ref = reference(_get(command, field))
        if ref is not None:
            found.append(ref)
    return tuple(found)


def values_of(command: Command) -> tuple[bytes, ...]:
    """Return the values in a command, in the order of its fields."""
    found = (_get(command, field) for field in _FIELDS.get(type(command), ()))
    return tuple(value for value in found if value is not None)


def with_values(command: Command, change: Callable[[bytes], bytes]) -> Command:
    """Return the command with each of its values replaced by `change(value)`."""
    for field in _FIELDS.get(type(command), ()):
        value = _get(command, field)
        if value is None:
            continue
        if field == "step.value":
            step = msgspec.structs.replace(command.step, value=change(value))  # type: ignore[union-attr]
            command = msgspec.structs.replace(command, step=step)
        else:
            command = msgspec.structs.replace(command, **{field: change(value)})
    return command


def _get(command: Any, field: str) -> bytes | None:
    value: bytes | None = command.step.value if field == "step.value" else getattr(command, field)
    return value

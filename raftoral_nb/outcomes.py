"""How a proposal ends. Part of `model`, which names them all."""

from __future__ import annotations

import msgspec


class Committed(msgspec.Struct, frozen=True, gc=False, tag="committed"):
    """The command was applied. `index` is the log index of its entry."""

    index: int


class Rejected(msgspec.Struct, frozen=True, gc=False, tag="rejected"):
    """The command was certainly not carried out, and `reason` says why."""

    reason: str
    code: str = "refused"


class Unknown(msgspec.Struct, frozen=True, gc=False, tag="unknown"):
    """The deadline came first: the command may still commit later. Retrying under the same id is safe."""

    reason: str


Outcome = Committed | Rejected | Unknown

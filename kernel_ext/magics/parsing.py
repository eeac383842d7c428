"""The parser of what follows `%raftoral`. Pure: nothing here touches a cluster or a shell."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..errors import MagicError, did_you_mean
from .subcommand import Subcommand
from .table import TABLE

HELP: Final = ("help", "--help", "-h")


class Asked(msgspec.Struct, frozen=True):
    """A subcommand, and what it reads from its line."""

    subcommand: Subcommand[Any]
    arguments: Any


def parse(line: str) -> Asked | None:
    """Takes apart what follows `%raftoral`; None for an empty line or a plea for help. Raises `MagicError`."""
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if not name or name in HELP or rest in HELP[1:]:
        return None
    if name not in TABLE:
        raise MagicError(
            f"%raftoral has no subcommand {name!r}.{did_you_mean(name, TABLE)}\n"
            f"It has: {', '.join(TABLE)}. Help and examples: %raftoral?"
        )
    subcommand = TABLE[name]
    return Asked(subcommand, subcommand.read(rest))

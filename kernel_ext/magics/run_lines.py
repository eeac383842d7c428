"""What is asked of runs in a line of `%raftoral`, taken apart. Part of `parsing`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..errors import MagicError

_MESSAGE: Final = re.compile(
    r"(?P<run>[^\s]+)\s+(?:(?P<quoted>\"[^\"]+\"|'[^']+')|(?P<name>[^\s\"']\S*))(?P<expression>\s.*|)$", re.DOTALL
)


@dataclass(frozen=True)
class Runs:
    """`runs`; None means: whatever it is. `since` is how long ago, in seconds."""

    status: str | None
    workflow: str | None
    since: float | None


@dataclass(frozen=True)
class History:
    """`history RUN`."""

    run_id: str
    times: bool


@dataclass(frozen=True)
class Send:
    """One of `MESSAGES`, to a run; `expression` is Python source, "" for nothing."""

    kind: str
    run_id: str
    name: str
    expression: str


@dataclass(frozen=True)
class OnRun:
    """One of `RUN_COMMANDS`, `pause` or `resume`, and the run it is for."""

    name: str
    run_id: str
    reason: str


def message(kind: str, rest: str, usage: str) -> Send:
    """Takes apart `RUN NAME [EXPRESSION]`. Raises `MagicError`."""
    # The name may be quoted; what stands behind it is Python, and none of ours.
    match = _MESSAGE.match(rest)
    if match is None:
        raise MagicError(f"{kind} needs a run and a name.\nUsage: {usage}")
    name = match["quoted"][1:-1] if match["quoted"] else match["name"]
    return Send(kind, match["run"], name, match["expression"].strip())

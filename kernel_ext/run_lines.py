"""What is asked of runs in a line of `%raftoral`, taken apart. Part of `parsing`."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import Final

from .errors import MagicError

_MESSAGE: Final = re.compile(
    r"(?P<run>[^\s]+)\s+(?:(?P<quoted>\"[^\"]+\"|'[^']+')|(?P<name>[^\s\"']\S*))(?P<expression>\s.*|)$", re.DOTALL
)
_AGO: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


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


def ago(text: str) -> float:
    """How long ago `5m` is, in seconds; raises what argparse expects."""
    found = _AGO.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected how long ago, such as 30s, 5m, 2h or 1d, not {text!r}")
    return float(found["number"]) * _SECONDS[found["unit"]]

"""Lengths of time in a line of `%raftoral`: a number with its unit, the same ones for every option."""

from __future__ import annotations

import argparse
import re
from typing import Final

_TIME: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)(?P<unit>ms|s|m|h|d)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """The seconds of `200ms`, `1.5s`, `5m`, `2h` or `1d`; raises what argparse expects."""
    return _seconds(text, "a time such as 200ms or 1.5s")


def ago(text: str) -> float:
    """The seconds since the moment that `5m` means; raises what argparse expects."""
    return _seconds(text, "how long ago, such as 30s, 5m, 2h or 1d")


def spread(text: str) -> tuple[float, float]:
    """The shortest and the longest of `1s-2s`; of one time, itself and twice as much."""
    first, dash, last = text.partition("-")
    try:
        shortest = seconds(first)
        return shortest, seconds(last) if dash else 2 * shortest
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected two times such as 1s-2s, or the first of them, not {text!r}"
        ) from None


def _seconds(text: str, expected: str) -> float:
    found = _TIME.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return float(found["number"]) * _SECONDS[found["unit"]]

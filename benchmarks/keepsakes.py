"""What is written and read back in the case `restore`: arrays of several kinds and a table, that nothing makes smaller. Needs numpy and pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

MEGA = 1_000_000
SEED = 7


def made(megabytes: int) -> dict[str, Any]:
    """Return the values by name: three arrays of a fifth each, and a table of two fifths of so many megabytes."""
    dice = np.random.default_rng(SEED)
    part = megabytes * MEGA // 5
    rows = 2 * part // 64
    table = pd.DataFrame({f"x{number}": dice.random(rows) for number in range(6)})
    table["count"] = dice.integers(0, 2**62, rows)
    table["when"] = pd.to_datetime(dice.integers(0, 2**60, rows))
    return {
        "samples": dice.random((part // 8 // 100, 100)),
        "pictures": dice.random((part // 4 // 256, 256), dtype=np.float32),
        "labels": dice.integers(0, 2**62, part // 8),
        "table": table,
    }


def touched(values: dict[str, Any]) -> int:
    """Return a number that depends on every byte of the values, which are all read for it."""
    total = 0
    for name in ("samples", "pictures", "labels"):
        total += _sum(values[name])
    table = values["table"]
    return (total + sum(_sum(table[column].to_numpy()) for column in table.columns)) % 2**63


def _sum(array: Any) -> int:
    words = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
    return int(words.sum(dtype=np.uint64))

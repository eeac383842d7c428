"""Which way the messages of a simulation take through a replica: the fast path, the guarded one, or either by chance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Literal, get_args

from ..core.records import NodeId
from .dice import SeededDice

Paths = Literal["fast", "guarded", "mixed"]
"""`fast` as nodes are built: wherever they can. `guarded`: nowhere. `mixed`: by chance, step by step."""

PATHS: Final[tuple[Paths, ...]] = get_args(Paths)


def paths_of(seed: int) -> Paths:
    """Return what a seed decides; half of them mix."""
    return SeededDice(seed, "paths").pick((*PATHS, "mixed"))


def choice(paths: Paths, seed: object, node: NodeId, incarnation: int) -> Callable[[], bool] | None:
    """Return what decides for an incarnation of a node whether its next step may be a fast one; None: always.

    See `raft.fast_path.FastPath.choice`.
    """
    if paths == "fast":
        return None
    return partial(SeededDice(seed, "path", node, incarnation).happens, 0.5 if paths == "mixed" else 0.0)

"""Code that does the same everywhere is never said not to, whatever values it has."""

from __future__ import annotations

import array
import collections
import datetime as dt
import functools
import pathlib
import random
import re
import types
import uuid
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from raftoral_nb import WorkflowContext
from raftoral_nb.testing import workflow_test


class Plain:
    def __init__(self, value: object) -> None:
        self.value = value


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Planned(Exception):  # noqa: N818
    pass


class OwnState:
    """What it holds after its journey is something else."""

    def __init__(self) -> None:
        self.cache: dict[str, object] = {}

    def __getstate__(self) -> dict[str, int]:
        return {"x": 1}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.cache = {"loaded": True}


class OwnIdentity:
    """Which holds where it lies in memory."""

    def __init__(self) -> None:
        self.id = id(self)

    def __getstate__(self) -> dict[str, int]:
        return {}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.id = id(self)


def looped() -> list[Any]:
    items: list[Any] = [1]
    items.append(items)
    return items


NAN: Final = float("nan")
MAKERS: Final[tuple[Callable[[], Any], ...]] = (
    lambda: {1, 2, "a", frozenset({"b", "c"})},
    lambda: {"b": NAN, "a": {NAN}},
    lambda: -0.0,
    lambda: complex(NAN, 1),
    lambda: Plain({1, 2, "a"}),
    lambda: Slots(NAN),
    OwnState,
    OwnIdentity,
    looped,
    lambda: lambda x: x + 1,
    lambda: functools.partial(max, 3),
    lambda: re.compile("a+"),
    lambda: collections.Counter("hello"),
    lambda: collections.deque([1, 2]),
    lambda: collections.defaultdict(list, a=[1]),
    lambda: Planned("x"),
    lambda: ExceptionGroup("several", [ValueError("a")]),
    lambda: types.SimpleNamespace(a=NAN),
    lambda: pathlib.PurePath("a/b"),
    lambda: uuid.UUID(int=5),
    lambda: dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    lambda: random.Random(4),
    lambda: array.array("d", [NAN]),
    lambda: iter([3, 4]),
    lambda: Plain,
    lambda: (..., NotImplemented, slice(1, 2), range(3)),
    lambda: np.float32("nan"),
    lambda: np.array([[1.5, NAN], [2.5, 0.0]]),
    lambda: np.array([{1, 2}, "a", None], dtype=object),
    lambda: np.zeros(2, dtype=[("a", "f4")]),
    lambda: np.ma.array([1, 2], mask=[False, True]),
    lambda: np.random.default_rng(3),
    lambda: pd.NaT,
    lambda: pd.Series([1, None, NAN]),
    lambda: pd.Series(["a", "b"], dtype="category"),
    lambda: pd.DataFrame({"a": [1, NAN]}, index=pd.date_range("2024", periods=2)),
)


async def takes_all(ctx: WorkflowContext, numbers: list[int]) -> list[Any]:
    """Computes each value on every node, records it in every way, and returns it."""
    for number in numbers:
        make = MAKERS[number]
        variable = await ctx.var(f"variable {number}", make())
        await variable.set(make())
        await ctx.compute(f"step {number}", make)
        await variable.update(lambda _, make=make: make())  # type: ignore[misc]
    return [MAKERS[number]() for number in numbers]


def test_values_of_any_kind_raise_no_alarm_through_a_failover_and_a_replay() -> None:
    numbers = list(range(len(MAKERS)))
    with workflow_test() as test:
        run = test.start(takes_all, numbers)
        test.kill_leader_at(f"step {len(numbers) // 2}", restart=True)
        assert len(test.finish(run)) == len(MAKERS)  # and raises for a node that diverged
        dead = test.cluster.kill("follower")
        test.restart(dead)
        test.cluster.nodes[dead].result(run.run_id)
        test.raise_divergence(run)

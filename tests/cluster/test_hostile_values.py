"""What values' own classes do when they are looked at harms no table, no history, no view and no message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kernel_ext.shown import display
from kernel_ext.widgets.details import Details
from raftoral_nb import Cluster, WorkflowContext
from raftoral_nb.workflow.codec import values
from tests.cluster.helpers import PATIENCE


class Raises:
    def __repr__(self) -> str:
        raise ValueError("no")


class Exits:
    def __repr__(self) -> str:
        raise SystemExit(3)


class NoText:
    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]


class Huge:
    def __repr__(self) -> str:
        return "x" * 20_000_000


class Markup:
    def __repr__(self) -> str:
        return "<script>alert(1)</script>"


class Unprintable:
    def __repr__(self) -> str:
        return "\x1b[31mred\x07\r\n\u202eright to left\u2028\x00\ud800"


class Endless:
    def __repr__(self) -> str:
        return repr(self)


class Address:
    """Shown by Python's own repr, with where it lies in memory."""


HOSTILE: tuple[type[Any], ...] = (Raises, Exits, NoText, Huge, Markup, Unprintable, Endless, Address)


class LoudError(Exception):
    def __str__(self) -> str:
        return "\x1b[2J" + "y" * 100_000

    def __reduce__(self) -> Any:
        return LoudError, ()


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("nested", [False, True])
def test_any_value_is_shown_on_one_short_printable_line(kind: type[Any], nested: bool) -> None:
    shown = values.shorten({"a": [kind()]} if nested else kind(), 60)
    assert shown
    assert len(shown) <= 60
    assert shown.isprintable()
    shown.encode()
    assert "0x" not in shown.replace("\\x", "")


async def keeps(ctx: WorkflowContext, index: int) -> Any:
    await ctx.compute("step", HOSTILE[index])
    await ctx.var("variable", [HOSTILE[index]()])
    return HOSTILE[index]()


async def fails(ctx: WorkflowContext, _: None) -> None:
    def fail() -> None:
        raise LoudError

    await ctx.compute("fail", fail)


def test_runs_with_hostile_values_and_failures_are_listed_told_of_and_viewed() -> None:
    with Cluster(1, network="memory") as cluster:
        cluster.register_workflow(keeps)
        runs = [cluster.start_workflow("keeps", index) for index in range(len(HOSTILE))]
        failing = cluster.start_workflow(fails)
        for run in runs:
            run.wait_for_completion(PATIENCE)
        with pytest.raises(Exception, match="LoudError"):
            failing.wait_for_completion(PATIENCE)
        everything = cluster.runs()
        details = Details(cluster)
        for run in everything:
            table = run.to_frame()
            for cell in [*table["value"].dropna(), *table["failure"].dropna()]:
                assert cell.isprintable()
                assert len(cell) <= 200
            details.open([run.run_id])
            for step in details.now()[run.run_id]["records"]:
                assert step["value"].isprintable()
                assert len(step["value"]) <= 160
            assert run.progress("variable").now().words.isprintable()
            shown = display.events(run.history())
            assert "<script>" not in shown.html
            assert "\x1b" not in shown.plain
            assert all(len(line) <= 1000 for line in shown.plain.splitlines())
            json.dumps(details.now()).encode()
        assert "<script>" not in display.runs(everything).html

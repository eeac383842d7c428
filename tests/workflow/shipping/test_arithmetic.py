"""The cell's decimal context and numpy's error state: taken along, counted as a change, and set wherever the workflow runs."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from raftoral_nb.core.records import Definition
from raftoral_nb.threads.step_threads import StepThreads
from raftoral_nb.workflow.shipping import arithmetic
from raftoral_nb.workflow.shipping.definitions import build
from raftoral_nb.workflow.shipping.fingerprints import fingerprint

RunCell = Callable[..., dict[str, Any]]

CELL = "import decimal\nasync def flow(ctx, x):\n    return decimal.Decimal(1) / 3\n"


@pytest.fixture(autouse=True)
def own_arithmetic() -> Iterator[None]:
    with decimal.localcontext(), np.errstate():
        decimal.setcontext(decimal.Context())
        np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
        yield


def test_what_is_usual_is_not_said(run_cell: RunCell) -> None:
    decimal.getcontext().clear_flags()
    decimal.Decimal(1) / 3
    assert arithmetic.settings() == {}
    definition, captured = build("flow", 1, run_cell(CELL)["flow"])
    assert not definition.arithmetic
    assert captured == ()
    assert b"arithmetic" not in msgspec.msgpack.encode(definition)


def test_what_differs_goes_along_is_said_and_counts_as_a_change(run_cell: RunCell) -> None:
    flow = run_cell(CELL)["flow"]
    before = fingerprint(flow)
    context = decimal.getcontext()
    context.prec, context.rounding = 50, decimal.ROUND_DOWN
    context.traps[decimal.FloatOperation] = True
    np.seterr(all="raise")
    definition, captured = build("flow", 1, flow)
    assert {one.name: one.kind for one in captured} == {
        "decimal context": "prec=50, rounding=ROUND_DOWN, traps=DivisionByZero FloatOperation InvalidOperation Overflow",
        "numpy error state": "divide=raise, over=raise, under=raise, invalid=raise",
    }
    assert fingerprint(flow) not in (before, "")
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(definition), type=Definition)
    assert copy == definition

    def elsewhere() -> tuple[str, bool, list[str]]:
        arithmetic.apply(copy.arithmetic or {})
        try:
            np.float64(1) / np.float64(0)
        except FloatingPointError:
            raised = True
        traps = [signal.__name__ for signal, trapped in decimal.getcontext().traps.items() if trapped]
        return str(decimal.Decimal(2) / 3), raised, sorted(traps)

    fresh = contextvars.Context()
    expected = ("0." + "6" * 50, True, ["DivisionByZero", "FloatOperation", "InvalidOperation", "Overflow"])
    assert fresh.run(elsewhere) == expected
    assert arithmetic.call(copy.arithmetic or {}, lambda: decimal.getcontext().prec) == 50
    context.prec = 51
    assert fingerprint(flow) != copy.fingerprint


def test_what_stays_behind_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    np.seterr(over="call")
    assert arithmetic.settings() == {}
    assert arithmetic.words({}) == {"numpy error state": "call not taken along: needs a function of this kernel"}
    np.seterr(over="raise")
    monkeypatch.setattr(np, "__version__", "1.26.4")
    assert arithmetic.settings() == {}
    assert arithmetic.words({}) == {"numpy error state": "not taken along: that needs numpy 2"}


def test_a_step_on_a_thread_has_a_decimal_context_of_its_own() -> None:
    def change() -> int:
        before = decimal.getcontext().prec
        decimal.getcontext().prec = 3
        return before

    async def both() -> tuple[int, int]:
        decimal.getcontext().prec = 40
        steps = StepThreads()
        try:
            return await steps.run(change, name="step"), decimal.getcontext().prec
        finally:
            steps.close()

    assert asyncio.run(both()) == (40, 40)

"""The history of a run: what is recorded of it, as events in their order, and as a table."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb.core.records import CancelRecord, Definition, Message, MoveRecord, Step, TimersFired
from raftoral_nb.core.run_record import RECORD_FORMAT, Change, Run
from raftoral_nb.hosts.history import history
from raftoral_nb.testing import workflow_test

DEFINITION = Definition("order", 1, "", "", b"", {})


def run_of(*records: Any, changes: list[Change] | None = None) -> Run:
    return Run(
        "r",
        DEFINITION,
        b"",
        1,
        records=list(records),
        start_time=1.0,
        format=RECORD_FORMAT,
        changes=changes or [],
    )


def test_records_of_every_kind_are_told_in_the_order_of_the_log() -> None:
    run = run_of(
        Step("0/a", "compute", b"", None, 1, 1, 2.0),
        Message("m", "signal", "go", b"", at=2.0),
        TimersFired(2.5, 3.0, 1, 1),
        MoveRecord(2, 3.0),
        CancelRecord("late", 4.0),
        Message("c", "child", "r/1", b"", at=4.0),
        changes=[Change(3.5, "paused"), Change(3.6, "resumed"), Change(4.0, "asked to end", "late")],
    )
    assert [(time, type(event).__name__) for time, event in history(run)] == [
        (1.0, "WorkflowStarted"),
        (2.0, "CheckpointSet"),
        (2.0, "MessageSent"),
        (3.0, "TimerFired"),
        (3.0, "RunMoved"),
        (3.5, "RunPaused"),
        (3.6, "RunResumed"),
        (4.0, "CancelRequested"),
        (4.0, "MessageSent"),
    ]
    moved: Any = history(run)[4][1]
    assert (moved.version, moved.steps) == (2, 3), "the records before it"


def test_a_request_to_cancel_of_a_generation_that_is_over_is_told_from_the_changes() -> None:
    run = run_of(changes=[Change(2.0, "asked to end", "late"), Change(3.0, "began anew", "generation 2")])
    assert [type(event).__name__ for _, event in history(run)] == [
        "WorkflowStarted",
        "CancelRequested",
        "WorkflowContinued",
    ]


async def sleeper(ctx: Any, _: object) -> None:
    await ctx.sleep(5)
    await ctx.receive("go")


def test_a_table_has_a_row_for_timers_and_messages() -> None:
    pytest.importorskip("pandas")
    with workflow_test() as test:
        run = test.start(sleeper, None)
        run.signal("go", 3)
        test.finish(run)
        rows = run.to_frame().to_dict("records")
    assert [row["event"] for row in rows if row["event"] == "MessageSent" and row["value"] == "3"] == ["MessageSent"]
    (fired,) = (row for row in rows if row["event"] == "TimerFired")
    assert fired["node"] in {1, 2, 3}
    assert fired["epoch"] >= 1

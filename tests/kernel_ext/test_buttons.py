"""Buttons that send a signal, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comm
import pytest

import kernel_ext
from kernel_ext.errors import MagicError
from kernel_ext.widgets import buttons
from kernel_ext.widgets.buttons import MAX_BUTTONS, MAX_ERROR, MAX_LABEL
from raftoral_nb import Cluster, NotAcknowledgedError, RunNotFoundError, WorkflowContext, WorkflowRun
from tests.kernel_ext.conftest import Notebook
from tests.kernel_ext.control_page import ControlPage, press


async def expense(ctx: WorkflowContext, rounds: int) -> list[Any]:
    return [await ctx.receive("approve") for _ in range(rounds)]


@pytest.fixture(scope="module")
def live() -> Iterator[Cluster]:
    with Cluster(2, network="memory") as started:
        started.register_workflow(expense)
        yield started


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ControlPage:
    made = ControlPage()
    monkeypatch.setattr(comm, "create_comm", made.open)
    monkeypatch.setattr(buttons, "widgets_can_be_shown", lambda: True)
    return made


def start(live: Cluster, rounds: int = 1) -> WorkflowRun[Any]:
    return live.start_workflow("expense", rounds)


def test_a_press_sends_the_value_of_the_button_and_no_other_can_be_pressed_then(
    live: Cluster, page: ControlPage
) -> None:
    run = start(live)
    row = kernel_ext.signal_buttons(run, "approve", {"Approve": True, "Decline": False})
    assert page.states[0]["buttons"] == ["Approve", "Decline"]
    assert page.states[0]["enabled"]
    press(row, 1)
    assert page.wait(lambda state: not state["enabled"])["chosen"] == 1
    assert run.wait_for_completion(20) == [False]
    assert not page.words("Decline: received")["enabled"]
    press(row, 0)
    assert not page.states[-1]["enabled"]
    assert page.states[-1]["chosen"] == 1


def test_a_button_that_is_pressed_twice_sends_one_signal(live: Cluster, page: ControlPage) -> None:
    run = start(live, 2)
    one = kernel_ext.signal_button(run, "approve", {"amount": 3}, label="Pay")
    for _ in range(3):
        press(one, 0)
    page.words("Pay: received")
    run.signal("approve", "by hand")
    assert run.wait_for_completion(20) == [{"amount": 3}, "by hand"]


def test_a_button_that_repeats_can_be_pressed_again_when_its_signal_was_received(
    live: Cluster, page: ControlPage
) -> None:
    run = start(live, 2)
    one = kernel_ext.signal_button(run, "approve", repeat=True)
    press(one, 0)
    assert page.words("approve: received")["enabled"]
    press(one, 0)
    assert run.wait_for_completion(20) == [True, True]
    page.wait(lambda state: not state["enabled"])


def test_a_signal_that_somebody_else_sent_leaves_nothing_to_press(live: Cluster, page: ControlPage) -> None:
    run = start(live, 2)
    kernel_ext.signal_button(run, "approve")
    run.signal("other")
    run.signal("approve", 1)
    state = page.words("was sent from elsewhere, and received")
    assert (state["enabled"], state["chosen"], state["tone"]) == (False, None, "good")


def test_an_error_is_shown_shortly_and_the_press_may_be_repeated(
    live: Cluster, page: ControlPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(live)
    one = kernel_ext.signal_button(run, "approve")
    real = WorkflowRun.signal
    sent: list[Any] = []

    def lost(self: WorkflowRun[Any], name: str, value: Any = None, *, signal_id: str | None = None) -> str:
        sent.append(signal_id)
        if len(sent) == 1:
            raise NotAcknowledgedError("no majority <b>answers</b>\n" + "x" * 1000, may_commit=True)
        return real(self, name, value, signal_id=signal_id)

    monkeypatch.setattr(WorkflowRun, "signal", lost)
    press(one, 0)
    state = page.wait(lambda state: state["tone"] == "bad")
    assert state["enabled"]
    assert state["words"].startswith("no majority")
    assert "\n" not in state["words"]
    assert len(state["words"]) <= MAX_ERROR
    press(one, 0)
    assert run.wait_for_completion(20) == [True]
    assert sent[0] == sent[1]  # the same signal: had the first been recorded, it would have been received once


@pytest.mark.parametrize("recorded", [True, False])
def test_after_a_press_that_may_have_been_recorded_no_other_button_is_sent_in_its_place(
    live: Cluster, page: ControlPage, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    run = start(live, 2)
    row = kernel_ext.signal_buttons(run, "approve", {"Approve": True, "Decline": False})
    real = WorkflowRun.signal
    failed: list[str | None] = []

    def late(self: WorkflowRun[Any], name: str, value: Any = None, *, signal_id: str | None = None) -> str:
        if not failed:
            failed.append(signal_id)
            raise NotAcknowledgedError("no majority", may_commit=True)
        return real(self, name, value, signal_id=signal_id)

    monkeypatch.setattr(WorkflowRun, "signal", late)
    press(row, 0)
    page.words("no majority")
    press(row, 1)
    assert page.words("Approve may have been sent: only that can be pressed again")["enabled"]
    if recorded:
        real(run, "approve", True, signal_id=failed[0])  # the answer was lost, the signal was not
    else:
        press(row, 0)
    state = page.words("Approve: received")
    assert (state["chosen"], state["enabled"]) == (0, False)
    run.signal("approve", "by hand")
    assert run.wait_for_completion(20) == [True, "by hand"]


def test_buttons_of_a_run_that_ended_cannot_be_pressed_and_say_so(live: Cluster, page: ControlPage) -> None:
    run = start(live)
    kernel_ext.signal_button(run, "other")
    run.cancel()
    assert not page.words("the run has ended")["enabled"]
    kernel_ext.signal_button(run, "approve")
    assert not page.words("the run has ended: it was cancelled")["enabled"]


def test_buttons_of_a_cluster_that_stops_say_so(page: ControlPage) -> None:
    with Cluster(1, network="memory") as cluster:
        cluster.register_workflow(expense)
        run = start(cluster)
        kernel_ext.signal_button(run, "approve")
    assert not page.words("the cluster has stopped")["enabled"]
    kernel_ext.signal_button(run, "approve")
    assert "stopped" in page.wait(lambda state: state["tone"] == "bad")["words"]


def test_a_button_that_was_closed_follows_its_run_no_more(
    live: Cluster, page: ControlPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(WorkflowRun, "subscribe", lambda self, callback: lambda: ended.append(self.run_id))
    run = start(live)
    one = kernel_ext.signal_button(run, "approve")
    assert not ended
    one.close()
    assert ended == [run.run_id]
    shown = len(page.states)
    press(one, 0)
    assert run.wait_for_completion(20) == [True]  # who holds it can still send
    assert len(page.states) == shown


def test_messages_of_a_page_with_other_code_are_left_alone(live: Cluster, page: ControlPage) -> None:
    run = start(live)
    one = kernel_ext.signal_button(run, "approve")
    for place in (7, -1, "0", None, [0]):
        press(one, place)
    assert all(state["enabled"] for state in page.states)
    run.terminate()


def test_labels_and_names_of_any_length_are_shortened_and_what_is_no_text_is_refused(
    live: Cluster, page: ControlPage
) -> None:
    run = start(live)
    kernel_ext.signal_button(run, "n" * 200, label="<b>\n" + "l" * 200)
    assert len(page.states[-1]["buttons"][0]) == MAX_LABEL
    assert "\n" not in page.states[-1]["buttons"][0]
    given: Any
    for given in ({}, {"": 1}, {3: 1}, {str(number): number for number in range(MAX_BUTTONS + 1)}):
        with pytest.raises(MagicError):
            kernel_ext.signal_buttons(run, "approve", given)
    with pytest.raises(MagicError, match="a signal's name"):
        kernel_ext.signal_button(run, " ")
    with pytest.raises(RunNotFoundError):
        kernel_ext.signal_button(live.run("nobody"), "approve")
    run.terminate()


def test_a_press_of_a_value_that_cannot_be_shipped_says_so(live: Cluster, page: ControlPage) -> None:
    run = start(live)
    press(kernel_ext.signal_button(run, "approve", value=(number for number in [1])), 0)
    assert "generator" in page.wait(lambda state: state["tone"] == "bad")["words"]
    run.terminate()


def test_where_no_widgets_are_the_line_to_write_is_shown(notebook: Notebook) -> None:
    notebook.ok("%raftoral start --nodes 1")
    notebook.ok("async def expense(ctx, n):\n    return await ctx.receive('approve')")
    notebook.ok("%raftoral register expense")
    notebook.ok("run = %raftoral run expense --id one")
    ran = notebook.ok('%raftoral button one approve {"a": 1}')
    assert ran.text == (
        "[approve] sends the signal approve to run one; here it is sent by run.signal('approve', {'a': 1})"
    )
    assert "<" not in ran.bundles[0]["text/html"].removeprefix("<p>").removesuffix("</p>")

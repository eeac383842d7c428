"""Progress bars of runs, in the page without a browser, and as text."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import comm
import pytest

import kernel_ext
from kernel_ext.widgets import bars
from raftoral_nb import Cluster, WorkflowContext, WorkflowRun
from tests.kernel_ext.conftest import Notebook
from tests.kernel_ext.control_page import ControlPage


async def train(ctx: WorkflowContext, epochs: int) -> int:
    epoch = await ctx.var("epoch", 0)
    while epoch.value < epochs:
        await ctx.receive("go")
        await epoch.update(lambda number: number + 1)
    return epoch.value


async def says(ctx: WorkflowContext, value: Any) -> None:
    await ctx.var("state", value)


@pytest.fixture(scope="module")
def live() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as started:
        started.register_workflow(train)
        started.register_workflow(says)
        yield started


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ControlPage:
    made = ControlPage()
    monkeypatch.setattr(comm, "create_comm", made.open)
    monkeypatch.setattr(bars, "widgets_can_be_shown", lambda: True)
    return made


def start(live: Cluster, epochs: int = 2) -> WorkflowRun[Any]:
    return live.start_workflow("train", epochs)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "raftoral-view"]


def test_a_bar_follows_the_variable_through_the_death_of_the_leader_and_ends_with_the_run(
    live: Cluster, page: ControlPage
) -> None:
    run = start(live)
    kernel_ext.progress_bar(run, "epoch", total=2)
    assert page.words("0 of 2")["fraction"] == 0.0
    run.signal("go")
    assert page.words("1 of 2")["fraction"] == 0.5
    live.kill("leader")
    run.signal("go")
    ended = page.wait(lambda state: state["ended"])
    assert (ended["fraction"], ended["words"], ended["tone"], ended["note"]) == (1.0, "2 of 2", "good", "")
    live.restart("dead")


def test_a_run_that_is_paused_cancelled_or_left_by_its_cluster_says_so(page: ControlPage) -> None:
    with Cluster(1, network="memory") as cluster:
        cluster.register_workflow(train)
        run, other = start(cluster), start(cluster)
        kernel_ext.progress_bar(run, "epoch", total=2)
        run.pause()
        assert page.wait(lambda state: state["note"] == "paused")["tone"] == ""
        run.resume()
        page.wait(lambda state: state["note"] == "")
        run.cancel()
        ended = page.wait(lambda state: state["ended"])
        assert (ended["note"], ended["tone"]) == ("cancelled", "bad")
        kernel_ext.progress_bar(other, "epoch", total=2)
    assert page.wait(lambda state: state["note"] == "the cluster has stopped")["ended"]
    kernel_ext.progress_bar(other, "epoch", total=2)
    assert page.states[-1]["note"] == "the cluster has stopped"
    assert other.progress("epoch", 2).show(io.StringIO()).stopped


def test_changes_are_drawn_a_bounded_number_of_times_a_second_and_the_last_one_always(
    live: Cluster, page: ControlPage
) -> None:
    async def counts(ctx: WorkflowContext, count: int) -> None:
        number = await ctx.var("number", 0)
        for _ in range(count):
            await number.update(lambda value: value + 1)

    live.register_workflow(counts)
    fast = live.start_workflow(counts, 300)
    began = time.monotonic()
    kernel_ext.progress_bar(fast, "number", total=300)
    page.wait(lambda state: state["words"] == "300 of 300" and state["ended"])
    assert len(page.states) <= bars.RATE * (time.monotonic() - began) + 3


@pytest.mark.parametrize(
    ("value", "total", "fraction", "words"),
    [
        (3, 12, 0.25, "3 of 12"),
        (0.25, None, 0.25, "25 %"),
        ((3, 12), None, 0.25, "3 of 12"),
        ([1.5, 3], None, 0.5, "1.5 of 3"),
        (13, 12, 1.0, "13 of 12"),
        (7, None, None, "7"),
        (1, None, None, "1"),
        (7.5, None, None, "7.5"),
        (True, 2, None, "True"),
        (float("nan"), 2, None, "nan"),
        (-1, 2, None, "-1"),
        (10**400, 2, None, None),
        ("<b>half</b>", 2, None, "'<b>half</b>'"),
        ({"a": 1}, None, None, "{'a': 1}"),
        (None, None, None, "None"),
    ],
)
def test_whatever_the_variable_holds_is_shown(
    live: Cluster, value: Any, total: Any, fraction: float | None, words: str | None
) -> None:
    run = live.start_workflow("says", value)
    run.wait_for_completion(20)
    look = run.progress("state", total).now()
    assert look.fraction == fraction
    if words is not None:
        assert look.words == words
    assert len(look.words) < 100
    assert "<b>" not in bars.picture(look).html


def test_the_total_may_be_another_variable(live: Cluster) -> None:
    async def both(ctx: WorkflowContext, _: None) -> None:
        await ctx.var("rows", 3)
        await ctx.var("of", 6)

    live.register_workflow(both)
    run = live.start_workflow(both)
    run.wait_for_completion(20)
    assert run.progress("rows", total="of").now().words == "3 of 6"
    assert run.progress("rows", total="nobody").now().words == "3"
    assert str(run.progress("nobody").now()) == f"{run.run_id} nobody no value yet"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_as_text_a_bar_is_one_line_that_changes_or_lines_and_ends_with_the_run(live: Cluster) -> None:
    shown: dict[str, str] = {}

    def draw(name: str, out: io.StringIO) -> None:
        run.progress("epoch", total=2).show(out)
        shown[name] = out.getvalue()

    run = start(live)
    drawers = [threading.Thread(target=draw, args=one) for one in (("terminal", Terminal()), ("file", io.StringIO()))]
    for drawer in drawers:
        drawer.start()
    for _ in range(2):
        run.signal("go")
    for drawer in drawers:
        drawer.join(30)
    last = f"{run.run_id} epoch ████████████████████ 2 of 2"
    assert shown["terminal"].endswith(f"\r{last}\n")
    assert shown["terminal"].count("\n") == 1
    assert shown["file"].splitlines()[-1] == last
    assert run.progress("epoch", 2).show(io.StringIO()).ended  # of a run that has ended it says so, and ends


def test_in_a_notebook_without_widgets_it_is_a_line_of_text_and_a_still_bar(notebook: Notebook) -> None:
    notebook.ok("%raftoral start --nodes 1")
    notebook.ok("async def half(ctx, n):\n    await ctx.var('done', n)")
    notebook.ok("%raftoral register half")
    notebook.ok("run = %raftoral run half 5 --id one")
    notebook.ok("run.wait_for_completion(10);")
    ran = notebook.ok("%raftoral progress one done 10")
    assert ran.text == "one done ██████████░░░░░░░░░░ 5 of 10"
    assert ran.bundles[0]["text/html"] == '<p>one done <progress value="0.5000" max="1"></progress> 5 of 10</p>'
    assert notebook.ok("run.progress('done', 10)").text == ran.text

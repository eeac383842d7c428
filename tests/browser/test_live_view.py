"""The live view in JupyterLab: it follows the cluster, also while a cell blocks, and says when there is nothing to follow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import DARK, LIGHT, Lab

pytestmark = pytest.mark.browser

CELLS = [
    "%load_ext raftoral_nb\n%raftoral start --nodes 3",
    """%%workflow
async def count(ctx, steps):
    for number in range(steps):
        await ctx.compute(f"step_{number}", int, number)
    return steps""",
    """first = cluster.wait_for_leader()
cluster.kill(first)
second = cluster.wait_for_leader()
import threading
page_has_seen_it = threading.Event()
page_has_seen_it.wait(60)  # until it is interrupted""",
    """held = next(number for number in cluster.nodes if number not in (first, second))
cluster.restart(first)
cluster.hold(held)
run = cluster.start_workflow("count", 20, run_id="late")
run.wait_for_completion(timeout=20), first, second, held""",
    "cluster.release(held)",
    "%raftoral stop",
]


@pytest.fixture(scope="module")
def opened(notebook: Callable[[str, list[str]], Lab]) -> Lab:
    return notebook("live_view.ipynb", CELLS)


@pytest.fixture
def view_notebook(opened: Lab, lab: Lab) -> Lab:
    lab.clear()
    return lab


def view_of(lab: Lab) -> Locator:
    return lab.output_area(0).locator(".raftoral-view")


def interrupt(lab: Lab) -> None:
    lab.page.evaluate("() => window.raftoralTests.panel.sessionContext.session.kernel.interrupt()")


def test_the_view_follows_the_cluster_through_a_kill_a_hold_and_the_end(view_notebook: Lab) -> None:
    lab = view_notebook
    lab.run_cell(0)
    view = view_of(lab)
    leader = view.locator("[data-role=leader]")
    expect(leader).to_have_count(1)
    before = leader.get_attribute("data-node")
    assert before is not None
    expect(view).to_have_attribute("data-raftoral-leader", before)
    lab.run_cell(1)

    # The cell blocks: the kernel's main thread answers nothing, and still the picture changes.
    lab.start_cell(2)
    expect(view.locator(f"[data-node='{before}'][data-role]")).to_have_attribute("data-role", "dead")
    expect(leader).to_have_count(1)
    after = leader.get_attribute("data-node")
    assert after not in (None, before)
    assert lab.is_running(2)
    expect(view.locator("[aria-live=polite]")).to_contain_text(f"Node {after} leads in term")
    interrupt(lab)
    lab.page.wait_for_function("() => window.raftoralTests.cells[2] !== 'running'")

    lab.run_cell(3)
    held = lab.output_text(3).rstrip(")").split(", ")[-1]
    lane = view.locator(f"[data-run='late'][data-node='{held}']")
    expect(lane).to_have_attribute("data-queue", "20")
    expect(view.locator(f"[data-run='late'][data-node='{after}']")).to_have_attribute("data-queue", "0")
    lab.run_cell(4)
    expect(lane).to_have_attribute("data-queue", "0")
    expect(lane).to_have_attribute("data-status", "completed")

    lab.set_theme(DARK)
    dark = view.evaluate("(one) => getComputedStyle(one).backgroundColor")
    lab.set_theme(LIGHT)
    assert view.evaluate("(one) => getComputedStyle(one).backgroundColor") != dark

    lab.run_cell(5)
    expect(view).to_have_attribute("data-state", "stopped")
    assert lab.errors == []
    assert lab.foreign_requests == []


@pytest.mark.parametrize("end", [Lab.restart_kernel, Lab.replace_kernel], ids=["restarted", "shut down"])
def test_when_the_kernel_is_gone_the_picture_says_that_it_is_stale(
    view_notebook: Lab, end: Callable[[Lab], None]
) -> None:
    view_notebook.run_cell(0)
    view = view_of(view_notebook)
    expect(view).to_have_attribute("data-state", "running")
    end(view_notebook)
    expect(view).to_have_attribute("data-state", "stale")
    expect(view.get_by_text("The kernel is gone or was restarted")).to_be_visible()


def test_a_key_typed_on_the_view_does_not_reach_the_notebook(view_notebook: Lab) -> None:
    view_notebook.run_cell(0)
    view = view_of(view_notebook)
    expect(view).to_have_attribute("data-state", "running")
    cells = len(view_notebook.cells())
    view.focus()
    view_notebook.page.keyboard.press("b")
    view_notebook.page.keyboard.press("a")
    assert len(view_notebook.cells()) == cells

"""What a reader does with the live view in JupyterLab: break the cluster by mouse and keyboard, go back in time, look closer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.accessibility import grave_faults
from tests.browser.lab import DARK, LIGHT, Lab

pytestmark = pytest.mark.browser

CELLS = [
    "%load_ext raftoral_nb\n%raftoral start --nodes 3",
    """%%workflow count
async def count(ctx, steps):
    for number in range(steps):
        await ctx.compute(f"step_{number}", int, number)
    return steps

async def approval(ctx, _):
    return await ctx.receive("approve")""",
    "%raftoral watch",
    "cluster.start_workflow('count', 20, run_id='late').wait_for_completion(timeout=30)",
    """import threading
threading.Event().wait(60)  # until it is interrupted""",
    """cluster.register_workflow("approval", approval)
run, other = (cluster.start_workflow("approval", None, run_id=f"approval-{n}") for n in (1, 2))
print(f"{run.run_id}: {await run!r}")""",
]


@pytest.fixture(scope="module")
def view_notebook(notebook: Callable[[str, list[str]], Lab]) -> Lab:
    return notebook("view_controls.ipynb", CELLS)


@pytest.fixture
def opened(view_notebook: Lab, lab: Lab) -> Lab:
    lab.clear()
    lab.run_cell(0)
    return lab


def view_of(lab: Lab, cell: int = 0) -> Locator:
    return lab.output_area(cell).locator(".raftoral-view")


def leader_of(view: Locator) -> str:
    expect(view.locator("[data-role=leader][data-acting=true]")).to_have_count(1)
    number = view.get_attribute("data-raftoral-leader")
    assert number
    return number


def node(view: Locator, number: str) -> Locator:
    return view.locator(f"[data-role][data-node='{number}']")


def test_a_click_kills_the_leader_and_another_restarts_it_and_the_magic_for_it_is_shown(opened: Lab) -> None:
    view = view_of(opened)
    first = leader_of(view)
    node(view, first).click()
    view.get_by_role("button", name="Kill").click()
    expect(node(view, first)).to_have_attribute("data-role", "dead")
    expect(view.locator("[data-task=done] code")).to_have_text(f"%raftoral kill {first}")
    expect(view.locator("[data-task=done]")).to_contain_text(f"node {first} killed")
    assert leader_of(view) != first
    view.get_by_role("button", name="Restart").click()
    expect(node(view, first)).to_have_attribute("data-role", "follower")
    assert opened.errors == []


def test_by_keyboard_a_held_nodes_queue_grows_and_drains_and_a_link_is_cut_and_healed(opened: Lab) -> None:
    opened.run_cell(1)
    view = view_of(opened)
    first = leader_of(view)
    held, other = (number for number in "123" if number != first)
    cells = len(opened.cells())
    view.focus()
    press = opened.page.keyboard.press
    press(held)
    press("h")
    expect(node(view, held)).to_have_attribute("data-held", "true")
    opened.run_cell(3)
    view = view_of(opened)
    lane = view.locator(f".rv-row[data-run='late'][data-node='{held}']")
    expect(lane).to_have_attribute("data-queue", "20")
    view.focus()
    press("h")
    expect(lane).to_have_attribute("data-queue", "0")
    expect(lane).to_have_attribute("data-status", "completed")
    press("c")
    press(other)
    link = view.locator(f"[data-link='{min(held, other)}-{max(held, other)}']")
    expect(link).to_have_attribute("data-state", "cut")
    expect(view.locator("[aria-live=polite]")).to_contain_text(f"Node {held} is cut from {other}.")
    press("i")
    expect(link).not_to_have_attribute("data-state", "cut")
    press("t")
    expect(view).to_have_attribute("data-raftoral-leader", held)
    assert len(opened.cells()) == cells, "no key reached the notebook"
    assert opened.errors == []


def test_the_picture_is_scrubbed_back_to_before_a_kill_and_returns_to_now(opened: Lab) -> None:
    view = view_of(opened)
    first = leader_of(view)
    view.focus()
    opened.page.keyboard.press(first)
    opened.page.keyboard.press("k")
    expect(node(view, first)).to_have_attribute("data-role", "dead")
    leader_of(view)
    bar = view.locator("input[type=range]")
    bar.focus()
    opened.page.keyboard.press("Home")
    expect(view).to_have_attribute("data-time", "before")
    expect(node(view, first)).to_have_attribute("data-role", "leader")
    expect(view.locator("[data-do^=kill]")).to_be_disabled()
    expect(view.locator(".rv-when")).to_contain_text("before now")
    view.get_by_role("button", name="Back to now").click()
    expect(view).to_have_attribute("data-time", "now")
    expect(node(view, first)).to_have_attribute("data-role", "dead")


def test_two_views_of_a_cluster_agree_and_each_is_scrubbed_by_itself(opened: Lab) -> None:
    opened.run_cell(2)
    opened.page.evaluate("() => window.raftoralTests.panel.content.scrollToItem(1, 'center')")
    views = [opened.page.locator(".raftoral-view").nth(place) for place in (0, 1)]
    first = leader_of(views[0])
    node(views[1], first).click()
    views[1].get_by_role("button", name="Kill").click()
    for view in views:
        expect(node(view, first)).to_have_attribute("data-role", "dead")
        leader_of(view)
    assert views[0].get_attribute("data-raftoral-leader") == views[1].get_attribute("data-raftoral-leader")
    expect(views[1].locator("[data-task=done]")).to_have_count(1)
    expect(views[0].locator("[data-task]")).to_have_count(0)
    views[0].get_by_role("button", name="Stop the picture").click()
    expect(views[0]).to_have_attribute("data-time", "before")
    expect(views[1]).to_have_attribute("data-time", "now")


def test_what_is_clicked_while_a_cell_blocks_is_done_at_once_and_says_so(opened: Lab) -> None:
    view = view_of(opened)
    leader_of(view)
    opened.start_cell(4)
    node(view, "3").click()
    view.get_by_role("button", name="Isolate").click()
    expect(view.locator("[data-task=done]")).to_contain_text("node 3 isolated")
    expect(view.locator("[data-task=done]")).to_contain_text("(while a cell ran)")
    expect(view.locator(".rv-chip.rv-isolated")).to_have_count(1)
    assert opened.is_running(4)
    opened.page.evaluate("() => window.raftoralTests.panel.sessionContext.session.kernel.interrupt()")


def test_an_opened_run_shows_its_steps_with_values_and_a_step_and_its_log_entry_point_at_each_other(
    opened: Lab,
) -> None:
    opened.run_cell(1)
    opened.run_cell(3)
    view = view_of(opened)
    view.locator("[data-act=open][data-run=late]").click()
    item = view.locator(".rv-item[data-step='18/step_18']")
    expect(item.locator(".rv-value")).to_have_text("18")
    item.click()
    expect(view.locator(".rv-cell[data-linked=true]")).to_have_count(3)  # in the log of each node
    expect(view.locator(".rv-about")).to_contain_text("step 18/step_18")
    entry = view.locator(".rv-cell[data-kind=checkpoint]").first
    entry.click()
    view.get_by_role("button", name="Show the step").click()
    expect(view.locator(".rv-record[data-linked=true]")).to_have_count(3)
    view.get_by_role("button", name="Tables").click()
    expect(view.get_by_role("table", name="Nodes")).to_contain_text("leader")
    expect(view.get_by_role("table", name="Runs")).to_contain_text("20 of 20 records had their turn")
    assert opened.errors == []
    assert opened.foreign_requests == []


def test_nodes_are_dragged_to_one_side_of_a_partition_and_the_magic_for_it_is_shown(opened: Lab) -> None:
    view = view_of(opened)
    leader_of(view)
    tray = view.locator("[data-tray]")
    mouse = opened.page.mouse
    for number in ("1", "3"):
        start = middle_of(node(view, number).locator(".rv-disc"))
        mouse.move(*start)
        mouse.down()
        mouse.move(start[0] + 30, start[1] + 30)
        expect(tray).to_have_attribute("data-over", "true")
        mouse.move(*middle_of(tray), steps=3)
        mouse.up()
        expect(node(view, number)).to_have_attribute("data-sided", "true")
    view.locator("[data-side='3']").uncheck()  # the same by list
    expect(node(view, "3")).to_have_attribute("data-sided", "false")
    expect(node(view, "1")).to_have_attribute("aria-pressed", "false")  # a node that was dragged was not clicked
    view.get_by_role("button", name="Part from the others").click()
    expect(view.locator("[data-task=done] code")).to_have_text("%raftoral partition 1 / 2 3")
    expect(view.locator("[data-link][data-state=cut]")).to_have_count(2)
    view.get_by_role("button", name="Heal everything").click()
    expect(view.locator("[data-link][data-state=cut]")).to_have_count(0)
    assert opened.errors == []


def middle_of(place: Locator) -> tuple[float, float]:
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_run_that_a_cell_awaits_is_approved_from_the_view_and_another_is_cancelled_by_keyboard(opened: Lab) -> None:
    opened.run_cell(1)
    opened.start_cell(5)
    view = view_of(opened)
    view.locator("[data-act=open][data-run=approval-1]").click()
    here = view.locator(".rv-code li[data-here=true]")
    expect(here).to_have_attribute("data-nodes", "1 2 3")
    expect(here).to_contain_text('await ctx.receive("approve")')
    name = view.locator("input[data-field=name]")
    name.fill("approve")
    name.press("Tab")
    opened.page.keyboard.type("'yes'")
    opened.page.keyboard.press("Enter")
    opened.wait_for_cell(5)
    assert "approval-1: 'yes'" in opened.output_text(5)
    view = view_of(opened)
    expect(view.locator("[data-task=done] code")).to_have_text("%raftoral signal approval-1 approve 'yes'")
    expect(view.locator(".rv-run[data-run=approval-1]")).to_have_attribute("data-status", "completed")
    view.locator("[data-act=open][data-run=approval-2]").press("Enter")
    view.locator("[data-do='cancel approval-2']").press("Enter")
    expect(view.locator(".rv-run[data-run=approval-2]")).to_have_attribute("data-status", "cancelled")
    assert opened.errors == []


def test_messages_are_numbers_on_the_links_and_are_watched_though_nothing_happens(opened: Lab) -> None:
    view = view_of(opened)
    leader_of(view)
    view.focus()
    opened.page.keyboard.press("m")
    expect(view.get_by_role("button", name="Messages")).to_have_attribute("aria-pressed", "true")
    expect(view.locator(".rv-sent").filter(has_text="♥").first).to_be_visible()  # heartbeats, which are no events
    opened.page.keyboard.press("m")
    expect(view.get_by_role("button", name="Messages")).to_have_attribute("aria-pressed", "false")


def test_axe_finds_no_grave_fault_of_the_view_in_jupyterlab_in_either_theme(opened: Lab) -> None:
    opened.run_cell(1)
    opened.run_cell(3)
    view = view_of(opened)
    view.locator("[data-act=open][data-run=late]").click()
    expect(view.locator(".rv-code ol li")).to_have_count(4)
    for theme in (DARK, LIGHT):
        opened.set_theme(theme)
        assert grave_faults(opened.page) == [], theme

"""The live view on a page of its own in Chromium, without a notebook: one snapshot and the next, and the kernel's end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from kernel_ext.snapshot import snapshot
from tests.kernel_ext.samples import broken_cluster, cluster, look, node
from tests.kernel_ext.view_page import page as page_with

pytestmark = pytest.mark.browser

Draw = Callable[[dict[str, Any]], Locator]


@pytest.fixture
def draw(browser: Browser, tmp_path: Path) -> Iterator[Draw]:
    """Opens a page that shows a snapshot; gives the view in it."""
    context = browser.new_context()

    def opened(data: dict[str, Any]) -> Locator:
        file = tmp_path / "page.html"
        file.write_text(page_with(data), "utf-8")
        page = context.new_page()
        page.goto(file.as_uri())
        return page.locator(".raftoral-view")

    yield opened
    context.close()


def lose_kernel(view: Locator) -> None:
    """Does what ipywidgets does to the views of a kernel that is gone."""
    view.page.evaluate("document.getElementById('view').classList.add('jupyter-widgets-disconnected')")
    view.page.evaluate("fire('comm_live_update')")


def test_a_new_snapshot_replaces_the_picture_and_is_said_aloud(draw: Draw) -> None:
    view = draw(snapshot(look(broken_cluster()), 7))
    expect(view).to_have_attribute("data-raftoral-leader", "2")
    new = cluster([node(1), node(2, "dead"), node(3, "leader", term=4)], term=4, epoch=4)
    view.page.evaluate(f"model.state.snapshot = {json.dumps(snapshot(look(new), 8))}; fire('change:snapshot')")
    expect(view).to_have_attribute("data-seq", "8")
    expect(view).to_have_attribute("data-raftoral-leader", "3")
    cards = view.locator("[data-role]")
    assert [cards.nth(place).get_attribute("data-role") for place in range(cards.count())] == [
        "follower",
        "dead",
        "leader",
    ]
    said = view.locator("[aria-live=polite] p")
    expect(said).to_have_count(2)  # added, not replaced: what came before may not have been read out yet
    expect(said.last).to_contain_text("Node 3 leads in term 4.")


def test_of_what_was_said_aloud_only_the_latest_is_kept(draw: Draw) -> None:
    view = draw(snapshot(look(broken_cluster()), 7))
    for number in range(8, 28):
        leads = number % 2
        new = cluster([node(1, "leader" if leads else "follower"), node(2, "follower" if leads else "leader")])
        view.page.evaluate(f"model.state.snapshot = {json.dumps(snapshot(look(new), number))}; fire('change:snapshot')")
        expect(view).to_have_attribute("data-seq", str(number))
    said = view.locator("[aria-live=polite] p")
    expect(said).to_have_count(8)
    expect(said.last).to_contain_text("Node 1 leads")


def test_the_view_of_a_kernel_that_is_gone_says_so_until_a_snapshot_arrives(draw: Draw) -> None:
    view = draw(snapshot(look(broken_cluster()), 7))
    lose_kernel(view)
    expect(view).to_have_attribute("data-state", "stale")
    expect(view.get_by_text("The kernel is gone or was restarted")).to_be_visible()
    view.page.evaluate("fire('change:snapshot')")
    expect(view).to_have_attribute("data-state", "running")


@pytest.mark.parametrize("width", [320, 480, 1200])
def test_nothing_sticks_out_of_the_view(draw: Draw, width: int) -> None:
    view = draw(snapshot(look(broken_cluster()), 7))
    view.page.set_viewport_size({"width": width, "height": 800})
    lanes = view.locator(".rv-row")
    expect(lanes).to_have_count(20)
    view.page.wait_for_function(
        "() => { const one = document.querySelector('.raftoral-view'); return one.scrollWidth <= one.clientWidth; }"
    )


def test_no_key_leaves_the_picture(draw: Draw) -> None:
    view = draw(snapshot(look(broken_cluster()), 7))
    view.page.evaluate("window.leaked = 0; document.body.addEventListener('keydown', () => { window.leaked += 1; })")
    view.focus()
    view.page.keyboard.press("b")
    assert view.page.evaluate("window.leaked") == 0


def test_a_view_that_is_removed_follows_no_more(draw: Draw) -> None:
    view = draw(snapshot(look(broken_cluster()), 7))
    expect(view).to_have_attribute("data-seq", "7")
    view.page.evaluate("end()")
    assert view.page.evaluate("Object.values(listeners()).every((all) => all.length === 0)")

"""The live view on a page of its own in Chromium, without a notebook: one snapshot and the next, and the kernel's end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from msgspec import structs
from playwright.sync_api import Browser, BrowserContext, Locator, expect

from kernel_ext.widgets.snapshot import snapshot
from raftoral_nb.core.statistics import LinkStatistics
from tests.browser.accessibility import grave_faults
from tests.kernel_ext.samples import broken_cluster, cluster, look, node, waiting_look
from tests.kernel_ext.samples import opened as opened_run
from tests.kernel_ext.view_page import DARK, LIGHT
from tests.kernel_ext.view_page import page as page_with

pytestmark = pytest.mark.browser

WELL: Any = {"up": True, "cut": False, "cut_back": False, "delay": None}
"""Of a link with which nothing is wrong."""


class Draw(Protocol):
    """Opens a page that shows a snapshot; gives the view in it."""

    def __call__(self, data: dict[str, Any], **options: Any) -> Locator: ...


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context()
    yield opened
    opened.close()


@pytest.fixture
def draw(context: BrowserContext, tmp_path: Path) -> Iterator[Draw]:
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def opened(data: dict[str, Any], **options: Any) -> Locator:
        file = tmp_path / "page.html"
        file.write_text(page_with(data, **options), "utf-8")
        page.goto(file.as_uri())
        return page.locator(".raftoral-view")

    yield opened
    page.close()
    assert errors == []


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
    view = draw(snapshot(look(broken_cluster()), 7), more=opened_run())
    view.page.set_viewport_size({"width": width, "height": 800})
    expect(view.locator(".rv-row")).to_have_count(20)
    view.locator("[data-act=open][data-run=order-2]").click()
    expect(view.locator(".rv-code ol li")).to_have_count(13)
    view.page.wait_for_function(
        "() => { const one = document.querySelector('.raftoral-view'); return one.scrollWidth <= one.clientWidth; }"
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_grave_fault_in_the_picture_an_opened_run_the_help_and_the_tables(draw: Draw, dark: bool) -> None:
    view = draw(snapshot(look(broken_cluster()), 7), more=opened_run(), theme=DARK if dark else LIGHT, dark=dark)
    view.locator("[data-act=open][data-run=order-2]").click()
    node_5 = view.locator(".rv-node[data-node='5']")
    node_5.click()
    view.get_by_role("button", name="keys").click()
    expect(view.locator(".rv-help")).to_be_visible()
    expect(view.locator(".rv-code ol li")).to_have_count(13)
    assert grave_faults(view.page) == []
    view.get_by_role("button", name="Tables").click()
    expect(view.get_by_role("table", name="Links")).to_be_visible()
    assert grave_faults(view.page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_grave_fault_in_what_runs_wait_for_and_nothing_of_it_sticks_out(draw: Draw, dark: bool) -> None:
    view = draw(snapshot(waiting_look(), 7), theme=DARK if dark else LIGHT, dark=dark)
    expect(view.locator(".rv-waits-for li[data-branch]")).to_have_count(6)
    expect(view.get_by_text("and 1 more branch")).to_be_visible()
    view.locator("[data-act=open][data-run=order-1]").click()
    expect(view.locator(".rv-waits-for li[data-branch]")).to_have_count(7)
    assert grave_faults(view.page) == []
    for width in (320, 480, 1200):
        view.page.set_viewport_size({"width": width, "height": 800})
        view.page.wait_for_function(
            "() => { const one = document.querySelector('.raftoral-view'); return one.scrollWidth <= one.clientWidth; }"
        )
    view.get_by_role("button", name="Tables").click()
    expect(view.get_by_role("table", name="What the branches of runs wait for")).to_be_visible()
    assert grave_faults(view.page) == []


def test_the_queue_of_a_held_node_is_a_row_of_records_with_the_next_one_marked(draw: Draw) -> None:
    view = draw(snapshot(waiting_look(), 7))
    lane = view.locator(".rv-row[data-run=order-1][data-node='2']")
    waiting = lane.locator(".rv-record:has(.rv-waits)")
    assert [waiting.nth(place).get_attribute("data-op") for place in range(waiting.count())] == [
        "signal arrived",
        "timers fired",
        "compute",
        "child ended",
    ]
    expect(lane.locator(".rv-record:has(.rv-next)")).to_have_attribute("data-op", "signal arrived")
    expect(lane).to_have_attribute("data-queue", "4")


def test_time_left_counts_down_without_a_new_picture_and_stands_still_in_one_of_before(draw: Draw) -> None:
    clock_page = draw(snapshot(waiting_look(), 7)).page
    clock_page.clock.install()
    view = draw(snapshot(waiting_look(), 7))
    left = view.locator("li[data-branch=t1] .rv-left")
    expect(left).to_contain_text("10 s left")
    view.page.clock.run_for(4000)
    # The page's clock goes on by itself besides, and a busy machine takes its time.
    expect(left).to_contain_text(re.compile(r"\b[1-6] s left"))
    expect(view.locator("li[data-branch=t5]")).to_contain_text("ConnectionError: away; again now")
    view.focus()
    view.page.keyboard.press("Space")
    view.page.clock.run_for(3000)
    expect(left).to_contain_text("10 s left")


def test_messages_move_along_the_links_and_are_numbers_for_who_wants_no_motion(draw: Draw) -> None:
    first, then = broken_cluster(), broken_cluster()
    for number, one in then.nodes.items():
        more = {peer: structs.replace(link, sent={**link.sent, "append": 60}) for peer, link in one.links.items()}
        then = structs.replace(then, nodes={**then.nodes, number: structs.replace(one, links=more)})
    view = draw(snapshot(look(first), 7))
    expect(view).to_have_attribute("data-seq", "7")
    change = f"model.state.snapshot = {json.dumps(snapshot(look(then), 8))}; fire('change:snapshot')"
    # How many are drawn at that moment is noted by the page itself: they are gone soon.
    view.page.evaluate(
        """window.most = 0; new MutationObserver(() => {
            window.most = Math.max(window.most, document.querySelectorAll('.rv-flights .rv-message[data-kind=append]').length);
        }).observe(document.querySelector('.rv-flights'), { childList: true })"""
    )
    view.page.evaluate(change)
    view.page.wait_for_function("() => window.most === 16")
    expect(view.locator(".rv-flights .rv-message")).to_have_count(0)  # each ends where it was going
    expect(view.locator(".rv-sent")).to_have_count(0)
    view.page.emulate_media(reduced_motion="reduce")
    expect(view.locator(".rv-sent")).to_have_count(20)
    expect(view.locator(".rv-sent[data-lane='2-1']")).to_contain_text("A20")
    view.page.emulate_media(reduced_motion="no-preference")


OVERLAPS = """() => {
    const box = (one) => one.getBoundingClientRect();
    const meet = (a, b) => a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
    const words = [...document.querySelectorAll('.rv-disc, .rv-crown, .rv-role, .rv-term text, .rv-soft, .rv-chip rect')];
    return [...document.querySelectorAll('.rv-sent text')].flatMap((number) =>
        words.filter((one) => meet(box(number), box(one))).map((one) => `${number.textContent} upon ${one.textContent}`));
}"""


@pytest.mark.parametrize("width", [340, 480, 800, 1000])
@pytest.mark.parametrize("nodes", [3, 5, 7, 9])
def test_the_numbers_of_messages_leave_the_words_of_nodes_legible(draw: Draw, nodes: int, width: int) -> None:
    def sent(times: int) -> dict[str, Any]:
        counts = {"append": 120 * times, "heartbeat": 17 * times, "vote": times}
        numbers = range(1, nodes + 1)
        among = {one: {peer: LinkStatistics(sent=counts, **WELL) for peer in numbers if peer != one} for one in numbers}
        made = [node(one, "leader" if one == 2 else "follower", held=one == 1, links=among[one]) for one in numbers]
        return snapshot(look(cluster(made)), 6 + times)

    view = draw(sent(1))
    view.page.set_viewport_size({"width": width, "height": 800})
    view.page.emulate_media(reduced_motion="reduce")
    view.page.evaluate(f"model.state.snapshot = {json.dumps(sent(2))}; fire('change:snapshot')")
    expect(view.locator(".rv-sent")).to_have_count(nodes * (nodes - 1))
    assert view.page.evaluate(OVERLAPS) == []
    view.page.emulate_media(reduced_motion="no-preference")


def test_what_is_typed_into_a_form_stays_there_through_new_pictures_and_does_nothing_else(draw: Draw) -> None:
    view = draw(snapshot(look(broken_cluster()), 7), more=opened_run())
    view.locator("[data-act=open][data-run=order-2]").click()
    name = view.locator("input[data-field=name]")
    name.focus()
    view.page.keyboard.type("k3 paid")  # k and 3 are keys of the view
    view.page.evaluate(
        f"model.state.snapshot = {json.dumps(snapshot(look(broken_cluster()), 8))}; fire('change:snapshot')"
    )
    expect(view).to_have_attribute("data-seq", "8")
    expect(name).to_have_value("k3 paid")
    expect(view.locator(".rv-node[aria-pressed=true]")).to_have_count(0)
    view.page.keyboard.press("Tab")
    view.page.keyboard.type("{'sum': 3}")
    view.page.keyboard.press("Enter")
    sent = view.page.evaluate("model.sent.filter((one) => one.do).map((one) => one.do)")
    assert sent == ["signal order-2 \"k3 paid\" {'sum': 3}"]
    expect(view.locator("input[data-field=value]")).to_have_value("")


def test_no_key_leaves_the_picture(draw: Draw) -> None:
    view = draw(snapshot(look(broken_cluster()), 7))
    view.page.evaluate("window.leaked = 0; document.body.addEventListener('keydown', () => { window.leaked += 1; })")
    view.focus()
    view.page.keyboard.press("b")
    assert view.page.evaluate("window.leaked") == 0


def test_a_form_is_empty_after_it_was_sent_even_if_nothing_was_drawn_since_it_was_typed(draw: Draw) -> None:
    view = draw(snapshot(look(broken_cluster()), 7), more=opened_run())
    view.locator("[data-act=open][data-run=order-2]").click()
    view.locator("input[data-field=name]").fill("paid")
    expect(view.locator("input[data-field=name]")).to_have_attribute("value", "paid")  # drawn
    value = view.locator("input[data-field=value]")
    value.evaluate(
        """field => {
            field.value = "3";
            field.dispatchEvent(new Event("input", { bubbles: true }));
            field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
        }"""
    )
    expect(value).to_have_value("")
    assert view.page.evaluate("model.sent.filter((one) => one.do).map((one) => one.do)") == ["signal order-2 paid 3"]


def test_a_picture_that_changed_step_by_step_is_the_one_that_is_drawn_at_once(draw: Draw) -> None:
    """Parts that stay the same are left alone, and cells of logs move on: what comes of it must not differ."""
    busy = broken_cluster()

    def grown(entries: int, runs: int) -> dict[str, Any]:
        nodes = {
            number: structs.replace(one, log_length=one.log_length + entries * (number != 4))
            for number, one in busy.nodes.items()
        }
        return snapshot(look(structs.replace(busy, nodes=nodes, runs=dict(list(busy.runs.items())[-runs:]))), 9)

    steps = [grown(*one) for one in ((0, 4), (1, 3), (1, 4), (7, 2), (40, 1), (41, 4), (42, 4))]
    view = draw(steps[-1])
    body = "() => document.querySelector('.rv-body').innerHTML"
    expect(view.locator(".rv-run")).to_have_count(4)
    at_once = view.page.evaluate(body)
    view = draw(steps[0])
    for number, step in enumerate(steps[1:], 10):
        # Every second one as tables in between: the picture is made anew then.
        changed = {**step, "seq": number, "time": step["time"] + number}
        view.page.evaluate(f"model.state.snapshot = {json.dumps(changed)}; fire('change:snapshot')")
        expect(view).to_have_attribute("data-seq", str(number))
        if number % 2:
            view.get_by_role("button", name="Tables").click()
            expect(view.locator(".rv-tables")).to_be_visible()
            view.get_by_role("button", name="Tables").click()
            expect(view.locator(".rv-logs")).to_be_visible()
    expect(view.locator(".rv-run")).to_have_count(4)
    later = re.compile(r"rv-runs-out-\d")
    assert later.sub("", view.page.evaluate(body)) == later.sub("", at_once)


def test_a_view_that_is_removed_follows_no_more(draw: Draw) -> None:
    view = draw(snapshot(look(broken_cluster()), 7))
    expect(view).to_have_attribute("data-seq", "7")
    view.page.evaluate("end()")
    assert view.page.evaluate("Object.values(listeners()).every((all) => all.length === 0)")

"""Buttons and bars on a page of their own in Chromium, without a notebook."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from kernel_ext.widgets.scripts import STATIC

pytestmark = pytest.mark.browser

Draw = Callable[[dict[str, Any]], Locator]

PAGE = """<!doctype html><meta charset="utf-8"><title>control</title><style>%(css)s</style><body><div id="place"></div>
<script type="module">
%(js)s
const listeners = {};
window.model = {
  state: { state: %(state)s },
  sent: [],
  get(name) { return this.state[name]; },
  on(name, callback) { (listeners[name] ??= []).push(callback); },
  off(name, callback) { listeners[name] = (listeners[name] ?? []).filter((one) => one !== callback); },
  send(content) { this.sent.push(content); },
};
window.draw = (state) => { window.model.state.state = state; (listeners["change:state"] ?? []).forEach((one) => one()); };
window.left = () => Object.values(listeners).flat().length;
window.end = render({ model: window.model, el: document.getElementById("place") });
</script></body>"""

EVIL = "<img src=x onerror=\"document.title = 'evil'\">"


@pytest.fixture
def draw(browser: Browser, tmp_path: Path) -> Iterator[Draw]:
    """Opens a page that shows a control; gives it."""
    context = browser.new_context()
    controls = STATIC / "controls"
    js = (
        (controls / "control.mjs")
        .read_text("utf-8")
        .replace("export default", "const exported =")
        .replace("export ", "")
    )

    def opened(state: dict[str, Any]) -> Locator:
        file = tmp_path / "page.html"
        css = (controls / "control.css").read_text("utf-8")
        file.write_text(PAGE % {"css": css, "js": js, "state": json.dumps(state)}, "utf-8")
        page = context.new_page()
        page.goto(file.as_uri())
        return page.locator(".raftoral-control")

    yield opened
    context.close()


def buttons(**changes: Any) -> dict[str, Any]:
    state = {
        "kind": "buttons",
        "title": "expense-1: approve",
        "buttons": ["Approve", "Decline"],
        "enabled": True,
        "chosen": None,
        "words": "",
        "tone": "",
    }
    return state | changes


def bar(**changes: Any) -> dict[str, Any]:
    state = {
        "kind": "bar",
        "title": "train-1 epoch",
        "fraction": 0.3,
        "words": "3 of 10",
        "note": "",
        "ended": False,
        "tone": "",
    }
    return state | changes


def test_a_button_sends_its_place_once_and_is_what_the_kernel_says_from_then_on(draw: Draw) -> None:
    control = draw(buttons())
    page = control.page
    approve, decline = control.get_by_role("button", name="Approve"), control.get_by_role("button", name="Decline")
    decline.focus()
    page.keyboard.press("Enter")
    expect(approve).to_be_disabled()
    expect(decline).to_be_disabled()
    assert page.evaluate("model.sent") == [{"send": 1}]
    expect(control.get_by_text("the kernel is busy")).to_be_visible()
    page.evaluate(f"draw({json.dumps(buttons(words='no majority answers', tone='bad'))})")
    expect(approve).to_be_enabled()
    expect(control.get_by_text("no majority answers")).to_be_visible()
    approve.click()
    page.evaluate(f"draw({json.dumps(buttons(enabled=False, chosen=0, words='Approve: received', tone='good'))})")
    expect(approve).to_be_disabled()
    expect(approve).to_have_attribute("data-chosen", "")
    expect(control.get_by_text("Approve: received")).to_be_visible()
    assert page.evaluate("model.sent") == [{"send": 1}, {"send": 0}]


def test_a_bar_follows_its_state_and_says_so_to_screen_readers(draw: Draw) -> None:
    control = draw(bar())
    shown = control.get_by_role("progressbar", name="train-1 epoch")
    expect(shown).to_have_js_property("value", 0.3)
    expect(control.get_by_text("3 of 10")).to_be_visible()
    control.page.evaluate(f"draw({json.dumps(bar(fraction=None, words='no value yet', note='paused'))})")
    expect(shown).to_have_js_property("position", -1)
    expect(control.get_by_text("no value yet · paused")).to_be_visible()
    control.page.evaluate(f"draw({json.dumps(bar(fraction=1, words='10 of 10', ended=True, tone='good'))})")
    expect(shown).to_have_js_property("value", 1)


def test_names_and_words_cannot_become_markup_and_nothing_is_left_behind(draw: Draw) -> None:
    for state in (buttons(title=EVIL, buttons=[EVIL], words=EVIL), bar(title=EVIL, words=EVIL, note=EVIL)):
        control = draw(state)
        expect(control.get_by_text(EVIL).first).to_be_visible()
        assert control.locator("img").count() == 0
        assert control.page.title() == "control"
        control.page.evaluate("end()")
        expect(control).to_have_count(0)
        assert control.page.evaluate("left()") == 0

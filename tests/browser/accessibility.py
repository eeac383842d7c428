"""What axe-core says of the view: its rules are run in the page, and only what concerns the view counts."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

from playwright.sync_api import Page

GRAVE: Final = frozenset({"serious", "critical"})

RUN: Final = """async () => {
    const found = await axe.run('.raftoral-view', { resultTypes: ['violations'] });
    return found.violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, where: nodes.map((one) => one.html.slice(0, 200)) }));
}"""


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")


def grave_faults(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds in the views of a page that is serious or critical; nothing is loaded from elsewhere."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(_axe())
    found: list[dict[str, Any]] = page.evaluate(RUN)
    return [fault for fault in found if fault["impact"] in GRAVE]

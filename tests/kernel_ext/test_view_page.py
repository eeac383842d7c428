"""The view's JavaScript: its pure part under Node, and the whole in a bare Chromium."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from kernel_ext.snapshot import snapshot
from tests.kernel_ext.samples import busy_cluster, cluster, node
from tests.kernel_ext.view_page import page
from tests.tools import require_tool

ROOT: Final = Path(__file__).resolve().parents[2]
FLAGS: Final = [
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *(
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--virtual-time-budget=3000",
        "--dump-dom",
    ),
]


def test_the_pure_part_passes_its_own_tests() -> None:
    node_js = require_tool("node", get_it="apt-get install nodejs, or https://nodejs.org")
    files = sorted(map(str, (ROOT / "tests" / "js").glob("*.test.mjs")))
    done = subprocess.run([node_js, "--test", *files], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def dom(tmp_path: Path) -> object:
    chromium = require_tool("chromium", "chromium-browser", "google-chrome", get_it="apt-get install chromium")

    def load(html: str) -> str:
        """What stands in the page after its scripts and two animation frames."""
        file = tmp_path / "page.html"
        file.write_text(html, "utf-8")
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout.partition("<body")[2].partition("<script")[0]

    return load


def attribute(html: str, name: str) -> str:
    found = re.search(rf'{name}="([^"]*)"', html)
    assert found, f"there is no {name}"
    return found[1]


@pytest.mark.browser
def test_a_new_snapshot_replaces_the_picture_and_is_said_aloud(dom: object) -> None:
    assert callable(dom)
    new = cluster([node(1), node(2, "dead"), node(3, "leader", term=4)], term=4, epoch=4)
    script = f"model.state.snapshot = {snapshot(new, 8)!r}; fire('change:snapshot');"
    script = script.replace("None", "null").replace("True", "true").replace("False", "false")
    shown = dom(page(snapshot(busy_cluster(), 7), script=script))
    assert attribute(shown, "data-raftoral-leader") == "3"
    assert attribute(shown, "data-seq") == "8"
    assert re.findall(r'data-node="(\d)" data-role="(\w+)"', shown) == [
        ("1", "follower"),
        ("2", "dead"),
        ("3", "leader"),
    ]
    assert "Node 3 leads in term 4." in shown


@pytest.mark.browser
def test_the_view_of_a_kernel_that_is_gone_says_so_until_a_snapshot_arrives(dom: object) -> None:
    assert callable(dom)
    gone = "document.getElementById('view').classList.add('jupyter-widgets-disconnected'); fire('comm_live_update');"
    data = snapshot(busy_cluster(), 7)
    assert attribute(dom(page(data, script=gone)), "data-state") == "stale"
    back = gone + "setTimeout(() => fire('change:snapshot'), 20);"
    assert attribute(dom(page(data, script=back)), "data-state") == "running"


@pytest.mark.browser
def test_no_key_leaves_the_picture(dom: object) -> None:
    assert callable(dom)
    script = """
        document.body.addEventListener("keydown", () => document.body.setAttribute("data-leaked", "yes"));
        document.querySelector(".raftoral-view").dispatchEvent(new KeyboardEvent("keydown", { key: "b", bubbles: true }));
        document.body.setAttribute("data-pressed", "yes");
    """
    shown = dom(page(snapshot(busy_cluster(), 7), script=script))
    assert 'data-pressed="yes"' in shown
    assert "data-leaked" not in shown

"""Takes the pictures of the live view that README shows: `python -m tests.browser.pictures FOLDER`, or `make pictures`.

It is a real cluster in JupyterLab in the middle of a story: the leader was killed and is back as a follower, a run goes on,
and a follower that is held has a queue to catch up with. No test; needs a Chromium.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import nbformat
from playwright.sync_api import expect

from tests.browser.lab import DARK, LIGHT, Lab, LabServer, chromium

WIDTH: Final = 900
"""Of the view, in pixels."""
NARROW: Final = 400
"""Of the view in a narrow column."""

# What the steps call. A module, so that all nodes and the notebook share the two events.
STORY: Final = """
import threading

paused, go = threading.Event(), threading.Event()


def ask(number):
    return number


def fit(number):
    if number in (9, 21):
        paused.set()
        go.wait()
        go.clear()
    return number
"""

CELLS: Final = [
    "%load_ext raftoral_nb\n%raftoral start --nodes 3",
    """%%workflow
from story import ask

async def order(ctx, item):
    for step in ("reserve", "charge", "ship"):
        await ctx.compute(step, ask, item)""",
    """%%workflow
from story import fit

async def sweep(ctx, points):
    for number in range(points):
        await ctx.compute("fit", fit, number)""",
    """import time

import story

first = cluster.wait_for_leader()
cluster.start_workflow("order", "A1").wait_for_completion(30)
cluster.kill(first)
second = cluster.wait_for_leader()
cluster.restart(first)
cluster.nodes[first].wait_until_applied()
cluster.start_workflow("order", "B2").wait_for_completion(30)

run = cluster.start_workflow("sweep", 30)
assert story.paused.wait(30)
late = next(number for number in cluster.nodes if number not in (first, second))
while (lane := cluster.nodes[late].statistics().runs.get(run.run_id)) is None or lane.step < 9:
    time.sleep(0.01)  # it follows a little later
cluster.hold(late)
story.paused.clear()
story.go.set()
assert story.paused.wait(30)""",
]


def write_notebook(folder: Path) -> str:
    """The story as a notebook, with its module beside it; the name to open."""
    (folder / "story.py").write_text(STORY)
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    nbformat.write(notebook, folder / "story.ipynb")
    return "story.ipynb"


def take(lab: Lab, folder: Path) -> list[Path]:
    """Runs the story and takes a picture in each theme; the files written."""
    lab.open(write_notebook(lab.server.notebooks))
    lab.run_cells()
    view = lab.output_area(0).locator(".raftoral-view")
    expect(view.locator("[data-run=sweep-1][data-queue='12']")).to_have_count(1)
    expect(view.locator("[data-run=sweep-1][data-step='21']")).to_have_count(2)
    view.locator("[data-role][data-held=true]").click()
    written = []

    def shoot(theme: str, name: str, width: int) -> None:
        lab.set_theme(theme)
        size, box = lab.page.viewport_size, view.bounding_box()
        assert size is not None
        assert box is not None
        lab.page.set_viewport_size({"width": round(size["width"] + width - box["width"]), "height": size["height"]})
        expect(view).to_have_css("width", f"{width}px")
        ring = width - 340 if width > NARROW else width - 36
        expect(view.locator(".rv-nodes")).to_have_attribute("width", re.compile(f"^{ring}|{ring + 2}$"))
        view.screenshot(path=folder / name, animations="disabled")
        written.append(folder / name)

    shoot(LIGHT, "view-light.png", WIDTH)
    shoot(DARK, "view-dark.png", WIDTH)
    view.locator("[data-act=open][data-run=sweep-1]").click()
    expect(view.locator("[data-code=sweep-1] [data-here=true]")).to_have_count(1)
    lab.page.set_viewport_size({"width": 1300, "height": 2300})
    shoot(LIGHT, "view-narrow.png", NARROW)
    lab.shutdown_kernel()
    return written


def main(folder: Path) -> None:
    """Takes the pictures into this folder."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        sys.exit("There is no Chromium; to get it: apt-get install chromium")
    with tempfile.TemporaryDirectory() as scratch, chromium(executable) as browser:
        notebooks, state = Path(scratch, "notebooks"), Path(scratch, "state")
        notebooks.mkdir()
        server = LabServer(notebooks, state)
        server.start()
        try:
            page = browser.new_page(viewport={"width": 1300, "height": 1400}, reduced_motion="reduce")
            for path in take(Lab(page, server), folder):
                print(f"{path}: {path.stat().st_size // 1000} kB")
        finally:
            server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

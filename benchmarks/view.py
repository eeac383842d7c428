"""The speed of the live view: a real JupyterLab in a headless Chromium, 5 nodes, 200 running workflows.

    python -m benchmarks.view

Prints how often a second the page paints, how long after a step was recorded the page shows it, what the view costs the
kernel (the same load is run without a view first), and how large a message to the page is. Needs the extra `test` and a Chromium.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import nbformat

from tests.browser.lab import Lab, LabServer, chromium

NODES: Final = 5
RUNS: Final = 200
SECONDS: Final = 20.0
"""The duration of the load, each time."""
PAUSE: Final = 2.0
"""Seconds that each step of each run takes: so `RUNS / PAUSE` steps are recorded a second."""

CELLS: Final = [
    f"""import json, time
import anyio
import raftoral_nb
%load_ext raftoral_nb
%config RaftoralMagics.refresh_rate = 20
cluster = raftoral_nb.Cluster({NODES}).start()

async def steady(ctx, given):
    number, steps = given
    await ctx.compute("spread", anyio.sleep, {PAUSE} * number / {RUNS})
    for step in range(steps):
        await ctx.compute("tick", anyio.sleep, {PAUSE})

cluster.register_workflow(steady)

def load(name):
    before, began = time.process_time(), time.perf_counter()
    steps = int({SECONDS} / {PAUSE})
    runs = [cluster.start_workflow("steady", (n, steps), run_id=f"{{name}}-{{n}}") for n in range({RUNS})]
    for run in runs:
        run.wait_for_completion()
    return time.process_time() - before, time.perf_counter() - began""",
    """print(json.dumps(load("without")))""",
    "%raftoral watch",
    """used = load("with")
view = get_ipython().magics_manager.registry["RaftoralMagics"].session._views[0]
recorded = [at for at, event in cluster.history() if isinstance(event, raftoral_nb.CheckpointSet)]
print(json.dumps([*used, cluster.statistics().checkpoints, recorded, len(json.dumps(view.snapshot))]))""",
    "cluster.stop()",
]

WATCH: Final = """() => {
    const view = document.querySelector('.raftoral-view');
    window.painted = [];
    new MutationObserver(() => {
        const { seq, checkpoints } = view.dataset;
        window.painted.push([(performance.timeOrigin + performance.now()) / 1000, Number(seq), Number(checkpoints)]);
    }).observe(view, { attributes: true, attributeFilter: ['data-seq'] });
}"""


def lags(painted: list[list[float]], recorded: list[float], total: int) -> list[float]:
    """Return the seconds from each step's record to the end of the paint that showed it first; `recorded` are the last of `total`."""
    found = []
    paints = iter(painted)
    now = next(paints, None)
    for number, at in enumerate(recorded, total - len(recorded) + 1):
        while now is not None and now[2] < number:
            now = next(paints, None)
        if now is None:
            break
        if now is not painted[0]:  # what was recorded before the first paint waited for nobody
            found.append(now[0] - at)
    return found


def measure(lab: Lab) -> dict[str, float]:
    """Run the load without and with a view."""
    lab.run_cells(0, 1)
    cpu, wall = json.loads(lab_text(lab.run_cell(1, 300)))
    lab.run_cell(2)
    lab.output_area(2).locator(".raftoral-view").wait_for()
    lab.page.evaluate(WATCH)
    seen_cpu, seen_wall, total, recorded, size = json.loads(lab_text(lab.run_cell(3, 300)))
    painted = lab.page.evaluate("window.painted")
    lab.run_cell(4)
    busy = [one for one in painted if recorded[0] < one[0] < recorded[-1]]
    span = busy[-1][0] - busy[0][0]
    times = sorted(lags(painted, recorded[-int(RUNS * SECONDS / PAUSE) :], total))
    return {
        "steps a second": len([at for at in recorded if busy[0][0] <= at <= busy[-1][0]]) / span,
        "paints a second": len(busy) / span,
        "snapshots sent a second": (busy[-1][1] - busy[0][1]) / span,
        "lag p50 (ms)": 1000 * statistics.median(times),
        "lag p95 (ms)": 1000 * times[int(0.95 * len(times))],
        "lag max (ms)": 1000 * times[-1],
        "kernel CPU without a view (%)": 100 * cpu / wall,
        "kernel CPU with a view (%)": 100 * seen_cpu / seen_wall,
        "message (kB)": size / 1000,
    }


def lab_text(outputs: list[dict[str, Any]]) -> str:
    """Return what a cell printed."""
    return "".join(output.get("text", "") for output in outputs if output["output_type"] == "stream")


def main() -> None:
    """Measure, and print."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        sys.exit("There is no Chromium; to get it: apt-get install chromium")
    with tempfile.TemporaryDirectory() as scratch, chromium(executable) as browser:
        notebooks, state = Path(scratch, "notebooks"), Path(scratch, "state")
        notebooks.mkdir()
        server = LabServer(notebooks, state)
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
        nbformat.write(notebook, notebooks / "view.ipynb")
        server.start()
        try:
            lab = Lab(browser.new_page(viewport={"width": 1300, "height": 1400}), server)
            lab.open("view.ipynb")
            found = measure(lab)
        finally:
            server.stop()
    print(f"live view: {NODES} nodes, {RUNS} runs for {SECONDS:g} s, JupyterLab in headless Chromium")
    for name, value in found.items():
        print(f"  {name:38} {value:.1f}")


if __name__ == "__main__":
    main()

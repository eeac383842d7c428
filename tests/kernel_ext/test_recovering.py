"""The bar that is shown while a cluster goes on from a data directory for longer than a moment."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kernel_ext.widgets.recovery_bar import LINE_STEP, WIDTH, RecoveryBar, bar_html, bar_text
from raftoral_nb import RecoveryProgress
from raftoral_nb.hosts import recovery_progress
from tests.kernel_ext.conftest import Notebook

STEPS = """%%workflow
async def steps(ctx, count):
    for number in range(count):
        await ctx.compute("step", abs, number)"""


@pytest.fixture
def made(notebook: Notebook, tmp_path: Path) -> str:
    """A data directory with something in it."""
    path = str(tmp_path / "lab")
    notebook.ok(f"%raftoral start --nodes 3 --data-dir {path}")
    notebook.ok(STEPS)
    notebook.ok("run = %raftoral run steps 100")
    notebook.ok("run.wait_for_completion(30)")
    notebook.ok("%raftoral stop")
    return path


def test_a_start_that_takes_a_moment_shows_no_bar(notebook: Notebook, made: str) -> None:
    shown = notebook.ok(f"%raftoral start --data-dir {made}")
    assert "recovering" not in shown.text
    assert "recovered 1 run (0 unfinished) with 100 recorded steps" in shown.text


def test_in_a_terminal_a_long_recovery_writes_a_few_lines(
    notebook: Notebook, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(recovery_progress, "INTERVAL_SECONDS", 0.0)
    shown = notebook.ok(f"%raftoral start --data-dir {made}")
    lines = [line for line in shown.text.splitlines() if line.startswith("recovering [")]
    assert 2 <= len(lines) <= 1 + 1 / LINE_STEP
    parts = [int(re.findall(r"(\d+)%", line)[0]) for line in lines]
    assert parts == sorted(parts)
    assert "reading and checking the log of node " in lines[0]  # they are read together
    assert all("<progress" in bundle["text/html"] for bundle in shown.bundles[: len(lines)])


def test_the_bar_is_as_long_as_it_says() -> None:
    assert bar_text(0.0, "x") == f"recovering [{'.' * WIDTH}] 0%  x"
    assert bar_text(1.0, "") == f"recovering [{'#' * WIDTH}] 100%"
    assert bar_text(0.5, "a").count("#") == WIDTH // 2
    assert "&lt;b&gt;" in bar_html(0.5, "<b>")


@pytest.mark.parametrize("widgets", [False, True])
def test_in_a_kernel_one_output_is_drawn_anew_and_closed_at_the_end(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, widgets: bool
) -> None:
    outputs: list[tuple[str, Any]] = []

    class Handle:
        def update(self, shown: Any) -> None:
            outputs.append(("update", shown))

    def display(shown: Any, **options: Any) -> Handle:
        outputs.append(("display", shown))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    cluster: Any = SimpleNamespace(subscribe=lambda callback: lambda: None)
    bar = RecoveryBar(cluster, kernel=True, widgets=widgets)
    with bar:
        for number in range(5):
            bar._happened(RecoveryProgress(number / 10, f"part {number}"))
        kinds = [kind for kind, _ in outputs]
        assert kinds == (["display"] if widgets else ["display", *["update"] * 4])
        assert (outputs[0][1].model_id is not None) == widgets
        box = bar._box
        if widgets:
            assert (box.children[0].value, box.children[1].value) == (0.4, "40% part 4")
    assert outputs[-1][1].plain == bar_text(1.0, "")
    assert outputs[-1][1].model_id is None
    if widgets:
        assert all(one.comm is None for one in (box, *box.children))
    bar._happened(RecoveryProgress(0.9, "late"))
    assert outputs[-1][1].plain == bar_text(1.0, "")

    failed = RecoveryBar(cluster, kernel=True, widgets=widgets)
    failed.__enter__()
    failed._happened(RecoveryProgress(0.1, "part"))
    failed.__exit__(OSError, OSError("the disk"), None)
    assert "did not finish" in outputs[-1][1].plain

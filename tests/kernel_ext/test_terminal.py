"""The live view of a terminal."""

from __future__ import annotations

import importlib.util
import io
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import Cluster
from raftoral_nb.cli.course import Door, Watch
from raftoral_nb.core.events import WorkflowCompleted
from tests.kernel_ext.conftest import Notebook
from tests.tools import require_module

GET_RICH = "pip install rich"


class Screen(io.StringIO):
    """What is written to a terminal, and a way to wait until it holds some words."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        with self._written:
            count = super().write(text)
            self._written.notify_all()
        return count

    def wait_for(self, words: str) -> None:
        with self._written:
            assert self._written.wait_for(lambda: words in self.getvalue(), 30), f"{words!r} was not drawn"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as one:
        yield one


@pytest.fixture
def screen() -> Screen:
    return Screen()


def follow(cluster: Cluster, screen: Screen) -> threading.Thread:
    """A view in a thread of its own; it ends with the cluster."""
    rich = require_module("rich.console", get_it=GET_RICH)
    from kernel_ext.widgets.terminal_view import watch

    console = rich.Console(file=screen, force_terminal=True, width=120, height=60, color_system=None)
    thread = threading.Thread(target=watch, args=(cluster, 60.0, console), name="terminal-view", daemon=True)
    thread.start()
    return thread


async def tally(ctx: Any, door: Door) -> str:
    await ctx.compute("first", len, "one")
    await ctx.compute("wait", door.wait)
    return "done"


def test_it_follows_nodes_logs_and_runs_with_their_lanes_until_the_cluster_stops(
    cluster: Cluster, screen: Screen
) -> None:
    thread = follow(cluster, screen)
    screen.wait_for(f"node {cluster.leader} leads, term {cluster.statistics().term}")
    cluster.hold("follower")
    screen.wait_for("held")
    door = Door()
    with Watch(cluster) as watching:
        cluster.start_workflow(tally, door, run_id="slow")
        door.await_arrival()
        screen.wait_for("slow: step 0/first")
        screen.wait_for("0 (1 in queue)")
        door.open()
        watching.wait_for(WorkflowCompleted)
    screen.wait_for("completed")
    cluster.kill("leader")
    screen.wait_for("dead")
    cluster.stop()
    thread.join(30)
    assert not thread.is_alive()
    last = screen.getvalue().rpartition(f"cluster {cluster.name}: stopped")[2]
    assert "commands " in last, "the last picture says that it stopped, and stays"
    assert "Ctrl-C" not in last


def test_ctrl_c_ends_the_view_and_nothing_else(
    started: Notebook, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_module("rich", get_it=GET_RICH)
    threads = set(threading.enumerate())
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        screen.wait_for("Ctrl-C ends the view")
        signal.pthread_kill(main, signal.SIGINT)

    pressing = threading.Thread(target=interrupt, daemon=True)
    monkeypatch.setattr(sys, "stdout", screen)
    pressing.start()
    magic = started.shell.run_line_magic("raftoral", "watch")
    monkeypatch.undo()
    pressing.join(30)
    assert magic is None
    assert started.shell.user_ns["cluster"].running
    left = [thread for thread in threading.enumerate() if thread not in threads and thread.name == "raftoral-view"]
    assert left == []


def test_without_rich_the_picture_is_shown_as_it_is_with_how_to_get_more(
    started: Notebook, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else found(name))
    monkeypatch.setattr(sys, "stdout", screen)
    shown = started.shell.run_line_magic("raftoral", "watch")
    monkeypatch.undo()
    assert shown.plain.startswith("cluster cluster-")
    assert shown.plain.endswith("for a picture that follows the cluster: pip install 'raftoral-nb[rich]'")


def test_where_the_output_is_no_terminal_the_picture_is_shown_once(started: Notebook) -> None:
    assert started.ok("%raftoral watch").text.startswith("cluster cluster-")

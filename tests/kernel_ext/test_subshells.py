"""Clicks in a kernel with subshells: each is heard, whichever shell blocks, is gone, or got the last message."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from packaging.version import Version

from tests.kernel_ext.conftest import Notebook
from tests.kernel_ext.kernels import Kernel, new_kernel  # noqa: F401 - a fixture

IPYKERNEL = Version(version("ipykernel"))

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning"),
    pytest.mark.skipif(Version("7") > IPYKERNEL, reason="this ipykernel has no subshells"),
]
since_7_4 = pytest.mark.skipif(Version("7.4") > IPYKERNEL, reason="this ipykernel does not let a widget choose")

START = """
import threading
import kernel_ext
from kernel_ext.magics.page_lines import carry_out
from kernel_ext.widgets.view import ClusterView

async def approval(ctx, _):
    return await ctx.receive("approve")

cluster.register_workflow(approval)
run = cluster.start_workflow("approval", None)
view = ClusterView(cluster, lambda line: carry_out(cluster, line))
button = kernel_ext.signal_button(run, "approve")
go_on = threading.Event()
print(view.model_id, button.model_id)
"""


class Clicks:
    """A kernel with the view of a cluster, and a button; `lab` is a subshell for what widgets are told, as JupyterLab has one."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        assert kernel.run("%load_ext raftoral_nb\n%raftoral start --nodes 3;")[1] == ""
        printed, error = kernel.run(START)
        assert error == "", printed
        self.view, self.button = printed.split()
        self.lab = kernel.new_subshell()
        self._tasks = 0

    def do(self, line: str, subshell: str | None = None) -> str:
        """The words for a line that was clicked in the view."""
        self._tasks += 1
        task = str(self._tasks)
        self.kernel.tell(self.view, {"do": line, "task": task}, subshell)

        def ended(data: dict[str, Any], _: object) -> bool:
            content = data.get("content", {})
            return bool(content.get("task") == task and content["state"] != "taken")

        words: str = self.kernel.until_told(self.view, ended)["content"]["words"]
        return words

    def press(self, subshell: str | None = None) -> str:
        """What the button says when it was sent."""
        self.kernel.tell(self.button, {"send": 0}, subshell)

        def sent(data: dict[str, Any], _: object) -> bool:
            state = data.get("state", {}).get("state", {})
            return bool(not state.get("enabled", True) and state["words"] != "sending …")

        words: str = self.kernel.until_told(self.button, sent)["state"]["state"]["words"]
        return words

    def until_updated_from(self, subshell: str) -> None:
        """Waits until an update of the view is taken for one that a subshell's cell made."""
        self.kernel.until_told(
            self.view,
            lambda data, parent: "snapshot" in data.get("state", {}) and parent.get("subshell_id") == subshell,
        )


@pytest.fixture
def clicks(new_kernel: Callable[[], Kernel]) -> Clicks:  # noqa: F811
    return Clicks(new_kernel())


def test_a_click_is_heard_while_a_subshell_blocks_in_which_the_view_was_updated(clicks: Clicks) -> None:
    other = clicks.kernel.new_subshell()
    clicks.kernel.begin("cluster.hold(3)\nrun.pause()\ngo_on.wait(60)", other)
    clicks.until_updated_from(other)
    assert clicks.do("pause 2").startswith("node 2 paused")
    assert clicks.do("resume 2", clicks.lab) == "node 2 resumed"
    assert clicks.press(clicks.lab).startswith("sent: approve")
    assert clicks.kernel.run("print(go_on.is_set())") == ("False\n", "")
    clicks.kernel.run("go_on.set()")


def test_a_click_is_heard_after_the_subshell_in_which_the_view_was_updated_is_deleted(clicks: Clicks) -> None:
    other = clicks.kernel.new_subshell()
    clicks.kernel.begin("cluster.hold(3)\nrun.pause()", other)
    clicks.until_updated_from(other)
    clicks.kernel.end_subshell(other)
    assert clicks.do("pause 2").startswith("node 2 paused")
    assert clicks.do("resume 2", clicks.lab) == "node 2 resumed"
    assert clicks.press().startswith("sent: approve")


@since_7_4
def test_a_click_that_is_sent_to_a_subshell_that_blocks_or_is_deleted_is_heard_in_the_main_shell(
    clicks: Clicks,
) -> None:
    clicks.kernel.begin("cluster.hold(3)\ngo_on.wait(60)", clicks.lab)
    clicks.until_updated_from(clicks.lab)
    assert clicks.do("pause 2", clicks.lab).startswith("node 2 paused")
    assert clicks.kernel.run("print(go_on.is_set())\ngo_on.set()") == ("False\n", "")
    clicks.kernel.end_subshell(clicks.lab)
    assert clicks.do("resume 2", clicks.lab) == "node 2 resumed"
    assert clicks.press(clicks.lab).startswith("sent: approve")


def test_what_is_clicked_through_a_subshell_while_a_cell_blocks_is_done_at_once_and_says_so(clicks: Clicks) -> None:
    clicks.kernel.begin("cluster.pause(3)\nprint('blocks')\ngo_on.wait(60)\nprint('goes on')")
    clicks.kernel.until_printed("blocks")
    assert clicks.do("resume 3", clicks.lab) == "node 3 resumed (while a cell ran)"
    assert clicks.do("hold 2", clicks.lab).endswith("(while a cell ran)"), "also after a first one was heard there"
    assert clicks.press(clicks.lab).startswith("sent: approve")
    clicks.kernel.begin("go_on.set()", clicks.lab)
    clicks.kernel.until_printed("goes on")
    assert clicks.kernel.run("print('free')") == ("free\n", "")
    assert "(while" not in clicks.do("release 2", clicks.lab)


@since_7_4
def test_what_is_clicked_while_a_cell_awaits_is_done_at_once_also_without_a_subshell(clicks: Clicks) -> None:
    clicks.kernel.begin("print('awaits')\nprint('got', await run)")
    clicks.kernel.until_printed("awaits")
    assert clicks.do("hold 2").startswith("node 2 held")
    assert clicks.do("signal approval-1 approve 'yes'") == "run approval-1 was sent the signal approve"
    clicks.kernel.until_printed("got yes")


def test_the_extension_takes_back_what_follows_the_running_cells(notebook: Notebook) -> None:
    events = notebook.shell.events.callbacks
    ours = [one for name in ("pre_run_cell", "post_run_cell") for one in events[name] if "kernel_ext" in one.__module__]
    assert len(ours) == 4
    notebook.ok("%unload_ext raftoral_nb")
    assert not [one for one in ours if one in events["pre_run_cell"] + events["post_run_cell"]]

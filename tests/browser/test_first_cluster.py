"""The first notebook as it is committed, run in JupyterLab from its first cell to its last, and its live view meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import Lab

pytestmark = pytest.mark.browser

NAME = "01_first_cluster.ipynb"

# The main thread is inside a system call until the test writes to the pipe; only then can the cell end. The kill is done
# by another thread, so the cluster changes while the kernel answers nothing.
BLOCKING_CELL = """\
doomed = cluster.leader
threading.Thread(target=cluster.kill, args=(doomed,)).start()
with open({pipe!r}) as pipe:
    pipe.readline()
cluster.restart(doomed)
cluster.nodes[doomed].wait_until_applied()
"""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@contextmanager
def open_for_both(pipe: Path) -> Iterator[int]:
    """The pipe's descriptor. Opened to read and to write, a pipe does not wait for its other end."""
    descriptor = os.open(pipe, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def first_cluster(lab: Lab, notebook_copy: Callable[[str], str], pipe: Path) -> Iterator[Lab]:
    """The notebook, opened; the one cell that is not in the committed file stands where all nodes run again."""
    path = lab.server.notebooks / notebook_copy(NAME)
    notebook = nbformat.read(path, as_version=4)
    after = next(index for index, cell in enumerate(notebook.cells) if "cluster.restart(killed)" in cell.source)
    notebook.cells.insert(after + 1, nbformat.v4.new_code_cell(BLOCKING_CELL.format(pipe=str(pipe))))
    nbformat.write(notebook, path)
    lab.open(NAME)
    yield lab
    lab.shutdown_kernel()


def test_the_view_of_the_first_notebook_follows_the_leader_also_while_a_cell_blocks(
    first_cluster: Lab, pipe: Path
) -> None:
    lab = first_cluster
    start, kill, blocking, run_late, release = map(
        lab.find_cell,
        (
            "%raftoral start",
            "%raftoral kill leader",
            "pipe.readline()",
            "%raftoral run tally 20",
            "cluster.release(late)",
        ),
    )

    def view() -> Locator:
        """The live view, scrolled into sight: JupyterLab keeps only cells near the sight in the page."""
        return lab.output_area(start).locator(".raftoral-view")

    def leader() -> str:
        """The node that leads according to the page; waits until there is one."""
        expect(view().locator("[data-role=leader][data-acting=true]")).to_have_count(1)
        number = view().get_attribute("data-raftoral-leader")
        assert number
        return number

    def expect_new_leader(old: str) -> str:
        """Waits until the page shows that the old leader is dead and another one leads, in all the places that say so."""
        expect(view().locator(f"[data-role][data-node='{old}']")).to_have_attribute("data-role", "dead")
        new = leader()
        assert new != old
        expect(view().locator(f"[data-role][data-node='{new}']")).to_have_attribute("data-role", "leader")
        term = view().get_attribute("data-term")
        expect(view().locator("[aria-live=polite]")).to_contain_text(f"Node {new} leads in term {term}.")
        return new

    # The leader is killed in the middle of an order, by a cell of the notebook.
    lab.run_cells(0, kill)
    first = leader()
    expect(view().locator("[data-role=dead]")).to_have_count(0)
    lab.run_cell(kill)
    expect_new_leader(first)

    # The order completes, the dead node comes back ...
    lab.run_cells(kill + 1, blocking)
    expect(view().locator("[data-role=dead]")).to_have_count(0)

    # ... and while a cell blocks, whoever leads now is killed too.
    second = leader()
    lab.start_cell(blocking)
    expect_new_leader(second)
    assert lab.is_running(blocking)
    with open_for_both(pipe) as end:
        os.write(end, b"the page has shown it\n")
        lab.wait_for_cell(blocking)
    expect(view().locator("[data-role=dead]")).to_have_count(0)

    # A held follower's queue grows to 20 and drains.
    lab.run_cells(blocking + 1, run_late + 1)
    late = view().locator("[data-role][data-held=true]").get_attribute("data-node")
    lane = f"[data-run='tally-1'][data-node='{late}']"
    expect(view().locator(lane)).to_have_attribute("data-queue", "20")
    lab.run_cells(run_late + 1, release + 1)
    expect(view().locator(lane)).to_have_attribute("data-queue", "0")
    expect(view().locator(lane)).to_have_attribute("data-status", "completed")

    lab.run_cells(release + 1)
    expect(view()).to_have_attribute("data-state", "stopped")
    assert lab.errors == []
    assert lab.foreign_requests == []

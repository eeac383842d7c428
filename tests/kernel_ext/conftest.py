"""A real IPython shell for each test, with the extension loaded, and no trace of it left afterwards."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config


@dataclass
class Ran:
    """What came of a cell: its value, what it raised, and the MIME bundles of its outputs, the value's among them."""

    value: Any
    error: BaseException | None
    bundles: list[dict[str, Any]]
    stdout: str

    @property
    def text(self) -> str:
        """The plain text of all outputs."""
        return "\n".join(bundle["text/plain"] for bundle in self.bundles)


class Notebook:
    """Runs cells in a shell as a notebook does."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell: Any = shell

    def run(self, cell: str) -> Ran:
        """Runs a cell; what it raises is kept, not raised."""
        with capture_output(stdout=True, stderr=True, display=True) as captured:
            done = self.shell.run_cell(cell, store_history=True)
        bundles = [output.data for output in captured.outputs]
        if done.result is not None:
            bundles.append(self.shell.display_formatter.format(done.result)[0])
        return Ran(
            value=done.result,
            error=done.error_before_exec or done.error_in_exec,
            bundles=bundles,
            stdout=captured.stdout,
        )

    def ok(self, cell: str) -> Ran:
        """Runs a cell that must not fail."""
        ran = self.run(cell)
        if ran.error is not None:
            raise ran.error
        return ran

    def fails(self, cell: str) -> str:
        """Runs a cell that must fail; returns what is shown of its error."""
        error: Any = self.run(cell).error
        assert error is not None, "the cell did not fail"
        render = getattr(error, "_render_traceback_", None)
        return "\n".join(render()) if render is not None else f"{type(error).__name__}: {error}"


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    main = sys.modules[
        "__main__"
    ]  # a shell puts its own in the place, and workers of later tests could not start with it
    config = Config()
    config.HistoryManager.enabled = False  # no file, no thread
    made: Any = InteractiveShell.instance(config=config)
    yield made
    atexit.unregister(made.atexit_operations)
    made.atexit_operations()
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = main


@pytest.fixture
def notebook(shell: InteractiveShell) -> Iterator[Notebook]:
    opened = Notebook(shell)
    opened.ok("%load_ext raftoral_nb")
    yield opened
    opened.run("%unload_ext raftoral_nb")


@pytest.fixture
def started(notebook: Notebook) -> Notebook:
    notebook.ok("%raftoral start --nodes 3")
    return notebook


ORDER = """%%workflow
async def order(ctx, item):
    print("taking", item)
    first = await ctx.compute("double", lambda: item * 2)
    return first + rate
"""


@pytest.fixture
def with_order(started: Notebook) -> Notebook:
    """A notebook in which a cluster runs and the workflow `order` is registered: it returns twice its input plus `rate`."""
    started.ok("rate = 1")
    started.ok(ORDER)
    return started


Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(notebook: Notebook) -> Complete:
    """What Tab offers at the end of a line."""
    from IPython.core.completer import provisionalcompleter

    def offers(line: str) -> list[str]:
        with provisionalcompleter():
            return [line[: one.start] + one.text for one in notebook.shell.Completer.completions(line, len(line))]

    return offers

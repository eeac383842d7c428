"""`%raftoral` and `%%workflow`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import (
    Magics,
    cell_magic,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from traitlets import Enum, Float, Int, Unicode

from raftoral_nb.limits import MAX_NODES

from ..shown import display as shows
from .cells import async_functions, choose, resolve, run_cell
from .comments import without_comment
from .dropped import value_is_dropped
from .durable_line import DURABLE_HELP
from .help import RAFTORAL_HELP, short_help
from .parsing import parse
from .pending import Definition
from .session import Session
from .subcommand import Notebook, Settings
from .subcommands.start import LOG_LEVELS
from .workflow_line import WORKFLOW_HELP, parse_workflow_line

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


@magics_class
class RaftoralMagics(Magics):
    """The magics of one shell. Their defaults can be set: `%config RaftoralMagics.nodes = 5`."""

    nodes = Int(3, min=1, max=MAX_NODES, help="Nodes of a cluster when `start` has no --nodes.").tag(config=True)
    log_level = Enum(
        LOG_LEVELS, default_value=None, allow_none=True, help="What the engine logs when `start` has no --log-level."
    ).tag(config=True)
    refresh_rate = Float(20.0, min=0.1, max=60.0, help="How often a second the live view is redrawn, at most.").tag(
        config=True
    )
    cells_dir = Unicode(
        "", help="Where %%durable records; empty for .raftoral/NOTEBOOK in the folder of the notebook."
    ).tag(config=True)

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        super().__init__(shell)
        self.session = session

    @no_var_expand
    @needs_local_scope
    @line_magic
    def raftoral(self, line: str, local_ns: dict[str, Any] | None = None) -> Any:
        """Drives the cluster; see `kernel_ext/magics/help.py` for what is shown as help."""
        line = without_comment(line)
        # A `;` at the end says, as everywhere in IPython, that the value shall not be shown.
        line, silent = (line.rstrip()[:-1], True) if line.rstrip().endswith(";") else (line, False)
        asked = parse(line)
        if asked is None:
            result: Any = short_help()
        else:
            result = asked.subcommand.do(asked.arguments, self._notebook(local_ns))
        if result is None or (silent and not (asked is not None and asked.subcommand.gives)):
            return None
        if not silent and value_is_dropped():
            # IPython would show it in the last line of a cell only, and in no loop.
            shows.emit(result)
            return None
        return result

    raftoral.__doc__ = RAFTORAL_HELP

    @no_var_expand
    @cell_magic
    def workflow(self, line: str, cell: str) -> None:
        """Runs the cell and registers its workflow; see `kernel_ext/magics/help.py` for what is shown as help."""
        __tracebackhide__ = True
        wanted = parse_workflow_line(line)
        assert self.shell is not None
        source = run_cell(self.shell, cell)
        function = choose(async_functions(source), wanted.name)
        target = resolve(function, self.shell.user_ns)
        name = wanted.name or str(getattr(target, "name", function))
        shows.emit(self.session.register(Definition(name, wanted.version, target, wanted.strict)))

    workflow.__doc__ = WORKFLOW_HELP

    @no_var_expand
    @line_cell_magic
    def durable(self, line: str, cell: str | None = None) -> None:  # noqa: ARG002 - as IPython calls it
        """Restores the cell at hand; see `kernel_ext/magics/durable_line.py` for what is shown as help."""
        __tracebackhide__ = True
        self.session.durable.restore()

    durable.__doc__ = DURABLE_HELP

    def _notebook(self, local_ns: dict[str, Any] | None) -> Notebook:
        settings = Settings(self.nodes, self.log_level, self.refresh_rate)
        return Notebook(self.session, self._names(local_ns), settings)

    def _names(self, local_ns: dict[str, Any] | None) -> dict[str, Any]:
        """The names that the line can see: those of the notebook, and those of the function it stands in, if any."""
        assert self.shell is not None
        space = self.shell.user_ns
        return space if local_ns is None or local_ns is space else {**space, **local_ns}

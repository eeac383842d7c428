"""The IPython side of raftoral_nb: `%raftoral`, `%%workflow` and the live view. Load it with `%load_ext raftoral_nb`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .widgets.bars import progress_bar
from .widgets.buttons import signal_button, signal_buttons

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load_ipython_extension", "progress_bar", "signal_button", "signal_buttons", "unload_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Adds the magics, their completion and the display of clusters and runs to the shell. Loading it twice adds nothing."""
    from .magics.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Takes all of it out again, stops the cluster the magics started, and closes its views. `%reload_ext` keeps these."""
    from .magics.extension import unload

    unload(shell)

"""The question if widgets can be shown here: only in a Jupyter kernel that has the packages for them."""

from __future__ import annotations

import importlib.util


def have_widgets() -> bool:
    """True if the packages of the widgets are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("ipywidgets", "anywidget"))


def is_kernel(shell: object) -> bool:
    """True if this is the `InteractiveShell` of a kernel, and not that of a terminal."""
    return hasattr(shell, "kernel")


def widgets_can_be_shown() -> bool:
    """True if the shell that runs this, if any, is one whose page can show widgets."""
    from IPython.core.getipython import get_ipython

    return is_kernel(get_ipython()) and have_widgets()

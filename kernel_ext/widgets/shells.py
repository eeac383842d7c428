"""Routing of what the page tells a widget to one of a kernel's shells: the main one runs the cells, and a front end may add subshells.

JupyterLab sends what widgets are told through a subshell of its own, so that it is heard while a cell blocks the main shell. Up to
ipykernel 7.3 it is heard there. ipykernel 7.4 hands it to the shell whose message was the last to be handled when the widget was
updated. For a widget that is updated from a thread that is any shell at all: one that blocks, or one that is deleted.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUTE: Final = "_reply_subshell_for"
"""The method of ipykernel's comms that chooses the shell, from 7.4 on; it is not public, so it may be missing."""


class RunningCells:
    """Counts the cells that run in each shell of a kernel, by the events of its `InteractiveShell`."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._lock = threading.Lock()
        self._running: Counter[str | None] = Counter()
        self._callbacks = {"pre_run_cell": self._begins, "post_run_cell": self._ends}

    def follow(self) -> None:
        """Count from here on. A cell that runs already is not known."""
        for event, callback in self._callbacks.items():
            self._shell.events.register(event, callback)

    def leave(self) -> None:
        """Count no more, and forget what runs."""
        for event, callback in self._callbacks.items():
            if callback in self._shell.events.callbacks[event]:
                self._shell.events.unregister(event, callback)
        with self._lock:
            self._running.clear()

    def runs(self, subshell: str | None) -> bool:
        """True while a cell runs in that subshell; None is the main shell."""
        with self._lock:
            return self._running[subshell] > 0

    def _begins(self, _: object) -> None:
        with self._lock:
            self._running[_subshell_of_cell(self._shell)] += 1

    def _ends(self, _: object) -> None:
        with self._lock:
            subshell = _subshell_of_cell(self._shell)
            # The cell that loads the extension ends without having begun.
            self._running[subshell] = max(0, self._running[subshell] - 1)


_followed: Final[list[RunningCells]] = []


def follow(cells: RunningCells) -> None:
    """Have `hear_where_sent` know of these cells."""
    cells.follow()
    _followed.append(cells)


def leave(cells: RunningCells) -> None:
    """Undo `follow`."""
    cells.leave()
    if cells in _followed:
        _followed.remove(cells)


def hear_where_sent(comm: Any) -> None:
    """Has what the page tells this comm be heard in the shell that it was sent to, whoever updated the widget last.

    It is heard in the main shell if that subshell was deleted, or runs a cell. Front ends without subshells send to the main shell.
    Does nothing where ipykernel does not choose (before 7.4), and in other kernels.
    """
    chosen: Callable[[Any, str | None], str | None] | None = getattr(comm, _ROUTE, None)
    if chosen is None:
        return

    def route(_: object, sent_to: str | None) -> str | None:
        """Runs in the thread that receives for all shells, for every message to this comm."""
        return sent_to if sent_to is not None and _is_free(comm, sent_to) else None

    setattr(comm, _ROUTE, route)


def beside_a_cell() -> bool:
    """True in a subshell's thread, if a cell runs in the main shell: what is done now is done beside it."""
    return threading.current_thread() is not threading.main_thread() and _runs_cell(None)


def _is_free(comm: Any, subshell: str) -> bool:
    try:
        there = subshell in comm.kernel.shell_channel_thread.manager.list_subshell()
    except AttributeError:  # these names are not public either
        return False
    return there and not _runs_cell(subshell)


def _runs_cell(subshell: str | None) -> bool:
    return any(cells.runs(subshell) for cells in _followed)


def _subshell_of_cell(shell: Any) -> str | None:
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None
    found: str | None = kernel.get_parent("shell").get("header", {}).get("subshell_id")
    return found

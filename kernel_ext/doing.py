"""Carries out what was asked for in the page: one fault line after another, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from raftoral_nb.errors import RaftoralError

from .words import done_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftoral_nb import Cluster

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 32
"""What may wait to be done; more is refused."""

MAX_LINE: Final = 200
"""Characters of a line."""


class Doer:
    """Causes faults in a cluster, in the order they were asked for. The thread exists only while there is something to do.

    `tell(answer)` is called for each line: at once with `state` "taken", then with "done" and what to say, or with "failed"
    and why. It must not raise, and is called from that thread too.
    """

    def __init__(self, cluster: Cluster, tell: Callable[[dict[str, Any]], None]) -> None:
        self._cluster = cluster
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, str]] = deque()
        self._thread: threading.Thread | None = None

    def ask(self, task: str, line: str) -> None:
        """Have a line carried out; `task` comes back in the answers. Returns at once."""
        with self._lock:
            full = len(self._waiting) >= MAX_WAITING
            if not full:
                self._waiting.append((task, line))
        if full:
            self._tell(
                {
                    "task": task,
                    "state": "failed",
                    "words": f"{MAX_WAITING} other things wait to be done: ask again later",
                }
            )
            return
        self._tell({"task": task, "state": "taken"})
        with self._lock:
            if self._thread is None and self._waiting:
                self._thread = threading.Thread(target=self._run, name="raftoral-view-doing", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                task, line = self._waiting.popleft()
            self._tell({"task": task, **self._done(line)})

    def _done(self, line: str) -> dict[str, str]:
        try:
            return {"state": "done", "words": done_words(self._cluster.cause(line[:MAX_LINE]))}
        except RaftoralError as problem:
            return {"state": "failed", "words": str(problem)}
        except Exception as problem:
            _log.exception("%r could not be done", line)
            return {"state": "failed", "words": f"{type(problem).__name__}: {problem}"}

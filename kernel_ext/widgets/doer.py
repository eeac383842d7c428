"""Carries out what was asked for in the page: one line after another, as the magics take them, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from raftoral_nb.errors import RaftoralError

from ..errors import MagicError

if TYPE_CHECKING:
    from collections.abc import Callable


_log = logging.getLogger(__name__)

MAX_WAITING: Final = 32
"""The number of lines that may wait to be done; more are refused."""

MAX_LINE: Final = 1000
"""Characters of a line."""

BESIDE: Final = " (while a cell ran)"
"""Added to the words for what was done beside a cell."""


class Doer:
    """Carries out lines in the order they were asked for. The thread exists only while there is something to do.

    `do(line)` carries out one, and returns what to say; what it raises is told too.

    `tell(answer)` is called for each line: at once with `state` "taken", then with "done" and what to say, or with "failed"
    and why. It must not raise, and is called from that thread too.
    """

    def __init__(self, do: Callable[[str], str], tell: Callable[[dict[str, Any]], None]) -> None:
        self._do = do
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, str, bool]] = deque()
        self._thread: threading.Thread | None = None

    def ask(self, task: str, line: str, *, beside: bool = False) -> None:
        """Have a line carried out; `task` comes back in the answers. Returns at once.

        `beside` says that a cell runs meanwhile: the answer says so too.
        """
        with self._lock:
            full = len(self._waiting) >= MAX_WAITING
            if not full:
                self._waiting.append((task, line, beside))
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
                task, line, beside = self._waiting.popleft()
            answer = self._done(line)
            if beside and answer["state"] == "done":
                answer["words"] += BESIDE
            self._tell({"task": task, **answer})

    def _done(self, line: str) -> dict[str, str]:
        try:
            return {"state": "done", "words": self._carried_out(line)}
        except RaftoralError as problem:
            return {"state": "failed", "words": str(problem)}
        except Exception as problem:
            _log.exception("%r could not be done", line)
            return {"state": "failed", "words": f"{type(problem).__name__}: {problem}"}

    def _carried_out(self, line: str) -> str:
        if len(line) > MAX_LINE:
            raise MagicError(f"what is asked for is too long: {len(line)} characters, and {MAX_LINE} may be")
        return self._do(line)

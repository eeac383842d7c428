"""The other end of the controls' comms: keeps the states that arrive, and presses buttons."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import comm


class ControlPage:
    """One page with one control in it."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def open(self, **opening: Any) -> Any:
        """In place of `comm.create_comm`."""
        page = self

        class Comm(comm.base_comm.BaseComm):
            def publish_msg(
                self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
            ) -> None:
                page.take((data or {}).get("state", {}).get("state"))

        return Comm(**opening)

    def take(self, state: dict[str, Any] | None) -> None:
        """A state arrived."""
        if state:
            with self._changed:
                self.states.append(state)
                self._changed.notify_all()

    def wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The latest state, as soon as it holds for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.states and condition(self.states[-1]), timeout=20), self.states
            return self.states[-1]

    def words(self, words: str) -> dict[str, Any]:
        """The latest state, as soon as it says that."""
        return self.wait(lambda state: state["words"] == words)


def press(control: Any, place: object) -> None:
    """As the page does."""
    control._handle_msg({"content": {"data": {"method": "custom", "content": {"send": place}}}, "buffers": []})

"""Where an execution differs from the record, as it is shown to people. A part of `model`."""

from __future__ import annotations

import msgspec


class Difference(msgspec.Struct, frozen=True, gc=False):
    """Where an execution differs from the record: both side by side, the line that asked, and what is likely the cause.

    All of it is text for people; "" where it is not known. `recorded` and `asked` are an operation with its step_id, and the
    value where that is what differs.
    """

    reason: str
    recorded: str = ""
    asked: str = ""
    where: str = ""
    """File or cell, line and function of the workflow's code, as in a traceback."""
    line: str = ""
    cause: str = ""

    def __str__(self) -> str:
        """Several lines."""
        rows = [
            ("recorded", self.recorded),
            ("asked for", self.asked),
            ("at", f"{self.where}: {self.line}" if self.line else self.where),
            ("likely cause", self.cause),
        ]
        return "".join([self.reason, *(f"\n  {name + ':':<14}{text}" for name, text in rows if text)])

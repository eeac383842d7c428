"""`%raftoral button`: a button that sends a run a signal."""

from __future__ import annotations

from ...widgets.buttons import signal_button
from ..message_commands import message

SUBCOMMAND = message(
    "button",
    lambda run, asked, value: signal_button(run, asked.name, value if asked.expression else True),
    takes="NAME [VALUE-EXPRESSION]",
    does="a button that sends a run a signal",
    examples=(
        """\
  %raftoral button order-1 approve      a button that sends that signal: the human in the loop (with True, or another value)
  kernel_ext.signal_buttons(run, "approve", {"Yes": True, "No": False})
                                        a button for each answer, in Python""",
    ),
)

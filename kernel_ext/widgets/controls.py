"""Small things in the page that follow one run: buttons that send it a signal, bars of how far it is.

Each is one anywidget with one traitlet, `state`: plain data, drawn by `static/controls/control.mjs`. Its keys are `kind`
("buttons" or "bar"), `title`, `words`, `tone` ("", "good" or "bad"); of buttons also `buttons` (labels), `enabled` and `chosen`
(the place of the label that was sent, or None); of a bar `fraction` (0 to 1, or None if unknown), `note` and `ended`.

Needs ipywidgets and anywidget; whoever imports this module does so only when widgets can be shown.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from .scripts import STATIC
from .shells import hear_where_sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..shown.display import Shown


class Control(anywidget.AnyWidget):
    """The base of all controls. Shown several times, all its displays are the same.

    `look()` gives the state that is to be drawn, and must not wait for whoever calls `draw`. `pressed(place)` is called for each press of a button: in the
    kernel's main thread, or in that of a subshell (see `shells`).
    """

    _esm = STATIC / "controls" / "control.mjs"
    _css = STATIC / "controls" / "control.css"

    state = traitlets.Dict(help="what is drawn").tag(sync=True)

    def __init__(
        self, look: Callable[[], dict[str, Any]], still: Shown, pressed: Callable[[int], None] | None = None
    ) -> None:
        # ipywidgets' own locks are not made for threads: whoever sets a trait or handles a message holds this one.
        self._lock = threading.RLock()
        self._look = look
        self._still = still
        self._pressed = pressed
        self._number = 0
        super().__init__(state=look())
        hear_where_sent(self.comm)
        self.on_msg(self._asked)

    @property
    def closed(self) -> bool:
        """True once it is closed: it cannot be shown again."""
        return self.comm is None

    def draw(self) -> None:
        """Shows the state as it is now; from any thread."""
        with self._lock:
            if not self.closed:
                # Numbered, as a state that is the same says nothing to a page that waits for an answer.
                self._number += 1
                self.state = {**self._look(), "number": self._number}

    def __repr__(self) -> str:
        return self._still.plain

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        from ..shown.display import Shown

        model_id = None if self.closed else self.model_id
        return Shown(self._still.plain, self._still.html, model_id)._repr_mimebundle_(), {}

    def _handle_msg(self, msg: dict[str, Any]) -> None:
        with self._lock:
            super()._handle_msg(msg)

    def _asked(self, _: object, content: object, __: object) -> None:
        match content:
            case {"send": int(place)} if self._pressed is not None:
                self._pressed(place)
            case _:
                pass  # of a page with other code than ours

"""Buttons in the page that send a run a signal: the human in the loop.

`SignalButtons` knows what may be pressed and what became of it, and needs no widgets; `controls.Control` shows it.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from raftoral_nb import ClusterError, NotAcknowledgedError, RaftoralError
from raftoral_nb.core.cluster_events import MessageTaken, NodeChanged
from raftoral_nb.core.events import (
    MessageSent,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowTerminated,
)
from raftoral_nb.errors import RunEndedError, RunNotFoundError

from ..errors import MagicError
from ..shown import html
from ..shown.display import Shown
from ..shown.text import one_line
from .support import widgets_can_be_shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raftoral_nb import WorkflowRun
    from raftoral_nb.core.events import ClusterEvent

_log = logging.getLogger(__name__)

MAX_BUTTONS: Final = 20
"""In one row."""
MAX_LABEL: Final = 60
"""Characters of a label that are shown; also of what a run is called."""
MAX_TAKEN_EARLY: Final = 100
"""Messages that the run took of which it is kept that they were taken, until they are known to have been sent."""
MAX_ERROR: Final = 200
"""Characters of an error that are shown."""

_ENDED: Final = (WorkflowCompleted, WorkflowFailed, WorkflowCancelled, WorkflowTerminated)


class SignalButtons:
    """A row of buttons, each of which sends `run` the signal `name` with a value of its own; one press is all.

    They can be pressed until one of them was, somebody else sent the run that signal, or the run has ended; with `repeat`,
    again as soon as the workflow has received it. A press that fails says why and may be repeated: it is the same signal, and is
    received once. If it may have been recorded all the same, no other button can be pressed in its place: the run might have
    received the first, and the page would name the second. `changed()` is called from any thread, with no lock held.
    """

    def __init__(
        self,
        run: WorkflowRun[Any],
        name: str,
        choices: Mapping[str, Any],
        changed: Callable[[], None],
        *,
        repeat: bool = False,
    ) -> None:
        self._run = run
        self._name = name
        self._labels = [one_line(label, MAX_LABEL) for label in choices]
        self._values = list(choices.values())
        self._changed = changed
        # One id for whichever is pressed, however often: the run receives one signal of these buttons.
        self._id = _new_id()
        self._repeat = repeat
        self._lock = threading.Lock()
        self._enabled, self._words, self._tone = True, "", ""
        self._chosen: int | None = None
        # The button whose signal may have been recorded although its press failed.
        self._perhaps: int | None = None
        # The signal that was sent, by whomever; and whether there is nobody any more to send one to.
        self._sent: str | None = None
        self._past: set[str] = set()
        # Invariant: what the run took and is not known to have been sent; the latest. The node that takes a message may be quicker to
        # tell than the log.
        self._taken_early: deque[str] = deque(maxlen=MAX_TAKEN_EARLY)
        self._finished = False
        self._unsubscribe: Callable[[], None] = _nothing

    @property
    def state(self) -> dict[str, Any]:
        """The data that is drawn; see `controls`."""
        with self._lock:
            return {
                "kind": "buttons",
                "title": one_line(f"{self._run.run_id}: {self._name}", 2 * MAX_LABEL),
                "buttons": self._labels,
                "enabled": self._enabled,
                "chosen": self._chosen,
                "words": self._words,
                "tone": self._tone,
            }

    @property
    def still(self) -> Shown:
        """The form for where nothing can be pressed."""
        row = " ".join(f"[{label}]" for label in self._labels)
        words = f"{row} sends the signal {self._name} to run {self._run.run_id}"
        return Shown(words, html.line_html(words))

    def follow(self) -> None:
        """Watch the run from here on, until `close` or its end."""
        try:
            self._unsubscribe = self._run.subscribe(self._happened)
        except ClusterError as problem:
            self._over(str(problem), "bad")
            return
        try:
            status = self._run.status
        except RunNotFoundError as problem:
            self._over(str(problem))
        else:
            if status not in ("running", "paused"):
                self._over(f"the run has {'ended' if status == 'completed' else f'ended: it {status_words(status)}'}")

    def press(self, place: int) -> None:
        """Send what the button at that place sends. Returns at once."""
        with self._lock:
            able = self._enabled and 0 <= place < len(self._labels)
            if able and self._perhaps not in (None, place):
                able = False
                label = self._labels[self._perhaps]
                self._words, self._tone = f"{label} may have been sent: only that can be pressed again", "bad"
            if able:
                self._enabled, self._chosen = False, place
                self._words, self._tone = "sending …", ""
            signal_id = self._id
        if able:
            threading.Thread(target=self._send, args=(place, signal_id), name="raftoral-signal", daemon=True).start()
        self._changed()

    def close(self) -> None:
        """Follow the run no more. Idempotent."""
        self._unsubscribe()

    def _send(self, place: int, signal_id: str) -> None:
        try:
            self._run.signal(self._name, self._values[place], signal_id=signal_id)
        except RunEndedError:
            self._over("the run has ended: it was not sent")
        except RaftoralError as problem:
            unknown = isinstance(problem, NotAcknowledgedError) and problem.may_commit
            self._again(str(problem), place if unknown else None)
        except Exception as problem:
            _log.exception("the signal %r could not be sent", self._name)
            self._again(f"{type(problem).__name__}: {problem}", place)
        else:
            self._was_sent(signal_id)

    def _happened(self, event: ClusterEvent) -> None:
        """Runs on the cluster's observer thread."""
        match event:
            case MessageSent(message=message) if message.kind == "signal" and message.name == self._name:
                self._was_sent(message.message_id)
            case MessageTaken(message_id=message_id):
                self._was_received(message_id)
            case NodeChanged():
                self._over("the cluster has stopped")
            case _ if isinstance(event, _ENDED):
                self._over("the run has ended")

    def _was_sent(self, signal_id: str) -> None:
        """Told by the answer and by the event, in whichever order; the first counts."""
        with self._lock:
            # One of those before it, of buttons that repeat, or one that came after it, is of no interest.
            if self._sent is not None or signal_id in self._past:
                return
            self._sent = signal_id
            self._enabled, self._tone = False, "good"
            if self._chosen is None:
                self._chosen = self._perhaps
            if signal_id == self._id and self._chosen is not None:
                self._words = f"sent: {self._labels[self._chosen]}"
            else:
                self._words, self._chosen = "was sent from elsewhere", None
            early = signal_id in self._taken_early
        self._changed()
        if early:
            self._was_received(signal_id)

    def _was_received(self, signal_id: str) -> None:
        with self._lock:
            if signal_id != self._sent:
                self._taken_early.append(signal_id)
                return
            label = "" if self._chosen is None else self._labels[self._chosen]
            self._words = f"{label}: received" if label else "was sent from elsewhere, and received"
            if self._repeat and not self._finished:
                self._past |= {self._id, self._sent}
                self._sent, self._chosen, self._id, self._enabled = None, None, _new_id(), True
                self._perhaps = None
        self._changed()

    def _again(self, words: str, perhaps: int | None) -> None:
        with self._lock:
            if self._perhaps is None:
                self._perhaps = perhaps
            # An answer that came late: it was recorded all the same, or there is nobody to send it to.
            if self._sent is None and not self._finished:
                self._enabled, self._chosen = True, None
                self._words, self._tone = one_line(words, MAX_ERROR), "bad"
        self._changed()

    def _over(self, words: str, tone: str = "") -> None:
        self._unsubscribe()
        with self._lock:
            self._enabled, self._finished = False, True
            if self._sent is None:
                self._words, self._tone = one_line(words, MAX_ERROR), tone
        self._changed()


def status_words(status: str) -> str:
    """`was cancelled`, of a status."""
    return "failed" if status == "failed" else f"was {status}"


def _new_id() -> str:
    return f"button-{uuid.uuid4().hex}"


def _nothing(*_: object) -> None:
    pass


def signal_button(
    run: WorkflowRun[Any], name: str, value: Any = True, *, label: str | None = None, repeat: bool = False
) -> Any:
    """A button that sends `run` the signal `name` with `value`, which `await ctx.receive(name)` returns; to be shown in a cell.

    It can be pressed until it was, until somebody else sent that signal, or until the run has ended; with `repeat`, again as
    soon as the workflow has received it. Pressing it twice, or again after an error, which is shown beside it, sends it once.
    Without widgets (in a terminal) the line to write in its place is shown. Raises `RunNotFoundError` if there is no such run,
    and `MagicError` for a name or label that is none.
    """
    return signal_buttons(run, name, {label if label is not None else name: value}, repeat=repeat)


def signal_buttons(run: WorkflowRun[Any], name: str, choices: Mapping[str, Any], *, repeat: bool = False) -> Any:
    """The same with a button for each of the `choices`, a value by its label: the run gets that of the one that is pressed.

    `signal_buttons(run, "approve", {"Approve": True, "Decline": False})`
    """
    return _shown(run, name, choices, repeat=repeat, widgets=widgets_can_be_shown())


def _shown(run: WorkflowRun[Any], name: str, choices: Mapping[str, Any], *, repeat: bool, widgets: bool) -> Any:
    if not choices or len(choices) > MAX_BUTTONS:
        raise MagicError(f"a row has 1 to {MAX_BUTTONS} buttons, not {len(choices)}")
    texts: list[tuple[str, object]] = [("a signal's name", name), *(("a button's label", label) for label in choices)]
    for what, text in texts:
        if not isinstance(text, str) or not text.strip():
            raise MagicError(f"{what} is text that is not empty, not {text!r}")
    run.status  # noqa: B018 - says so if there is no such run
    buttons = SignalButtons(run, name, choices, _nothing, repeat=repeat)
    if not widgets:
        value = next(iter(choices.values()))
        words = f"{buttons.still.plain}; here it is sent by run.signal({name!r}, {one_line(repr(value), MAX_LABEL)})"
        return Shown(words, html.line_html(words))
    from .controls import Control

    control = Control(lambda: buttons.state, buttons.still, buttons.press)
    buttons._changed = control.draw
    control.observe(lambda _: buttons.close(), names="comm")
    buttons.follow()
    return control

"""The tools of the course's notebooks: predictions that are checked, doors at which steps wait, events that are waited for.

All nodes live in one process, and so a step can be made to wait for the reader: that is what a `Door` is for. Nothing here
is meant for workflows that do real work.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ..errors import CompletionTimeoutError
from ..threads.seconds import Seconds, seconds

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..api.cluster import Cluster
    from ..core.events import ClusterEvent

E = TypeVar("E")

PATIENCE: Final = 30.0
"""Seconds after which waiting is given up; nothing in the course takes nearly as long."""


# --- predictions


class CheckedPrediction(msgspec.Struct, frozen=True):
    """The outcome of a prediction; a notebook shows it as a sentence or two."""

    verdict: str
    happened: str
    right: bool | None
    """None if nothing was predicted, or nothing that could have been."""

    def __str__(self) -> str:
        return f"{self.verdict}\n{self.happened}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        colour = {True: "#2e7d32", False: "#b26a00", None: "#607d8b"}[self.right]
        return (
            f'<div style="border-left:4px solid {colour};padding:4px 12px">'
            f"<b>{escape(self.verdict)}</b><br>{escape(self.happened)}</div>"
        )


def check(
    prediction: object, happened: object, because: str = "", *, among: Iterable[object] = ()
) -> CheckedPrediction:
    """Compare a prediction with what happened; never raises for what was predicted.

    `prediction` None means: none yet. `among` are the answers that could be chosen from; texts are compared without regard
    to case and spaces around them. `because` is the sentence that explains what happened.
    """
    choices = tuple(among)
    was = " ".join(filter(None, (f"It was {_shown(happened)}.", because)))
    if prediction is None:
        return CheckedPrediction(
            "No prediction yet. To make one, put it in above, run that cell, and then this one again.", was, None
        )
    given = _plain(prediction)
    if choices and given not in {_plain(choice) for choice in choices}:
        listed = " or ".join(_shown(choice) for choice in choices)
        return CheckedPrediction(
            f"You predicted {_shown(prediction)}; the answers to choose from are {listed}.", was, None
        )
    if given == _plain(happened):
        return CheckedPrediction(f"You predicted {_shown(prediction)}, and so it was.", because or was, True)
    return CheckedPrediction(
        f"You predicted {_shown(prediction)}: that is not what happened, and worth a second look.", was, False
    )


def _plain(answer: object) -> object:
    if isinstance(answer, str):
        text = " ".join(answer.casefold().split())
        return int(text) if text.isascii() and text.isdigit() else text
    if isinstance(answer, bool):  # True is not meant where 1 is
        return "yes" if answer else "no"
    if isinstance(answer, list | tuple):
        return tuple(_plain(one) for one in answer)
    try:
        hash(answer)
    except TypeError:
        return repr(answer)
    return answer


def _shown(answer: object) -> str:
    return f'"{answer}"' if isinstance(answer, str) else str(answer)


# --- steps that wait

_doors: dict[int, Door] = {}
_numbers = itertools.count(1)


class Door:
    """A door at which steps wait until the notebook opens it. A workflow may capture it: all nodes share the same one.

    It opens once and stays open. A step waits at most an hour, and then raises `TimeoutError`.
    """

    SECONDS: Final = 3600.0
    """The time a step waits (seconds): somebody reads meanwhile."""

    def __init__(self) -> None:
        self._number = next(_numbers)
        self._change = threading.Condition()
        self._arrivals = 0
        self._is_open = False
        # Kept for the life of the process: whoever unpickles it, however late, means this one.
        _doors[self._number] = self

    @property
    def arrivals(self) -> int:
        """The number of steps that have come to it so far."""
        return self._arrivals

    def wait(self) -> None:
        """Wait, in a step, until the door is open."""
        with self._change:
            self._arrivals += 1
            self._change.notify_all()
            if not self._change.wait_for(lambda: self._is_open, self.SECONDS):
                raise TimeoutError("nobody opened the door")

    def await_arrival(self, count: int = 1, timeout: Seconds = PATIENCE) -> None:
        """Wait, in the notebook, until `count` steps have come here, `timeout` seconds at most. Raises `CompletionTimeoutError`."""
        longest = seconds(timeout, "await_arrival")
        with self._change:
            if not self._change.wait_for(lambda: self._arrivals >= count, longest):
                raise CompletionTimeoutError(f"{self._arrivals} of {count} steps came to the door within {longest:g} s")

    def open(self) -> None:
        """Let everybody through, now and later."""
        with self._change:
            self._is_open = True
            self._change.notify_all()

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return (_door, (self._number,))

    def __repr__(self) -> str:
        return f"<Door: {'open' if self._is_open else 'closed'}>"


def _door(number: int) -> Door:
    return _doors[number]


# --- events


class Watch:
    """A record of a cluster's events from now on, so that what happens between two lines of a cell is not missed.

    Ends with `close`, as a context manager, or with the cluster.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._events: queue.SimpleQueue[ClusterEvent] = queue.SimpleQueue()
        self._end = cluster.subscribe(self._events.put)

    def wait_for(self, kind: type[E], timeout: Seconds = PATIENCE, **fields: object) -> E:
        """Return the next event of this kind whose fields have these values; those before it are passed over.

        Raises `CompletionTimeoutError` if none comes for `timeout` seconds (or a `timedelta`).
        """
        longest = seconds(timeout, "wait_for")
        while True:
            try:
                event = self._events.get(timeout=longest)
            except queue.Empty:
                wanted = ", ".join(f"{name}={value!r}" for name, value in fields.items())
                raise CompletionTimeoutError(f"no {kind.__name__}({wanted}) came within {longest:g} s") from None
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items()):
                return event

    def close(self) -> None:
        """Stop remembering. Idempotent."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

"""Gates, notes and watches: how the tests of whole clusters wait for what happens, and see what was done."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from raftoral_nb import Cluster, ClusterEvent
from raftoral_nb.hosts.local import LocalBackend
from raftoral_nb.raft.replica import Timing

E = TypeVar("E")

PATIENCE: Final = 30.0
"""Seconds after which a test gives up; nothing that works takes nearly as long."""

STEADFAST: Final = Timing(election_min=60.0, election_max=120.0)
"""A leader elected at the start never steps down, and nobody else campaigns unless it is killed, for as long as a test takes."""

# Workflows travel by value when they are local to a test, and take no locks with them. What they share with the test is
# here: an importable module, which all nodes of this process have in common.
_lock = threading.Lock()
_notes: list[Any] = []
_gates: dict[str, Gate] = {}


class Gate:
    """The first to arrive waits until the gate is opened; whoever comes later, or to an open gate, goes through."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._opened = threading.Event()
        self._first = threading.Lock()

    def enter(self) -> bool:
        """True for the first one, after it has waited."""
        if not self._first.acquire(blocking=False):
            return False
        self.arrived.set()
        if not self._opened.wait(PATIENCE):
            raise TimeoutError("nobody opened the gate")
        return True

    def open(self) -> None:
        self._opened.set()

    def await_arrival(self) -> None:
        assert self.arrived.wait(PATIENCE), "nobody came to the gate"


def gate(name: str) -> Gate:
    """The gate of that name; tests and workflows share it."""
    with _lock:
        return _gates.setdefault(name, Gate())


def note(what: Any) -> None:
    """Write down that something was done, wherever in this process."""
    with _lock:
        _notes.append(what)


def notes() -> list[Any]:
    with _lock:
        return list(_notes)


def repeats() -> dict[Any, int]:
    """How often each noted thing was done more than once."""
    return {what: count for what, count in Counter(notes()).items() if count > 1}


def forget_all() -> None:
    """Open all gates, for whoever still waits there, and forget them and all notes."""
    with _lock:
        for one in _gates.values():
            one.open()
        _gates.clear()
        _notes.clear()


class Watch:
    """Collects a cluster's events, and waits for them."""

    def __init__(self, cluster: Cluster) -> None:
        self.events: list[ClusterEvent] = []
        self._change = threading.Condition()
        self._end = cluster.subscribe(self._add)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def _add(self, event: ClusterEvent) -> None:
        with self._change:
            self.events.append(event)
            self._change.notify_all()

    def of(self, kind: type[E]) -> list[E]:
        with self._change:
            return [event for event in self.events if isinstance(event, kind)]

    def until(self, kind: type[E], true: Callable[[E], bool] = lambda event: True, times: int = 1) -> E:
        """Wait until that many events of a kind, for which something holds, have come; returns the last of them."""
        with self._change:
            assert self._change.wait_for(lambda: len(self._found(kind, true)) >= times, PATIENCE), self.events
            return self._found(kind, true)[times - 1]

    def _found(self, kind: type[E], true: Callable[[E], bool]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind) and true(event)]


def engine(cluster: Cluster) -> LocalBackend:
    """The engine room of a cluster whose nodes are in this process."""
    assert isinstance(cluster._host, LocalBackend)
    return cluster._host


def followers(cluster: Cluster) -> list[int]:
    """The living nodes other than the leader, ascending."""
    leader = cluster.wait_for_leader()
    return [number for number, node in cluster.nodes.items() if number != leader and node.alive]


def in_thread(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Run `fn` in a thread; the function returned waits for it and returns or raises what it did."""
    outcome: list[Any] = []

    def body() -> None:
        try:
            outcome.append((fn(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=body, name="test-in-thread", daemon=True)
    thread.start()

    def join() -> Any:
        thread.join(PATIENCE)
        assert outcome, "it has not ended"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return join

"""PySyncObj, loaded so that it can be driven: the one list of what is leaned on inside it.

Every replica gets a private copy of the module `pysyncobj.syncobj`. The module's globals are then ours to set: the clock,
the dice, the poller and the journal. Two clusters in one process do not race, no pipe is opened, and another user of
PySyncObj in the same process sees nothing of it. Line numbers are those of PySyncObj 0.3.17, `syncobj.py`.
"""

from __future__ import annotations

import importlib.util
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, Protocol

from ..errors import InternalError
from ..limits import MAX_ENTRY_BYTES
from ..model import NodeId
from .journal import MemoryJournal

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2

PRIVATE_STATE = (
    "raftState",
    "raftCurrentTerm",
    "raftLeader",
    "raftElectionDeadline",
    "raftCommitIndex",
    "raftLastApplied",
    "raftNextIndex",
    "raftMatchIndex",
    "lastResponseTime",
    "otherNodes",
    "newAppendEntriesTime",
    "connectedNodes",
)
"""Private attributes of `SyncObj` that are read or set here. A test fails when an update changes one of them."""

PRIVATE_METHODS = ("doApplyCommand", "generateRaftTimeout", "onMessageReceived")
MODULE_GLOBALS = ("monotonicTime", "random", "createPoller", "createJournal", "PIPE_NOTIFIER_ENABLED", "SyncObj")


class Dice(Protocol):
    """What elections draw their timeouts from: `random.Random` or anything with its `random()`."""

    def random(self) -> float:
        """A float in [0, 1)."""
        ...


class Timing(Protocol):
    """The durations of elections, in seconds."""

    @property
    def heartbeat(self) -> float:
        """Between two messages of a leader."""
        ...

    @property
    def election_min(self) -> float:
        """The shortest silence after which a follower campaigns."""
        ...

    @property
    def election_max(self) -> float:
        """The longest."""
        ...


class _NullPoller:
    """PySyncObj polls sockets in every tick; ours are elsewhere."""

    def subscribe(self, *args: object) -> None:
        """Nothing to watch."""

    def unsubscribe(self, *args: object) -> None:
        """Nothing was watched."""

    def poll(self, timeout: float) -> None:
        """Nothing happened."""


def _raw_clock_works() -> bool:
    """False only where reading it fails: PySyncObj can do without one that is not named at all."""
    try:
        time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    except AttributeError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def _clock_that_can_be_read() -> Iterator[None]:
    """Where the clock that PySyncObj reads when it is imported is named but cannot be read, as in a browser, it gets another.

    Only PySyncObj sees it, and only meanwhile; the copies read the clock that they are given.
    """
    name = "pysyncobj.monotonic"
    if name in sys.modules or _raw_clock_works():
        yield
        return
    instead: Any = ModuleType(name)
    instead.monotonic = time.monotonic
    sys.modules[name] = instead
    try:
        yield
    finally:
        sys.modules.pop(name, None)


@cache
def _found(name: str) -> tuple[ModuleSpec, CodeType]:
    """Where a module is, and its code; looked up once, as every replica of a process runs it anew."""
    logging.getLogger("pysyncobj").addHandler(logging.NullHandler())
    # PySyncObj replaces these two for the whole process when it is imported, by ones that are for Windows only.
    kept = {one: getattr(socket, one) for one in ("inet_pton", "inet_ntop") if hasattr(socket, one)}
    try:
        with _clock_that_can_be_read():
            spec = importlib.util.find_spec(name)
    finally:
        for one, original in kept.items():
            setattr(socket, one, original)
    code = spec.loader.get_code(name) if spec is not None and isinstance(spec.loader, InspectLoader) else None
    if spec is None or code is None:
        raise InternalError(f"{name} is not installed")
    return spec, code


def _load_copy(name: str) -> Any:
    spec, code = _found(name)
    module = importlib.util.module_from_spec(spec)
    with _clock_that_can_be_read():
        exec(code, vars(module))  # noqa: S102 - what the module's loader would do, without reading the file again
    return module


class Raft:
    """One replica's PySyncObj, behind names and types of ours.

    `send(peer, message)` is called with PySyncObj's own message dictionaries, `apply(index, command)` with every
    committed regular command in order, `role_changed()` when leader, follower or candidate became another. None of them
    may raise. Nothing here is thread-safe, and nothing happens unless a method is called. Entries up to `applied` (an index)
    are taken for applied: a snapshot of the state stands for them.
    """

    def __init__(
        self,
        node: NodeId,
        peers: Iterable[NodeId],
        *,
        journal: MemoryJournal,
        applied: int,
        clock: Callable[[], float],
        dice: Dice,
        timing: Timing,
        send: Callable[[NodeId, dict[str, Any]], None],
        apply: Callable[[int, bytes], None],
        role_changed: Callable[[], None],
    ) -> None:
        module = _load_copy("pysyncobj.syncobj")
        missing = [name for name in MODULE_GLOBALS if not hasattr(module, name)]
        if missing:
            raise InternalError(f"this PySyncObj has no {', '.join(missing)}: use pysyncobj>=0.3.17,<0.4")
        module.monotonicTime = clock
        module.random = dice
        module.createPoller = lambda kind: _NullPoller()
        module.createJournal = lambda file: journal
        module.PIPE_NOTIFIER_ENABLED = False

        class _PeerNode(module.Node):  # type: ignore[misc, name-defined]
            # Hashes alike in every process: peers live in sets, whose order must repeat with a seed.
            def __init__(self, number: NodeId) -> None:
                super().__init__(str(number))
                self.number = number

            def __hash__(self) -> int:
                return self.number

        self._make_node = _PeerNode
        self._nodes: dict[NodeId, Any] = {}
        # What PySyncObj has in sets of its own objects, whose hashes cost more than a look at these.
        self._connected: set[NodeId] = set()
        self.peers: tuple[NodeId, ...] = tuple(sorted(peers))
        """The other nodes that count for majorities; nothing is sent to anybody else. Ascending."""

        def leave_it_at_that(peer: Any) -> None:
            # PySyncObj goes on to the end of the log, for up to a heartbeat, unless the peer is gone meanwhile (line 1307).
            self._get("connectedNodes").discard(peer)

        self.has_more = False
        """Leader only: whether the last messages with entries ended before the log does. Set anew by whoever takes notice."""
        served: list[Any] = []
        self._served = served

        class _Transport(module.Transport):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__(None, None, [])

            def send(self, to: Any, message: dict[str, Any]) -> bool:
                send(to.number, message)
                if message.get("entries"):
                    served.append(to)
                    leave_it_at_that(to)
                return True

        class _SyncObj(module.SyncObj):  # type: ignore[misc, name-defined]
            def _SyncObj__doApplyCommand(self, command: bytes) -> None:  # noqa: N802 - replaces line 863
                # A regular command is bytes of ours. The original unpickles it and calls a method by number.
                if command[:1] == b"\x00":
                    apply(self.raftLastApplied + 1, command[1:])
                else:
                    super()._SyncObj__doApplyCommand(command)

        conf = module.SyncObjConf(
            autoTick=False,
            # When to send is the replica's decision; with False every applied entry costs each follower a message.
            appendEntriesUseBatch=True,
            commandsWaitLeader=False,
            dynamicMembershipChange=False,
            raftMinTimeout=timing.election_min,
            raftMaxTimeout=timing.election_max,
            appendEntriesPeriod=timing.heartbeat,
            connectionTimeout=max(3.5, timing.election_max),
            # A leader that hears from no majority for this long is none (30 s as it comes: two leaders for 29 s).
            leaderFallbackTimeout=timing.election_max,
            # Larger than any entry: an entry is never cut into transmissions, whose cutting is wrong (line 1281).
            appendEntriesBatchSizeBytes=MAX_ENTRY_BYTES + 1,
            # It makes no snapshots: they are made and installed beside it, and the log is compacted under it.
            logCompactionMinEntries=2**62,
            logCompactionMinTime=2**62,
            fullDumpFile=None,
            useFork=False,
            onStateChanged=lambda old, new: role_changed(),
        )
        self._journal = journal
        self._transport = _Transport()
        self._raft = _SyncObj(
            _PeerNode(node),
            [self._node(peer) for peer in self.peers],
            conf=conf,
            nodeClass=_PeerNode,
            transport=self._transport,
        )
        absent = [name for name in PRIVATE_STATE if f"_SyncObj__{name}" not in vars(self._raft)]
        if absent:
            raise InternalError(f"this PySyncObj has no private {', '.join(absent)}: use pysyncobj>=0.3.17,<0.4")

        if applied:
            self.skip_to(applied)

    def _get(self, name: str) -> Any:
        return getattr(self._raft, f"_SyncObj__{name}")

    def _set(self, name: str, value: object) -> None:
        setattr(self._raft, f"_SyncObj__{name}", value)

    def _node(self, number: NodeId) -> Any:
        """What stands for another node, member or not."""
        if number not in self._nodes:
            self._nodes[number] = self._make_node(number)
        return self._nodes[number]

    # --- driving it

    def tick(self) -> None:
        """Let it look at its clock, commit, apply, send, and take commands (line 629). Sends a peer one message with entries."""
        self._raft.doTick(0.0)
        self._welcome_back()

    def append(self, data: bytes) -> None:
        """Hand over a command; a leader appends it in the next `tick`, anybody else drops it."""
        self._raft._applyCommand(b"\x00" + data, None)

    def deliver(self, peer: NodeId, message: dict[str, Any]) -> None:
        """Process a message of `peer` (line 891)."""
        self._transport._onMessageReceived(self._node(peer), message)
        self._welcome_back()

    def _welcome_back(self) -> None:
        """Count those as connected again who were taken for gone after a message; note whether there is more for one."""
        if self._served:
            self._get("connectedNodes").update(self._served)
            last, following = self._journal.last_index, self._get("raftNextIndex")
            self.has_more = self.role == LEADER and any(following.get(peer, last + 1) <= last for peer in self._served)
            self._served.clear()

    def connected(self, peer: NodeId) -> None:
        """Say that `peer` can be reached: messages for it are made from now on."""
        self._connected.add(peer)
        self._transport._onNodeConnected(self._node(peer))

    def disconnected(self, peer: NodeId) -> None:
        """Say that `peer` cannot be reached."""
        self._connected.discard(peer)
        self._served[:] = [one for one in self._served if one.number != peer]
        self._transport._onNodeDisconnected(self._node(peer))

    def destroy(self) -> None:
        """Take it out of use."""
        self._raft.destroy()

    # --- reading it

    @property
    def role(self) -> int:
        """FOLLOWER, CANDIDATE or LEADER."""
        return int(self._raft._SyncObj__raftState)

    @property
    def term(self) -> int:
        """The current term."""
        return int(self._raft._SyncObj__raftCurrentTerm)

    @property
    def leader(self) -> NodeId | None:
        """The node last known to lead the current term; it may be gone."""
        node = self._raft._SyncObj__raftLeader
        return None if node is None else int(node.number)

    @property
    def commit_index(self) -> int:
        """Index of the last entry known to be committed."""
        return int(self._raft._SyncObj__raftCommitIndex)

    @property
    def applied_index(self) -> int:
        """Index of the last applied entry."""
        return int(self._raft._SyncObj__raftLastApplied)

    @property
    def reachable(self) -> int:
        """How many peers are connected."""
        return len(self._connected.intersection(self.peers))

    # --- what the guard mends from outside

    def next_index(self, peer: NodeId) -> int:
        """Leader only: the index it will send `peer` next."""
        return int(self._get("raftNextIndex")[self._node(peer)])

    def set_next_index(self, peer: NodeId, index: int) -> None:
        """Leader only: change what `peer` is sent next."""
        self._get("raftNextIndex")[self._node(peer)] = index

    def match_index(self, peer: NodeId) -> int:
        """Leader only: the last index `peer` is known to hold; 0 for one that is no member."""
        return int(self._get("raftMatchIndex").get(self._node(peer), 0))

    def skip_to(self, index: int) -> None:
        """Count the entries up to `index` as committed and applied: a snapshot stands for them."""
        self._set("raftLastApplied", index)
        self._set("raftCommitIndex", max(self.commit_index, index))

    def set_peers(self, peers: Iterable[NodeId], next_index: int, now: float) -> None:
        """Change who the other members are; a new one is sent what comes from `next_index` on. Keeps what is known of the rest.

        PySyncObj's own membership changes are not used (1356-1420): its guard against two at a time does nothing.
        """
        self.peers = tuple(sorted(peers))
        wanted = {self._node(peer) for peer in self.peers}
        present = self._get("otherNodes")
        following = self._get("raftNextIndex"), self._get("raftMatchIndex"), self._get("lastResponseTime")
        for node in present - wanted:
            for known in following:
                known.pop(node, None)
        for node in wanted - present:
            for known, value in zip(following, (next_index, 0, now), strict=True):
                known[node] = value
        self._set("otherNodes", wanted)

    # --- timers

    @property
    def election_deadline(self) -> float:
        """When a follower or candidate will campaign (clock seconds); 0 means at once."""
        return float(self._raft._SyncObj__raftElectionDeadline)

    @election_deadline.setter
    def election_deadline(self, at: float) -> None:
        self._set("raftElectionDeadline", at)

    def draw_timeout(self) -> float:
        """A random election timeout (seconds)."""
        return float(self._raft._SyncObj__generateRaftTimeout())

    @property
    def heartbeat_deadline(self) -> float:
        """When a leader must send again (clock seconds)."""
        return float(self._raft._SyncObj__newAppendEntriesTime)

    @heartbeat_deadline.setter
    def heartbeat_deadline(self, at: float) -> None:
        self._set("newAppendEntriesTime", at)

    def excuse_silence(self, now: float) -> None:
        """Leader only: count every peer as heard from `now` (this process itself was asleep)."""
        times = self._get("lastResponseTime")
        for peer in times:
            times[peer] = now

"""PySyncObj, loaded so that it can be driven: the one list of what is leaned on inside it.

Every replica gets a private copy of the module `pysyncobj.syncobj`. The module's globals are then ours to set: the clock,
the dice, the poller and the journal. Two clusters in one process do not race, no pipe is opened, and another user of
PySyncObj in the same process sees nothing of it. Line numbers are those of PySyncObj 0.3.17, `syncobj.py`.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from operator import attrgetter, itemgetter
from types import CodeType, ModuleType
from typing import Any, Protocol, Self

from ..core.records import NodeId
from ..errors import InternalError
from ..limits import MAX_ENTRY_BYTES
from .journal import MemoryJournal

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2

REGULAR = b"\x00"
"""The first byte of an entry with a command of ours; those of PySyncObj begin with another."""

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

PRIVATE_METHODS = (
    "doApplyCommand",
    "generateRaftTimeout",
    "getCurrentLogIndex",
    "onMessageReceived",
    "tryLogCompaction",
)
MODULE_GLOBALS = ("monotonicTime", "random", "createPoller", "createJournal", "PIPE_NOTIFIER_ENABLED", "SyncObj")


# Deadlines with a meaning of their own (clock seconds).
_NOW = 0.0
_NEVER = float("inf")


class Dice(Protocol):
    """The source of random election timeouts: `random.Random` or anything with its `random()`."""

    def random(self) -> float:
        """Return a float in [0, 1)."""
        ...


class ElectionTiming(Protocol):
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
        """Do nothing: there is nothing to watch."""

    def unsubscribe(self, *args: object) -> None:
        """Do nothing: nothing was watched."""

    def poll(self, timeout: float) -> None:
        """Do nothing: nothing happened."""


def _raw_clock_works() -> bool:
    """Return False only where reading it fails: PySyncObj can do without one that is not named at all."""
    try:
        time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    except AttributeError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def _clock_that_can_be_read() -> Iterator[None]:
    """Give PySyncObj another clock where the one that it reads when it is imported cannot be read, as in a browser.

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
    """Return the path of a module, and its code; looked up once, as every replica of a process runs it anew."""
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


def _module(clock: Callable[[], float], dice: Dice, journal: MemoryJournal) -> Any:
    """Return a copy of PySyncObj's module that has these in place of its own."""
    module = _load_copy("pysyncobj.syncobj")
    missing = [name for name in MODULE_GLOBALS if not hasattr(module, name)]
    if missing:
        raise InternalError(f"this PySyncObj has no {', '.join(missing)}: use pysyncobj>=0.3.17,<0.4")
    module.monotonicTime = clock
    module.random = dice
    module.createPoller = lambda kind: _NullPoller()
    module.createJournal = lambda file: journal
    module.PIPE_NOTIFIER_ENABLED = False
    return module


def _node_class(module: Any) -> Any:
    """Return the class of what stands for a node in PySyncObj."""

    class _PeerNode(int, module.Node):  # type: ignore[misc]
        # A number, so that it hashes alike in every process (peers live in sets, whose order must repeat with a seed), is hashed and
        # compared without a call into Python, and is found by its number.
        def __new__(cls, number: NodeId) -> Self:
            return super().__new__(cls, number)

        def __init__(self, number: NodeId) -> None:
            module.Node.__init__(self, str(number))
            self.number = number

    return _PeerNode


def _transport_class(module: Any) -> Any:
    """Return the class of what PySyncObj sends with: `send(node, message)`."""

    class _Transport(module.Transport):  # type: ignore[misc]
        ready = True  # asked twice a tick

        def __init__(self, send: Callable[[Any, dict[str, Any]], bool]) -> None:
            super().__init__(None, None, [])
            self.send = send

    return _Transport


def _engine_class(module: Any) -> Any:
    """Make PySyncObj's class, without snapshots; our committed commands go to `apply_regular(index, command)`."""

    class _SyncObj(module.SyncObj):  # type: ignore[misc]
        apply_regular: Callable[[int, bytes], None]

        def _SyncObj__doApplyCommand(self, command: bytes) -> None:  # noqa: N802 - replaces line 863
            # A regular command is bytes of ours. The original unpickles it and calls a method by number.
            if command[:1] == REGULAR:
                self.apply_regular(self._SyncObj__raftLastApplied + 1, command[1:])
            else:
                super()._SyncObj__doApplyCommand(command)

        def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802 - replaces line 1421
            """Make no snapshots: they are made and installed beside it, and the log is compacted under it."""

    return _SyncObj


def _conf(module: Any, timing: ElectionTiming, changed: Callable[[int, int], None]) -> Any:
    return module.SyncObjConf(
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
        fullDumpFile=None,
        useFork=False,
        onStateChanged=changed,
    )


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
        timing: ElectionTiming,
        send: Callable[[NodeId, dict[str, Any]], None],
        apply: Callable[[int, bytes], None],
        role_changed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._apply = apply
        self._send = send
        self._role_changed = role_changed
        # The moment of PySyncObj's present turn (clock seconds): it looks at its clock ten times a turn, and sees one time.
        self._moment = [clock()]
        module = _module(partial(itemgetter(0), self._moment), dice, journal)
        self._make_node = _node_class(module)
        self._nodes: dict[NodeId, Any] = {}
        # What PySyncObj has in sets of its own objects, whose hashes cost more than a look at these.
        self._connected: set[NodeId] = set()
        self.peers: tuple[NodeId, ...] = tuple(sorted(peers))
        """The other voting members; nothing is sent to any other node. Ascending."""
        self.has_more = False
        """True if the last messages with entries ended before the log does (leader only). Reset by the reader."""
        self._served: list[Any] = []
        self._transport = _transport_class(module)(self._outgoing)
        self._raft: Any = _engine_class(module)(
            self._make_node(node),
            [self._node(peer) for peer in self.peers],
            conf=_conf(module, timing, self._changed),
            nodeClass=self._make_node,
            transport=self._transport,
        )
        self._raft.apply_regular = self._committed
        # Asked a dozen times per message, and so without a call into Python.
        self._raft._SyncObj__getCurrentLogIndex = partial(attrgetter("last_index"), journal)
        absent = [name for name in PRIVATE_STATE if f"_SyncObj__{name}" not in vars(self._raft)]
        if absent:
            raise InternalError(f"this PySyncObj has no private {', '.join(absent)}: use pysyncobj>=0.3.17,<0.4")

        self._show()
        if applied:
            self.skip_to(applied)

    def _show(self) -> None:
        """Have what is read of it, most of it many times for each message, as plain attributes."""
        # Invariant: as PySyncObj has it, whenever code of ours runs: read anew behind each of its own turns, and before it calls back.
        self.role = FOLLOWER
        """FOLLOWER, CANDIDATE or LEADER."""
        self.term = 0
        """The current term."""
        self.leader: NodeId | None = None
        """The node last known to lead the current term; it may be gone."""
        self.commit_index = 0
        """Index of the last entry known to be committed."""
        self.applied_index = 0
        """Index of the last applied entry."""
        self.election_due = 0.0
        """The time when a follower or candidate will campaign (clock seconds); infinity while its timer is stopped."""
        self.heartbeat_due = 0.0
        """The time when a leader must send again (clock seconds); not after now if it sends in the next `tick`."""
        self.connected_peers: tuple[NodeId, ...] = ()
        """The peers that are connected. Ascending."""
        self.reachable = 0
        """The number of connected peers."""
        self.next_indexes: dict[NodeId, int] = self._get("raftNextIndex")
        """The index that a leader sends each peer next. This and the next two are PySyncObj's own, with its nodes for keys, which equal
        their numbers; it never replaces them."""
        self.match_indexes: dict[NodeId, int] = self._get("raftMatchIndex")
        """The last index that each peer is known to hold (leader only)."""
        self.heard_at: dict[NodeId, float] = self._get("lastResponseTime")
        """The time when each peer last answered, or was excused for the own sleep (leader only; clock seconds)."""
        # Invariant: the time that stands in `heard_at` of those who have not answered since the own sleep was excused last, and when
        # each of them did answer, put off by what was slept since.
        self._excused_at = -math.inf
        self._answered_at: dict[NodeId, float] = {}
        self._read()

    def _read(self) -> None:
        raft = self._raft
        self.role = raft._SyncObj__raftState
        self.term = raft._SyncObj__raftCurrentTerm
        leader = raft._SyncObj__raftLeader
        self.leader = None if leader is None else leader.number
        self.commit_index = raft._SyncObj__raftCommitIndex
        self.applied_index = raft._SyncObj__raftLastApplied
        self.election_due = raft._SyncObj__raftElectionDeadline
        self.heartbeat_due = raft._SyncObj__newAppendEntriesTime

    def _count_reachable(self) -> None:
        self.connected_peers = tuple(peer for peer in self.peers if peer in self._connected)
        self.reachable = len(self.connected_peers)

    def _get(self, name: str) -> Any:
        return getattr(self._raft, f"_SyncObj__{name}")

    def _set(self, name: str, value: object) -> None:
        setattr(self._raft, f"_SyncObj__{name}", value)

    def _node(self, number: NodeId) -> Any:
        """Return the object that stands for another node, member or not."""
        if number not in self._nodes:
            self._nodes[number] = self._make_node(number)
        return self._nodes[number]

    # --- from PySyncObj

    def _outgoing(self, peer: Any, message: dict[str, Any]) -> bool:
        self._read()
        self._send(peer.number, message)
        if message.get("entries") or "serialized" in message:
            self._served.append(peer)
            # PySyncObj continues to the end of the log, or offers a snapshot that it does not have, for as long as its
            # clock shows less than a heartbeat more, unless the peer is gone meanwhile (lines 1307 and 1318).
            self._raft._SyncObj__connectedNodes.discard(peer)
        return True

    def _committed(self, index: int, command: bytes) -> None:
        self._read()
        self._apply(index, command)

    def _changed(self, _old: int, _new: int) -> None:
        self._read()
        self._role_changed()

    # --- driving it

    def tick(self) -> None:
        """Let it look at its clock, commit, apply, send, and take commands (line 629). Sends a peer one message with entries."""
        self._moment[0] = self._clock()
        self._raft.doTick(0.0)
        self._read()
        if self._served:
            self._welcome_back()

    def append(self, data: bytes) -> None:
        """Submit a command; a leader appends it in the next `tick`, anybody else drops it."""
        self._raft._applyCommand(REGULAR + data, None)

    def deliver(self, peer: NodeId, message: dict[str, Any]) -> None:
        """Process a message of `peer` (line 891)."""
        self._moment[0] = self._clock()
        self._transport._onMessageReceived(self._node(peer), message)
        self._read()
        if self._served:
            self._welcome_back()

    def _welcome_back(self) -> None:
        """Count those as connected again who were taken for gone after a message; note whether there is more for one."""
        raft, first, last = self._raft, self._journal.first_index, self._journal.last_index
        raft._SyncObj__connectedNodes.update(self._served)
        following = raft._SyncObj__raftNextIndex
        self.has_more = self.role == LEADER and any(
            first < following.get(peer, last + 1) <= last for peer in self._served
        )
        self._served.clear()

    def connected(self, peer: NodeId) -> None:
        """Say that `peer` can be reached: messages for it are made from now on."""
        self._connected.add(peer)
        self._count_reachable()
        self._moment[0] = self._clock()
        self._transport._onNodeConnected(self._node(peer))
        self._read()

    def disconnected(self, peer: NodeId) -> None:
        """Say that `peer` cannot be reached."""
        self._connected.discard(peer)
        self._count_reachable()
        self._served[:] = [one for one in self._served if one.number != peer]
        self._moment[0] = self._clock()
        self._transport._onNodeDisconnected(self._node(peer))
        self._read()

    def destroy(self) -> None:
        """Take it out of use."""
        self._raft.destroy()

    # --- what the fast path does in its place

    def leader_heard(self, now: float) -> None:
        """Wait a random election timeout from `now` on (clock seconds)."""
        due = now + float(self._raft._SyncObj__generateRaftTimeout())
        self.election_due = self._raft._SyncObj__raftElectionDeadline = due

    def commit_to(self, index: int) -> None:
        """Count the entries up to `index` as committed: a majority has stored them."""
        self._journal.note_committed(index)
        self.commit_index = self._raft._SyncObj__raftCommitIndex = index

    def apply_committed(self) -> None:
        """Apply what is committed, as much of it as the journal gives in one go (line 712)."""
        journal, raft = self._journal, self._raft
        begin, end = self.applied_index + 1 - journal.first_index, self.commit_index + 1 - journal.first_index
        # One, nearly always: what a slice may hold need not be found out then.
        for data, index, _ in (journal[begin],) if begin + 1 == end else journal[begin:end]:
            if data[:1] == REGULAR:
                self._apply(index, data[1:])
            else:
                raft._SyncObj__doApplyCommand(data)
            self.applied_index = raft._SyncObj__raftLastApplied = index

    # --- what the guard mends from outside

    def next_index(self, peer: NodeId) -> int:
        """Return the index that it will send `peer` next (leader only)."""
        return self.next_indexes[peer]

    def set_next_index(self, peer: NodeId, index: int) -> None:
        """Change what `peer` is sent next (leader only)."""
        self.next_indexes[self._node(peer)] = index

    def match_index(self, peer: NodeId) -> int:
        """Return the last index that `peer` is known to hold; 0 if it is no member (leader only)."""
        return self.match_indexes.get(peer, 0)

    def skip_to(self, index: int) -> None:
        """Count the entries up to `index` as committed and applied: a snapshot stands for them."""
        self._set("raftLastApplied", index)
        self._set("raftCommitIndex", max(self.commit_index, index))
        self._read()

    def set_peers(self, peers: Iterable[NodeId], next_index: int, now: float) -> None:
        """Change who the other members are; a new one is sent what comes from `next_index` on. Keeps what is known of the rest.

        PySyncObj's own membership changes are not used (1356-1420): its guard against two at a time does nothing.
        """
        self.peers = tuple(sorted(peers))
        wanted = {self._node(peer) for peer in self.peers}
        present = self._get("otherNodes")
        for node in present - wanted:
            for known in (self.next_indexes, self.match_indexes, self.heard_at):
                known.pop(node, None)
        for node in wanted - present:
            self.next_indexes[node], self.match_indexes[node], self.heard_at[node] = next_index, 0, now
        self._set("otherNodes", wanted)
        self._count_reachable()

    # --- timers: PySyncObj's two deadlines are written here, and nowhere else

    @property
    def campaigns_now(self) -> bool:
        """True if `campaign_now` was called and the next `tick` has not come yet."""
        return self.election_due == _NOW

    @property
    def election_timer_stopped(self) -> bool:
        """True if this node never campaigns."""
        return self.election_due == _NEVER

    def _set_election(self, due: float) -> None:
        self.election_due = due
        self._set("raftElectionDeadline", due)

    def campaign_now(self) -> None:
        """Campaign in the next `tick`, without asking anybody first."""
        self._set_election(_NOW)

    def restart_election_timer(self) -> None:
        """Wait a random election timeout from now on."""
        self._set_election(self._clock() + float(self._raft._SyncObj__generateRaftTimeout()))

    def stop_election_timer(self) -> None:
        """Campaign at no time, until the timer is started again."""
        self._set_election(_NEVER)

    def campaign_within(self, seconds: float) -> None:
        """Bring the election deadline forward, if it is later than that."""
        self._set_election(min(self.election_due, self._clock() + seconds))

    def campaign_not_before(self, seconds: float) -> None:
        """Put the election deadline off, if it is earlier than that."""
        self._set_election(max(self.election_due, self._clock() + seconds))

    def send_now(self) -> None:
        """Send to every peer in the next `tick` (line 652), not with the next heartbeat (leader only)."""
        self.heartbeat_due = _NOW
        self._set("newAppendEntriesTime", _NOW)

    def excuse_own_sleep(self, slack: float, now: float) -> None:
        """Do not blame, after a stall of this process until `now` (clock seconds), the peers for the silence.

        A deadline that was missed by more than `slack` seconds says that this process was late, not that a peer is
        gone.
        """
        if self.role == LEADER:
            if _NOW < self.heartbeat_due < now - slack:
                self._excuse(now)
        elif _NOW < self.election_due < now - slack:
            self.restart_election_timer()

    def _excuse(self, now: float) -> None:
        slept = now - max(self.heartbeat_due, self._excused_at)
        excused_at = math.nextafter(now, -math.inf)  # who answers right now is not taken for excused
        self._answered_at = {peer: min(self.heard_of(peer) + slept, now) for peer in self.heard_at}
        self._excused_at = excused_at
        for peer in self.heard_at:
            self.heard_at[peer] = excused_at

    def heard_of(self, peer: NodeId) -> float:
        """Return when a peer last answered, put off by what this process has slept since (leader only; clock seconds)."""
        heard_at = self.heard_at.get(peer, 0.0)
        return self._answered_at.get(peer, heard_at) if heard_at == self._excused_at else heard_at

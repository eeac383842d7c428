"""The requests of clients to a node, and its answers: typed structs as msgpack. Values of workflows stay bytes."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from ... import errors
from ...core.cluster_events import LinkDelay, OutputLine
from ...core.commands import Command, Outcome
from ...core.entry_codec import Natural
from ...core.events import ClusterEvent, StateEvent
from ...core.records import Difference, Failure, NodeId, RunId
from ...core.statistics import LogEntry, LogTail, NodeStatistics, RunCode
from ...discovery.process_identity import Process
from ...errors import ClusterError, ProtocolError, RaftoralError
from ...node.execution_queries import ExecutionEnd
from ...raft.compaction import Compaction
from ...raft.replica import Timing
from ...storage.data_directory import Durability
from ...transport.certificate import Certificate
from ...transport.messages import Digest
from ..backend_parts import NodeChange
from ..spread import NOT_SPREAD, Spread

Address = tuple[str, int]

MAX_ITEMS: Final = 1024
"""The most items of an event log in one answer."""

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""The approximate size of the part of a log or an event log in one answer (bytes); a larger item travels alone."""


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that all nodes of a cluster have in common, needed to start another one. No secrets."""

    name: str
    founders: tuple[NodeId, ...]
    data_dir: str
    temporary: bool
    """True if the directory is removed with the cluster."""
    durability: Durability
    timing: Timing
    compaction: Compaction
    proposal_timeout: float
    path: tuple[str, ...] = ()
    """The folders where modules of workflows are looked for, before the node's own `sys.path`."""
    executors: Mapping[str, bytes] = {}
    """The functions that make executors for steps, by name, shipped (`executors.executor_table`)."""
    spread: Spread = NOT_SPREAD


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a node's process is told when it starts."""

    shared: Shared
    key: bytes
    node: NodeId
    incarnation: int
    """The node's starts, this one included."""
    host: str
    port: int
    """The port to listen on; 0 for any that is free."""
    elsewhere: Mapping[NodeId, Address]
    parent: Process | None
    """The process that the node ends with; None if it outlives all others."""
    piped: bool = False
    """True if the process ends when its standard input does."""
    log_level: str | int | None = None
    remember: str | None = None
    """The file in which the node keeps where the others are; None if whoever starts it knows that."""
    certificate: Certificate | None = None
    """The certificate for TLS; without one the node may listen on loopback only."""
    codec: bytes | None = None
    """The pickle of the codec of what it writes; None without one. It may have a key, and goes no other way than to its process."""
    labels: tuple[str, ...] = ()
    """The labels of this node, where it was told of them itself; else they are those that all nodes were told of."""
    first: bool = False
    """True for the node that asks for votes at once, of those that start together, all there are."""

    def __repr__(self) -> str:
        return f"Spec(node {self.node} of {self.shared.name!r})"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a node, sent whenever it changes."""

    alive: bool
    """False while the process has no node in it, because its disk failed."""
    paused: bool = False
    held: bool = False
    acting: int | None = None
    """The term in which it acts."""
    incarnation: int = 0
    diverged: Mapping[RunId, Difference | None] = {}
    """The unfinished runs whose execution here differed from the record."""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One item of an event log: an event, a line of output, or where a node is now."""

    number: int
    time: float
    kind: str
    data: bytes
    origin: str = ""
    """The client that told it; empty if the node did."""


class Moved(msgspec.Struct, frozen=True):
    """A node listens elsewhere from here on."""

    node: NodeId
    address: Address


# --- what is asked


class Hello(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """A request for the node's identity."""


class Follow(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """A request for the event log's items after `told`. Answered when there are some, or the status has changed."""

    told: int
    status: int
    """The number of times the status had changed when it was sent last."""


class ReadLog(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """A request for the entries applied after `after`. Answered when there are some."""

    after: int


class ReadPiece(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """A piece of the snapshot that was offered last."""

    number: int


class Ask(msgspec.Struct, frozen=True, tag=5, array_like=True):
    """A request to propose a command."""

    command: Command
    timeout: float


class AskAll(msgspec.Struct, frozen=True, tag=24, array_like=True):
    """A request to propose commands together, in this order. Answered when all are decided."""

    commands: tuple[Command, ...]
    timeout: float


class ChangeNode(msgspec.Struct, frozen=True, tag=6, array_like=True):
    """A request to pause, resume, hold or release the node."""

    change: NodeChange


class Campaign(msgspec.Struct, frozen=True, tag=7, array_like=True):
    """A request to campaign now."""


class HandOver(msgspec.Struct, frozen=True, tag=8, array_like=True):
    """A request to transfer leadership to another node."""

    target: NodeId


class ChangeLinks(msgspec.Struct, frozen=True, tag=9, array_like=True):
    """A request to cut, mend or slow down links from now on."""

    cuts: tuple[tuple[NodeId, NodeId, bool], ...]
    delays: tuple[tuple[NodeId, NodeId, LinkDelay | None], ...]


class Announce(msgspec.Struct, frozen=True, tag=10, array_like=True):
    """A request to put an event into the event log, for all clients."""

    kind: str
    data: bytes
    origin: str


class Introduce(msgspec.Struct, frozen=True, tag=11, array_like=True):
    """A node listens there."""

    node: NodeId
    address: Address


class Forget(msgspec.Struct, frozen=True, tag=12, array_like=True):
    """A node left for good."""

    node: NodeId


class Look(msgspec.Struct, frozen=True, tag=13, array_like=True):
    """Tell what only the node knows: of these runs (None: of all), and so many entries of its log."""

    only: tuple[RunId, ...] | None
    entries: int


class ReadEntries(msgspec.Struct, frozen=True, tag=14, array_like=True):
    """The last entries of the log, in words."""

    last: int


class Query(msgspec.Struct, frozen=True, tag=15, array_like=True):
    """A request for the answer of a run's execution to a query. `args` are a pickled tuple."""

    run_id: RunId
    name: str
    args: bytes


class Validate(msgspec.Struct, frozen=True, tag=23, array_like=True):
    """A request for what a run's validator of an update says against an encoded value."""

    run_id: RunId
    name: str
    value: bytes


class AwaitEnd(msgspec.Struct, frozen=True, tag=16, array_like=True):
    """A request for what the execution of a run comes to."""

    run_id: RunId


class AwaitApplied(msgspec.Struct, frozen=True, tag=17, array_like=True):
    """A request that is answered when the log is applied up to an index."""

    target: int


class Boot(msgspec.Struct, frozen=True, tag=18, array_like=True):
    """Start the node again in its process, after its disk failed."""


class Stop(msgspec.Struct, frozen=True, tag=19, array_like=True):
    """A request to end the process."""


class Drop(msgspec.Struct, frozen=True, tag=20, array_like=True):
    """A note that nobody waits for the answer to a request any more. Not answered."""

    request: int


class JoinRequest(msgspec.Struct, frozen=True, tag=21, array_like=True):
    """A request for the other nodes' addresses, from a node that joins or comes back."""

    reserve: bool = False
    """True if the node is new, and a number is to be reserved for it."""


class ReadCode(msgspec.Struct, frozen=True, tag=22, array_like=True):
    """The code of a run, and where the node is in it."""

    run_id: RunId


class BringBlob(msgspec.Struct, frozen=True, tag=25, array_like=True):
    """The client has a blob of so many bytes, for a command that follows. Answered by whether the node has it."""

    digest: Digest
    size: Natural


class BringPiece(msgspec.Struct, frozen=True, tag=26, array_like=True):
    """The next piece of a blob that was announced. The last is answered when the whole is stored."""

    digest: Digest
    data: bytes
    last: bool


class ReadBlob(msgspec.Struct, frozen=True, tag=27, array_like=True):
    """A request for so many bytes of a blob, from `offset` on; answered with none if the node does not have it."""

    digest: Digest
    offset: Natural
    length: Natural


Asked = (
    Hello
    | Follow
    | ReadLog
    | ReadPiece
    | Ask
    | AskAll
    | ChangeNode
    | Campaign
    | HandOver
    | ChangeLinks
    | Announce
    | Introduce
    | Forget
    | Look
    | ReadEntries
    | Query
    | Validate
    | AwaitEnd
    | AwaitApplied
    | Boot
    | Stop
    | Drop
    | JoinRequest
    | ReadCode
    | BringBlob
    | BringPiece
    | ReadBlob
)


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One request. Answers come in any order, and name its number."""

    number: int
    asked: Asked


# --- what is answered


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The node's identity."""

    shared: Shared
    node: NodeId
    incarnation: int
    process: Process
    python: str
    status: Status
    status_number: int
    told: int
    applied: int
    members: tuple[NodeId, ...]
    elsewhere: Mapping[NodeId, Address]
    cuts: tuple[tuple[NodeId, NodeId], ...]
    delays: tuple[tuple[NodeId, NodeId, LinkDelay], ...]


class News(msgspec.Struct, frozen=True):
    """The next items of an event log. `missed` items were dropped before they could be sent."""

    items: tuple[Item, ...]
    told: int
    missed: int
    status: Status
    status_number: int


class Entries(msgspec.Struct, frozen=True):
    """Entries of the log, each with its index; `upto` is how far these go, with those that are no business of the state."""

    entries: tuple[tuple[int, bytes], ...]
    upto: int


class SnapshotOffer(msgspec.Struct, frozen=True, tag="snapshot"):
    """The log begins behind what was asked for: here is a snapshot in so many pieces, up to `index`."""

    index: int
    pieces: int


class LogAnswer(msgspec.Struct, frozen=True):
    """The answer to `ReadLog`: exactly one of both."""

    entries: Entries | None
    snapshot: SnapshotOffer | None


class NodeLook(msgspec.Struct, frozen=True):
    """The status that only the node itself knows."""

    statistics: NodeStatistics
    tail: LogTail
    refused: int
    dropped: int


class Answered(msgspec.Struct, frozen=True):
    """A query's: exactly one is set."""

    value: bytes | None
    failure: Failure | None


class Objected(msgspec.Struct, frozen=True):
    """What a validator says; None if nothing."""

    failure: Failure | None


class JoinAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a node that wants to join."""

    node: NodeId | None
    """The number that was reserved for it."""
    shared: Shared
    nodes: Mapping[NodeId, Address]


class Refusal(msgspec.Struct, frozen=True):
    """The reason why it could not be done: the name of an exception of ours, and its message."""

    kind: str
    text: str
    may_commit: bool = False


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """`told` and `applied` say how far the event log and the Raft log were when it was done."""

    number: int
    told: int
    applied: int
    body: bytes = b""
    refusal: Refusal | None = None


ANSWERS: Final[dict[type, Any]] = {
    Hello: Welcome,
    Follow: News,
    ReadLog: LogAnswer,
    ReadPiece: bytes,
    Ask: Outcome,
    AskAll: tuple[Outcome, ...],
    ChangeNode: Status,
    Look: NodeLook,
    ReadEntries: tuple[LogEntry, ...],
    Query: Answered,
    Validate: Objected,
    AwaitEnd: ExecutionEnd,
    AwaitApplied: int,
    Boot: Status,
    JoinRequest: JoinAnswer,
    ReadCode: RunCode,
    BringBlob: bool,
    ReadBlob: bytes,
}
"""The type of the answer to each request; requests not named here are answered with nothing."""

STATE_EVENTS: Final = get_args(StateEvent)
"""The events that applying entries tells: clients find them out by themselves, and they do not travel."""

# --- as bytes


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):  # a reference: what it carries goes another way
        return bytes(value)
    if isinstance(value, types.MappingProxyType):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} does not travel")


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
_request_decoder: Final = msgspec.msgpack.Decoder(Request)
_answer_decoder: Final = msgspec.msgpack.Decoder(Answer)
_body_decoders: Final = {asked: msgspec.msgpack.Decoder(kind) for asked, kind in ANSWERS.items()}
_KINDS: Final = {
    kind.__name__: msgspec.msgpack.Decoder(kind)
    for kind in (*get_args(ClusterEvent), OutputLine, Moved)
    if kind not in STATE_EVENTS
}
# The name that nodes of earlier versions send for it.
_KINDS["StrangersRefused"] = _KINDS["UnauthenticatedConnectionsRefused"]
_DECODE_ERRORS: Final = (ValueError, TypeError, OverflowError, RecursionError, MemoryError)


def encode(value: Any) -> bytes:
    """Return any of these structs, or a plain value, as bytes. Raises `ProtocolError`."""
    try:
        return _encoder.encode(value)
    except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
        raise ProtocolError(f"a {type(value).__name__} cannot be encoded: {error}") from error


def decode_request(data: bytes) -> Request:
    """Return the request of a client. Raises `ProtocolError`."""
    try:
        return _request_decoder.decode(data)
    except _DECODE_ERRORS as error:
        raise ProtocolError(f"a client sent something that is not a request: {error}") from error


def decode_answer(data: bytes) -> Answer:
    """Return the answer of a node. Raises `ProtocolError`."""
    try:
        return _answer_decoder.decode(data)
    except _DECODE_ERRORS as error:
        raise ProtocolError(f"a node sent something that is not an answer: {error}") from error


def decode_body(asked: Asked, data: bytes) -> Any:
    """Return the body of the answer to a request. Raises `ProtocolError`."""
    decoder = _body_decoders.get(type(asked))
    if decoder is None:
        return None
    try:
        return decoder.decode(data)
    except _DECODE_ERRORS as error:
        raise ProtocolError(f"not the answer to {type(asked).__name__}: {error}") from error


def packed(told: ClusterEvent | OutputLine | Moved) -> tuple[str, bytes]:
    """Return something for an event log: its kind, and itself as bytes."""
    return type(told).__name__, encode(told)


def unpacked(kind: str, data: bytes) -> ClusterEvent | OutputLine | Moved | None:
    """Undo `packed`; None for a kind that is not known here. Raises `ProtocolError`."""
    decoder = _KINDS.get(kind)
    if decoder is None:
        return None
    try:
        found: ClusterEvent | OutputLine | Moved = decoder.decode(data)
    except _DECODE_ERRORS as error:
        raise ProtocolError(f"not a {kind}: {error}") from error
    return found


def refusal(error: Exception) -> Refusal:
    """Return an exception as it travels."""
    may_commit = isinstance(error, errors.NotAcknowledgedError) and error.may_commit
    return Refusal(type(error).__name__, str(error), may_commit)


def rebuilt(refused: Refusal) -> RaftoralError:
    """Return the exception that a node raised, or a `ClusterError` that says the same."""
    kind = getattr(errors, refused.kind, None)
    if kind is errors.NotAcknowledgedError:
        return errors.NotAcknowledgedError(refused.text, may_commit=refused.may_commit)
    plain = isinstance(kind, type) and issubclass(kind, RaftoralError) and kind.__init__ is Exception.__init__
    if plain:
        assert isinstance(kind, type)
        found: RaftoralError = kind(refused.text)
        return found
    return ClusterError(f"{refused.kind}: {refused.text}")

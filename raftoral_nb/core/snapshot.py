"""The replicated state as bytes, written and read in pieces, so that no thread is kept busy for long.

A snapshot stands for the log up to its index. It is a sequence of pieces (bytes), each of which is decoded by itself; a
piece holds whole records, and each record is one definition, the head of one run, some steps of one run, one session, and
so on. Fields that `state.State`, `state.Run` and `state.Session` gain are written and read without a change here, as long
as they stay small; what can grow large has records of its own, and what follows from the rest is not written, but made when all is read.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin

import msgspec

from ..errors import SnapshotError
from . import ownership
from .records import (
    CachedStep,
    CancelRecord,
    Definition,
    Failure,
    Message,
    MoveRecord,
    NodeId,
    Record,
    RunId,
    Step,
    StepId,
    StepState,
    TimersFired,
)
from .retention import count_end, count_head, count_records
from .run_record import Binding, Run
from .state import ClientSession, Offer, State

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

FORMAT: Final = 3
"""The version of the format, raised whenever earlier versions cannot read what is written. All earlier ones can be read."""

PIECE_BYTES: Final = 128 * 1024
"""About how many bytes a piece has. One that holds a single large record (a value, a workflow's code) has as many as that."""

_RECORD_BYTES: Final = 64
"""Counted for a record beside the values in it (bytes)."""


def _written_as(kind: Any) -> Any:
    # The encoder knows no deque.
    return list.__class_getitem__(get_args(kind)) if get_origin(kind) is deque else kind


def _field(one: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    # With its default: snapshots of earlier versions lack the fields that came later.
    kind = _written_as(one.type)
    if one.default is not msgspec.NODEFAULT:
        return one.name, kind, one.default
    if one.default_factory is not msgspec.NODEFAULT:
        return one.name, kind, msgspec.field(default_factory=one.default_factory)
    return one.name, kind


def _head_of(struct: type[Any], name: str, without: frozenset[str], **others: Any) -> Any:
    fields = [_field(one) for one in msgspec.structs.fields(struct) if one.name not in without]
    options: dict[str, Any] = {"forbid_unknown_fields": True}
    return msgspec.defstruct(name, [*others.items(), *fields], **options)


_NOT_IN_HEADS: Final = {
    State: frozenset(
        {
            "definitions",
            "runs",
            "evicted",
            "deleted",
            "sessions",
            "finished_bytes",
            "blob_runs",
            "cache",
            "offers",
            "assignments",
            "owned",
        }
    ),
    Run: frozenset(
        {"definition", "records", "by_id", "kept_bytes", "blobs", "step_states", "owner", "assigned", "bound"}
    ),
}
"""The fields that are in records of their own, and those that follow from others."""
_StateHead: Final = _head_of(State, "_StateHead", _NOT_IN_HEADS[State])
_RunHead: Final = _head_of(Run, "_RunHead", _NOT_IN_HEADS[Run], code=int)


class _Names(msgspec.Struct):
    """The names of the entries of the definitions' table."""

    registered: list[tuple[str, int, int]]


# A record is an array of its tag and what it holds. Tags are for ever: data directories hold what earlier versions wrote.


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A record of a snapshot."""


class _HeadRecord(_Record, frozen=True, tag=0):
    """The first record: the format, and the state's head, which is decoded once the format is known to be ours."""

    head: tuple[int, msgspec.Raw]


class _DefinitionRecord(_Record, frozen=True, tag=1):
    """An entry of the table of definitions."""

    definition: Definition


class _NamesRecord(_Record, frozen=True, tag=2):
    """The names of definitions, behind all of them."""

    names: _Names


class _RunRecord(_Record, frozen=True, tag=3):
    """The head of a run, which begins with it."""

    head: _RunHead  # type: ignore[valid-type]


class _StepsRecord(_Record, frozen=True, tag=4):
    """Steps of the run that began last, one after the other in its records."""

    steps: list[Step]


class _EvictedRecord(_Record, frozen=True, tag=5):
    """Evicted runs."""

    run_ids: list[RunId]


class _AgainRecord(_Record, frozen=True, tag=12):
    """The last generations of evicted runs, behind their ids; of a run that is not here it was the first."""

    generations: list[tuple[RunId, int]]


class _DeletedRecord(_Record, frozen=True, tag=13):
    """Deleted runs, with their last generations."""

    generations: list[tuple[RunId, int]]


class _SessionRecord(_Record, frozen=True, tag=6):
    """One client's session."""

    session: tuple[str, ClientSession]


class _EndRecord(_Record, frozen=True, tag=7):
    """The last record: how many there were before it."""

    records: int


class _MessagesRecord(_Record, frozen=True, tag=8):
    """Messages to the run that began last, one after the other in its records (in the first format: those that waited, behind them)."""

    messages: list[Message]


class _TimersRecord(_Record, frozen=True, tag=9):
    """Timers that fired, of the run that began last, one after the other in its records."""

    timers: list[TimersFired]


class _CancelRecord(_Record, frozen=True, tag=10):
    """The request to cancel the run that began last, in its records."""

    cancels: list[CancelRecord]


class _MovesRecord(_Record, frozen=True, tag=11):
    """Moves of the run that began last, one after the other in its records."""

    moves: list[MoveRecord]


class _StepStatesRecord(_Record, frozen=True, tag=14):
    """What open steps saved of the run that began last, behind its records."""

    states: list[StepState]


class _CacheRecord(_Record, frozen=True, tag=15):
    """Results in the cache of steps, the one that was used last behind all others."""

    cached: list[CachedStep]


class _OffersRecord(_Record, frozen=True, tag=17):
    """What nodes offered to do, and how many assignments were made. Where none was there is no such record."""

    offers: list[tuple[NodeId, Offer]]
    assignments: int


class _OwnerRecord(_Record, frozen=True, tag=18):
    """The owner of the run that began last, and the number of its assignment. One that was never assigned has no such record."""

    owner: NodeId
    number: int


class _BoundRecord(_Record, frozen=True, tag=16):
    """Bound steps of the run that began last, behind its records."""

    bound: list[tuple[StepId, Binding]]


_AnyRecord = (
    _HeadRecord
    | _DefinitionRecord
    | _NamesRecord
    | _RunRecord
    | _StepsRecord
    | _EvictedRecord
    | _AgainRecord
    | _DeletedRecord
    | _SessionRecord
    | _EndRecord
    | _MessagesRecord
    | _TimersRecord
    | _CancelRecord
    | _MovesRecord
    | _StepStatesRecord
    | _CacheRecord
    | _BoundRecord
    | _OffersRecord
    | _OwnerRecord
)

_encoder = msgspec.msgpack.Encoder()
_piece_decoder: msgspec.msgpack.Decoder[list[_AnyRecord]] = msgspec.msgpack.Decoder(list[_AnyRecord])
_head_decoder: Final = msgspec.msgpack.Decoder(_StateHead)

# --- Writing ----------------------------------------------------------------------------------------------------------


class Frozen:
    """A state as it is at one moment, while the state itself changes: `pieces()` writes it later, bit by bit.

    Taking it copies no values and no steps, only lists of what there is: about a millisecond for a thousand runs. That is
    enough because steps, definitions and answers never change, and a run's steps are only added to.
    """

    def __init__(self, state: State) -> None:
        self.index = state.index
        self._head = _StateHead(**_fields(state, _NOT_IN_HEADS[State]))
        self._registered = list(state.definitions.values())
        self._runs = [
            (
                _fields(run, _NOT_IN_HEADS[Run]),
                run.definition,
                run.records,
                len(run.records),
                list(run.step_states.values()),
                (run.owner, run.assigned),
                list(run.bound.items()),
            )
            for run in state.runs.values()
        ]
        self._evicted = list(state.evicted)
        self._again = [one for one in state.evicted.items() if one[1] > 1]
        self._deleted = list(state.deleted.items())
        self._cache = list(state.cache.values())
        self._offers, self._assignments = list(state.offers.items()), state.assignments
        self._sessions = [
            (client, ClientSession(**_fields(session, frozenset()))) for client, session in state.sessions.items()
        ]

    def pieces(self, size: int = PIECE_BYTES) -> Iterator[bytes]:
        """Return the snapshot in pieces of about `size` bytes (at least one). To be gone through once."""
        piece: list[_AnyRecord] = []
        total = count = 0
        for record, weight in self._records(size):
            if piece and total + weight > size:
                yield _encoder.encode(piece)
                piece, total = [], 0
            piece.append(record)
            total += weight
            count += 1
        piece.append(_EndRecord(count))
        yield _encoder.encode(piece)

    def _records(self, size: int) -> Iterator[tuple[_AnyRecord, int]]:
        """Return every record, with about how many bytes it takes."""
        head = msgspec.Raw(_encoder.encode(self._head))
        yield _HeadRecord((FORMAT, head)), _RECORD_BYTES + sum(map(len, self._head.finished))
        # Runs hold definitions that were replaced since; each is written once, and known by its place.
        table: dict[int, int] = {}
        used = (definition for _, definition, *_ in self._runs)
        for definition in itertools.chain(self._registered, used):
            if id(definition) not in table:
                table[id(definition)] = len(table)
                yield _DefinitionRecord(definition), _RECORD_BYTES + len(definition.code) + _texts(definition)
        names = [(one.workflow, one.version, table[id(one)]) for one in self._registered]
        yield _NamesRecord(_Names(names)), _RECORD_BYTES * (len(names) + 1)
        for fields, definition, records, count, states, owner, bound in self._runs:
            yield _RunRecord(_RunHead(code=table[id(definition)], **fields)), _weight_of_head(fields)
            for kind, alike in itertools.groupby(itertools.islice(records, count), type):
                yield from _slices(_SLICES[kind], alike, _weight_of, size)
            yield from _slices(_StepStatesRecord, states, _weight_of_state, size)
            if owner[1]:
                yield _OwnerRecord(*owner), _RECORD_BYTES
            yield from _slices(_BoundRecord, bound, _weight_of_bound, size)
        if self._assignments or self._offers:
            yield _OffersRecord(self._offers, self._assignments), _RECORD_BYTES * (1 + len(self._offers))
        yield from _slices(_EvictedRecord, self._evicted, len, size)
        yield from _slices(_AgainRecord, self._again, _weight_of_id, size)
        yield from _slices(_DeletedRecord, self._deleted, _weight_of_id, size)
        yield from _slices(_CacheRecord, self._cache, _weight_of_cached, size)
        for client, session in self._sessions:
            yield _SessionRecord((client, session)), _RECORD_BYTES * (len(session.answers) + 1)


def _fields(struct: Any, without: frozenset[str]) -> dict[str, Any]:
    """Return a struct's fields, those that hold something that changes in place as copies."""
    found = {}
    for name in struct.__struct_fields__:
        if name not in without:
            value = getattr(struct, name)
            if isinstance(value, deque):
                value = list(value)
            elif isinstance(value, dict | list):
                value = value.copy()
            found[name] = value
    return found


def _slices(
    record: Callable[[list[T]], _AnyRecord], items: Iterable[T], weight: Callable[[T], int], size: int
) -> Iterator[tuple[_AnyRecord, int]]:
    found: list[T] = []
    total = 0
    for item in items:
        one = weight(item) + _RECORD_BYTES
        if found and total + one > size:
            yield record(found), total
            found, total = [], 0
        found.append(item)
        total += one
    if found:
        yield record(found), total


_SLICES: Final[dict[type[Any], Callable[[list[Any]], _AnyRecord]]] = {
    Step: _StepsRecord,
    Message: _MessagesRecord,
    TimersFired: _TimersRecord,
    CancelRecord: _CancelRecord,
    MoveRecord: _MovesRecord,
}


def _weight_of_id(one: tuple[RunId, int]) -> int:
    return len(one[0])


def _weight_of(record: Record) -> int:
    match record:
        case Step():
            return _weight_of_outcome(record.value, record.failure) + len(record.step_id)
        case Message():
            return _weight_of_outcome(record.value, record.failure) + len(record.message_id) + len(record.name)
        case CancelRecord():
            return len(record.reason)
        case _:
            return 0


def _weight_of_state(state: StepState) -> int:
    return len(state.value) + len(state.step_id)


def _weight_of_bound(one: tuple[StepId, Binding]) -> int:
    return len(one[0]) + len(one[1].group) + len(one[1].where)


def _weight_of_cached(cached: CachedStep) -> int:
    return len(cached.value) + len(cached.inputs) + len(cached.source.step_id)


def _weight_of_outcome(value: bytes | None, failure: Failure | None) -> int:
    if failure is not None:
        return len(failure.message) + len(failure.traceback) + len(failure.exception or b"")
    return len(value or b"")


def _weight_of_head(head: dict[str, Any]) -> int:
    texts = sum(len(value) for value in head.values() if isinstance(value, bytes | str))
    return _RECORD_BYTES * (1 + sum(len(value) for value in head.values() if isinstance(value, dict | list))) + texts


def _texts(definition: Definition) -> int:
    return sum(map(len, definition.sources.values()))


# --- Reading ----------------------------------------------------------------------------------------------------------


class Reader:
    """The reader that builds a state from the pieces of a snapshot, one `feed` after another."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._definitions: list[Definition] = []
        self._run: Run | None = None
        self._of_run: list[Record] = []
        self._records = 0
        self._format = FORMAT
        self._whole = False

    def feed(self, piece: bytes) -> None:
        """Take the next piece. Raises `SnapshotError` for one that is damaged, out of place or of another version."""
        try:
            for record in _piece_decoder.decode(piece):
                self._take(record)
        except (ValueError, TypeError, IndexError, OverflowError, RecursionError) as error:
            raise SnapshotError(f"the snapshot cannot be read from record {self._records} on: {error}") from error

    def state(self) -> State:
        """Return the state that was read. Raises `SnapshotError` if pieces are missing."""
        if self._state is None or not self._whole:
            raise SnapshotError(f"the snapshot is not complete: it breaks off after record {self._records}")
        return self._state

    def _take(self, record: _AnyRecord) -> None:
        if self._whole:
            raise ValueError("there is data after its end")
        if isinstance(record, _HeadRecord):
            self._begin(*record.head)
            self._records += 1
            return
        state = self._state
        if state is None:
            raise ValueError("it does not begin with a head")
        match record:
            case _DefinitionRecord(definition=definition):
                self._definitions.append(definition)
            case _NamesRecord(names=names):
                for workflow, version, place in names.registered:
                    state.definitions[workflow, version] = self._definitions[place]
            case _RunRecord():
                head: Any = record.head
                fields = {name: getattr(head, name) for name in head.__struct_fields__ if name != "code"}
                self._end_run()
                self._run = Run(definition=self._definitions[head.code], **fields)
                if self._format == 1:
                    self._run.time = self._run.begun_at = self._run.start_time
                state.runs[self._run.run_id] = self._run
                count_head(state, self._run)
            case _StepsRecord(steps=steps):
                run = self._begun_run("steps")
                self._of_run.extend(steps)
                count_records(state, run, steps)
                run.by_id.update((step.step_id, step) for step in steps)
            case _EvictedRecord(run_ids=run_ids):
                state.evicted.update(OrderedDict.fromkeys(run_ids, 1))
            case _AgainRecord(generations=generations):
                state.evicted.update(generations)
            case _DeletedRecord(generations=generations):
                state.deleted.update(generations)
            case _SessionRecord(session=(client, session)):
                state.sessions[client] = session
            case _EndRecord(records=records):
                if records != self._records:
                    raise ValueError(f"it should have {records} records")
                self._end_run()
                self._whole = True
            case _MessagesRecord(messages=messages):
                run = self._begun_run("messages")
                self._of_run.extend(messages)
                count_records(state, run, messages)
                if self._format == 1:
                    run.received += sum(message.kind != "child" for message in messages)
            case _TimersRecord(timers=timers):
                self._begun_run("timers")
                self._of_run.extend(timers)
            case _CancelRecord(cancels=cancels):
                self._begun_run("a request to cancel")
                self._of_run.extend(cancels)
            case _MovesRecord(moves=moves):
                self._begun_run("moves")
                self._of_run.extend(moves)
            case _StepStatesRecord(states=states):
                run = self._begun_run("what steps saved")
                run.step_states.update((one.step_id, one) for one in states)
            case _:
                self._take_beside(state, record)
        self._records += 1

    def _take_beside(self, state: State, record: _AnyRecord) -> None:
        """Take what is beside the records of runs: who does their steps, and results in the cache."""
        match record:
            case _OffersRecord(offers=offers, assignments=assignments):
                state.offers.update(offers)
                state.assignments = assignments
            case _OwnerRecord(owner=owner, number=number):
                run = self._begun_run("an owner")
                run.owner, run.assigned = owner, number
                ownership.loaded(state, run)
            case _BoundRecord(bound=bound):
                self._begun_run("bound steps").bound.update(bound)
            case _CacheRecord(cached=cached):
                state.cache.update((one.key, one) for one in cached)

    def _begun_run(self, what: str) -> Run:
        if self._run is None:
            raise ValueError(f"{what} come before any run begins")
        return self._run

    def _end_run(self) -> None:
        if self._run is not None and self._state is not None:
            count_end(self._state, self._run)
            self._run.records = self._of_run if self._run.unfinished else tuple(self._of_run)
            self._of_run = []

    def _begin(self, written_format: int, head: msgspec.Raw) -> None:
        if self._state is not None:
            raise ValueError("a second head")
        if not 1 <= written_format <= FORMAT:
            raise SnapshotError(f"the snapshot has format {written_format}, this version reads formats up to {FORMAT}")
        self._format = written_format
        found = _head_decoder.decode(head)
        fields = {name: getattr(found, name) for name in found.__struct_fields__}
        fields["finished"] = deque(found.finished)
        self._state = State(**fields)

"""What runs keep, and how it goes again: accounts of bytes and blobs, eviction of finished runs, deletion. Part of `apply`, and as pure.

Which finished runs stay is decided by the log alone: `keep_runs` and `keep_bytes` are part of the state, so every node evicts the same runs at the
same entry. The run that was used longest ago goes first: a use is its end, and each time a workflow asks for it again as its child. The one
that was used last always stays, however large it is.

**What becomes of a run_id.** It stands for one run, so that a start which is repeated starts nothing twice; hence a start from outside, or of a
detached child, is refused once its run is evicted: nobody could tell any more whether that is what was meant. Not so a child that its parent waits
for. The parent asks for a result, under an id that says what of (`cache/fit/3`); the result is gone, to refuse would let the parent fail for ever, and
so the child runs again (the command says so: what logs of earlier versions refused stays refused). A deleted run's id is free for everyone. Whatever has an id that was used before begins in the next
`generation`, so that nothing that is late, and was meant for the run before, is taken for its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..limits import MAX_EVICTED_AT_ONCE
from .blob_refs import REFERENCE_MARK, BlobRef, reference
from .commands import DeleteRun, SetRetention
from .events import BlobsDropped, CommandRefused, RetentionSet, RunDeleted, RunEvicted, StateEvent
from .records import Message, Step
from .state import Retention

if TYPE_CHECKING:
    from collections import OrderedDict
    from collections.abc import Iterable, Iterator

    from .records import Failure, Record, RunId
    from .run_record import Run
    from .state import State

Events = tuple[StateEvent, ...]

# --- accounts


def count(state: State, run: Run, value: bytes | None, failure: Failure | None) -> None:
    """Count what one more value or failure keeps that a run has already been given."""
    if run.format == 1:
        # A step may have taken what was a message before. Such runs are of a time before there were blobs.
        count_anew(state, run)
    else:
        _add(state, run, value, failure)


def _add(state: State, run: Run, value: bytes | None, failure: Failure | None) -> None:
    run.kept_bytes += _size(value, failure, run.blobs)
    ref = reference(value)
    if ref is not None and ref.digest not in run.blobs:
        run.blobs[ref.digest] = ref.size
        state.blob_runs[ref.digest] = state.blob_runs.get(ref.digest, 0) + 1


def count_anew(state: State, run: Run) -> list[StateEvent]:
    """Count what a run keeps from scratch, as some of it was dropped; say which blobs nobody refers to any more."""
    before = run.blobs
    run.kept_bytes, run.blobs = counted(run)
    for digest in run.blobs:
        if digest not in before:
            state.blob_runs[digest] = state.blob_runs.get(digest, 0) + 1
    return _dropped(state, [digest for digest in before if digest not in run.blobs])


def counted(run: Run) -> tuple[int, dict[str, int]]:
    """Return the bytes that a run keeps, and its blobs with their sizes. Looks at every record."""
    blobs: dict[str, int] = {}
    total = 0
    for value, failure in _kept(run):
        total += _size(value, failure, blobs)
        ref = reference(value)
        if ref is not None:
            blobs[ref.digest] = ref.size
    return total, blobs


def count_head(state: State, run: Run) -> None:
    """Begin the account of a run that is read from a snapshot; `count_records` goes on, and `count_end` is last."""
    _add(state, run, run.input, None)


def count_records(state: State, run: Run, records: Iterable[Step | Message]) -> None:
    """Count records of a run that are read from a snapshot, in their order."""
    for record in records:
        value = record.value
        if value is not None and value[:1] != REFERENCE_MARK and record.failure is None:
            run.kept_bytes += len(value)
        else:
            _add(state, run, value, record.failure)


def count_end(state: State, run: Run) -> None:
    """End the account of a run that is read from a snapshot."""
    _add(state, run, run.result, run.failure)
    if not run.unfinished:
        state.finished_bytes += run.kept_bytes


def refs_of(state: State) -> list[BlobRef]:
    """Return references to all blobs that are needed, each once. Looks at every run."""
    sizes: dict[str, int] = {}
    for run in state.runs.values():
        sizes.update(run.blobs)
    sizes.update((ref.digest, ref.size) for ref in side_refs(state))
    return [BlobRef(digest, size) for digest, size in sizes.items()]


def side_refs(state: State) -> list[BlobRef]:
    """Return references to the blobs that saved states of open steps and the cache refer to. They are in no account. Looks at every run."""
    values = [cached.value for cached in state.cache.values()]
    values += [saved.value for run in state.runs.values() if run.step_states for saved in run.step_states.values()]
    return [ref for value in values if (ref := reference(value)) is not None]


def _kept(run: Run) -> Iterator[tuple[bytes | None, Failure | None]]:
    yield run.input, None
    records: Iterable[Record] = run.records
    for record in records:
        if isinstance(record, Step | Message):
            yield record.value, record.failure
    yield run.result, run.failure


def _size(value: bytes | None, failure: Failure | None, blobs: dict[str, int]) -> int:
    if failure is not None:
        texts = len(failure.type_name) + len(failure.message) + len(failure.traceback)
        return texts + len(failure.exception or b"") + len(value or b"")
    if value is None:
        return 0
    ref = reference(value)
    return len(value) if ref is None or ref.digest in blobs else len(value) + ref.size


def _dropped(state: State, digests: Iterable[str]) -> list[StateEvent]:
    """Note that a run does not refer to blobs any more; say which ones no run does."""
    nobody = []
    for digest in digests:
        state.blob_runs[digest] -= 1
        if not state.blob_runs[digest]:
            del state.blob_runs[digest]
            nobody.append(digest)
    return [BlobsDropped(tuple(nobody))] if nobody else []


# --- what goes


def ended(state: State, run: Run) -> None:
    """Note that a run has ended: from here on it is one of those that may be evicted."""
    state.finished.append(run.run_id)
    state.finished_bytes += run.kept_bytes


def used(state: State, run: Run) -> None:
    """Note that a workflow asked for a run again as its child: if it has ended, it is the last to be evicted now."""
    if not run.unfinished and state.finished[-1] != run.run_id:
        state.finished.remove(run.run_id)
        state.finished.append(run.run_id)


def evict(state: State) -> list[StateEvent]:
    """Drop the finished runs that are too many, or too large together; a limited number at once."""
    events: list[StateEvent] = []
    keeps, finished = state.keeps, state.finished
    for _ in range(MAX_EVICTED_AT_ONCE):
        many = len(finished) > keeps.keep_runs
        if not many and (state.finished_bytes <= keeps.keep_bytes or len(finished) <= 1):
            break
        run = state.runs[finished.popleft()]
        event = RunEvicted(run.run_id, "keep_runs" if many else "keep_bytes")
        events += [event, *_drop(state, run, state.evicted)]
    return events


def delete(state: State, command: DeleteRun, _index: int) -> Events:
    """Drop the records of a run that has ended."""
    run = state.runs.get(command.run_id)
    if run is None:
        return (CommandRefused("unknown_run", gone(state, command.run_id)),)
    if run.unfinished:
        reason = f"run {run.run_id!r} has not ended ({run.status}): cancel or terminate it first"
        return (CommandRefused("run_unfinished", reason),)
    if run.generation != command.generation:
        return (CommandRefused("stale_generation", f"run {run.run_id!r} is in generation {run.generation} by now"),)
    state.finished.remove(run.run_id)
    return (RunDeleted(run.run_id), *_drop(state, run, state.deleted))


def _drop(state: State, run: Run, where: OrderedDict[RunId, int]) -> list[StateEvent]:
    """Drop a run that is not in `finished` any more, and remember its id."""
    del state.runs[run.run_id]
    state.finished_bytes -= run.kept_bytes
    where[run.run_id] = run.generation
    while len(where) > state.limits.evicted_run_ids:
        where.popitem(last=False)
    return _dropped(state, run.blobs)


def set_retention(state: State, command: SetRetention, _index: int) -> Events:
    """Keep more finished runs, or fewer."""
    now = state.keeps
    asked = Retention(
        now.keep_runs if command.keep_runs is None else command.keep_runs,
        now.keep_bytes if command.keep_bytes is None else command.keep_bytes,
    )
    if asked == state.retention:
        return ()
    state.retention = asked
    return (RetentionSet(asked.keep_runs, asked.keep_bytes), *evict(state))


# --- ids that were used before


def take_id(state: State, run_id: RunId) -> int:
    """Take an id for a run that is started; returns the generation that it begins in."""
    before = state.evicted.pop(run_id, 0)
    return 1 + max(before, state.deleted.pop(run_id, 0))


def gone(state: State, run_id: RunId) -> str:
    """Return why a run is not known, as a sentence without its end."""
    if run_id in state.evicted:
        return f"run {run_id!r} has finished, and its records were evicted ({options_text(state.keeps)})"
    return f"run {run_id!r} was deleted" if run_id in state.deleted else f"no run {run_id!r} is known"


def options_text(keeps: Any) -> str:
    """Return the two options as they are written in code."""
    return f"keep_runs={keeps.keep_runs}, keep_bytes={keeps.keep_bytes}"

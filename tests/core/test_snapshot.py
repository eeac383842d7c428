"""A snapshot holds the whole state, in pieces that are read one by one, and shows when it is not what was written."""

from __future__ import annotations

import contextlib
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from raftoral_nb.core.apply import apply_entry
from raftoral_nb.core.commands import Committed, Entry, RegisterWorkflow
from raftoral_nb.core.run_record import Run
from raftoral_nb.core.snapshot import PIECE_BYTES, Frozen, Reader
from raftoral_nb.core.state import ClientSession, State, summary
from raftoral_nb.errors import SnapshotError
from tests.core.commands import checkpoint, definition, done, end, running
from tests.core.histories import TINY, entries, replica


def written(state: State, size: int = PIECE_BYTES) -> list[bytes]:
    return list(Frozen(state).pieces(size))


def read(pieces: list[bytes]) -> State:
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
    return reader.state()


@given(st.lists(entries, max_size=12), st.lists(entries, max_size=6), st.sampled_from([1, 100, 1000]))
def test_a_state_that_was_written_and_read_is_the_same_and_goes_on_alike(
    before: list[Entry], after: list[Entry], size: int
) -> None:
    state, _ = replica(before, TINY)
    copy = read(written(state, size))
    assert summary(copy) == summary(state)
    for index, entry in enumerate(after, state.index + 1):
        assert apply_entry(copy, index, entry) == apply_entry(state, index, entry)
    assert summary(copy) == summary(state)


@given(st.lists(entries, max_size=8), st.lists(entries, min_size=1, max_size=8))
def test_what_is_written_is_the_state_at_the_moment_of_freezing_whatever_is_applied_meanwhile(
    before: list[Entry], meanwhile: list[Entry]
) -> None:
    state, _ = replica(before, TINY)
    then = summary(replica(before, TINY)[0])
    pieces = Frozen(state).pieces(60)
    made = [next(pieces)]
    for index, entry in enumerate(meanwhile, state.index + 1):
        apply_entry(state, index, entry)
        made += [piece for piece in [next(pieces, None)] if piece is not None]
    assert summary(read([*made, *pieces])) == then


def test_what_nodes_apply_alike_they_write_alike() -> None:
    one, other = running("r1", "r2"), running("r1", "r2")
    assert written(one, 50) == written(other, 50)


def test_pieces_are_about_as_large_as_asked_for_and_one_large_value_makes_one_large_piece() -> None:
    state = running("r1")
    for number in range(500):
        done(state, checkpoint(f"{number}/small", bytes(90)))
    done(state, checkpoint("500/large", bytes(50_000)))
    sizes = [len(piece) for piece in written(state, 2000)]
    assert len([size for size in sizes if size > 2100]) == 1
    assert max(sizes) < 52_000
    assert len(sizes) > 25


def test_runs_that_share_a_definition_share_it_afterwards_and_each_is_written_once() -> None:
    state = running("r1", "r2")
    done(state, end("r1"))
    done(state, end("r2"))
    done(state, RegisterWorkflow(definition("f2", code=b"new code")))
    copy = read(pieces := written(state))
    assert copy.runs["r1"].definition is copy.runs["r2"].definition
    assert copy.runs["r1"].definition == definition("f1")
    assert copy.definitions["order", 1] == definition("f2", code=b"new code")
    assert sum(piece.count(b"async def order") for piece in pieces) == 2


def test_every_field_of_state_run_and_session_comes_back() -> None:
    """A field that is added to them must be written too, whatever its type."""
    state = running("r1", "r2", "r3")
    done(state, checkpoint())
    done(state, end("r1"))
    done(state, end("r2", None, failure=msgspec.convert({"type_name": "E", "message": "m"}, _failure())))
    state.evicted.update({"gone": 1, "again": 3})
    state.deleted["deleted"] = 2
    state.evicted_birth = 3
    state.sessions["0.1.a"] = ClientSession(7, 2, {3: Committed(5)}, [3])
    state.commands, state.entries, state.checkpoints = 11, 12, 13
    copy = read(written(state))
    for one, same in [(state, copy), *((state.runs[name], copy.runs[name]) for name in state.runs)]:
        for name in one.__struct_fields__:
            assert type(getattr(one, name)) is type(getattr(same, name)), name
            assert getattr(one, name) == getattr(same, name), name
    assert isinstance(copy.runs["r3"], Run)


def _failure() -> Any:
    from raftoral_nb.core.records import Failure

    return Failure


# --- what is not a snapshot


def test_a_snapshot_that_lacks_a_piece_is_not_taken_for_whole() -> None:
    pieces = written(running("r1"), 50)
    assert len(pieces) > 3
    with pytest.raises(SnapshotError, match="not complete"):
        read(pieces[:-1])
    with pytest.raises(SnapshotError, match="not complete"):
        read([])
    with pytest.raises(SnapshotError, match="should have"):
        read([pieces[0], *pieces[2:]]) if b"order" not in pieces[1] else read([*pieces[:2], *pieces[3:]])


def test_pieces_out_of_order_or_behind_the_end_are_refused() -> None:
    pieces = written(running("r1"), 50)
    with pytest.raises(SnapshotError, match="begin with a head"):
        read(pieces[1:])
    with pytest.raises(SnapshotError, match="after its end"):
        read([*pieces, pieces[1]])
    with pytest.raises(SnapshotError, match="second head"):
        read([pieces[0], pieces[0]])


def test_a_snapshot_of_another_version_is_refused_by_name() -> None:
    piece = written(running("r1"), 1)[0]
    ((kind, (_, head)),) = msgspec.msgpack.decode(piece)
    with pytest.raises(SnapshotError, match="has format 99, this version reads formats up to 3"):
        Reader().feed(msgspec.msgpack.encode([[kind, [99, head]]]))


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_gives_a_snapshot_error_or_a_state_and_never_another_exception(place: int, bit: int) -> None:
    """Detecting every flip is the business of who stores pieces; here nothing may crash."""
    pieces = written(running("r1", "r2"), 100)
    joined = bytearray(b"".join(pieces))
    joined[place % len(joined)] ^= 1 << bit
    position, damaged = 0, []
    for piece in pieces:
        damaged.append(bytes(joined[position : position + len(piece)]))
        position += len(piece)
    with contextlib.suppress(SnapshotError):
        read(damaged)


def test_steps_keep_their_order_over_pieces() -> None:
    state = running("r1")
    for number in range(50):
        done(state, checkpoint(f"{number}/s", b"v"))
    steps = read(written(state, 200)).runs["r1"].steps
    assert [step.step_id for step in steps] == [f"{number}/s" for number in range(50)]


@pytest.mark.parametrize(
    ("tag", "what"), [(4, "steps"), (8, "messages"), (9, "timers"), (10, "a request to cancel"), (11, "moves")]
)
def test_what_belongs_to_a_run_is_refused_before_any_run_begins(tag: int, what: str) -> None:
    (piece,) = written(State())
    head, *_ = msgspec.msgpack.decode(piece)
    with pytest.raises(SnapshotError, match=f"{what} come before any run begins"):
        Reader().feed(msgspec.msgpack.encode([head, [tag, []]]))

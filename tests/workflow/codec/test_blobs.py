"""Large values become blobs: laid out so that they can be mapped, found by their digest, and never changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftoral_nb import limits
from raftoral_nb.core.blob_refs import reference
from raftoral_nb.errors import BlobMissingError, DamagedBlobError
from raftoral_nb.raft.blob_store import MemoryBlobs
from raftoral_nb.workflow.codec import blobs, values

LARGE = limits.BLOB_BYTES + 1


def carried(value: object) -> blobs.Carried:
    data = values.encode(value, what="a value")
    assert isinstance(data, blobs.Carried)
    return data


@given(st.binary(max_size=300), st.lists(st.binary(max_size=300), max_size=5))
def test_a_blob_has_its_pickle_and_buffers_each_where_it_can_be_mapped(pickled: bytes, buffers: list[bytes]) -> None:
    made = blobs.Pickled(pickled, [memoryview(buffer) for buffer in buffers])
    whole = blobs.InMemory(made.whole())
    assert made.size == whole.size
    assert b"".join(made.pieces()) == b"".join(whole.pieces())
    assert blobs.digest_of(made) == blobs.digest_of(whole)
    for private in (False, True):
        found, others = blobs.parts(whole, private=private)
        assert bytes(found) == pickled
        assert [bytes(one) for one in others] == buffers
        base = np.frombuffer(whole.view(private=False), "u1").ctypes.data if private is False else None
        for one in (found, *others):
            if base is not None and one.nbytes:
                assert (np.frombuffer(one, "u1").ctypes.data - base) % blobs.ALIGNMENT == 0


@given(st.binary(max_size=200))
@example(blobs.COMPRESSED)
@example(blobs.COMPRESSED + b"no frame")
@example(blobs.MAGIC)
def test_what_is_no_blob_is_told_as_that(data: bytes) -> None:
    with pytest.raises(DamagedBlobError):
        blobs.parts(blobs.InMemory(data), private=True)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(100_000.0),
        np.asfortranarray(np.arange(100_000.0).reshape(100, 1000)),
        np.arange(200_000.0)[::2],
        {"rows": np.arange(100_000.0), "name": "x", "more": [np.zeros(3), np.ones(50_000)]},
        b"x" * LARGE,
        "x" * LARGE,
        list(range(200_000)),
        bytearray(b"x" * LARGE),
    ],
    ids=["array", "by columns", "strided", "mixed", "bytes", "text", "list", "bytearray"],
)
def test_a_large_value_comes_back_as_it_was_and_may_be_written_to(value: Any) -> None:
    data = carried(value)
    assert len(data) < 1000
    one, other = (values.decode(data, what="a value") for _ in range(2))
    np.testing.assert_equal(one, value)
    if isinstance(one, np.ndarray):
        one[0] = -1
        np.testing.assert_equal(other, value)
        np.testing.assert_equal(values.decode(data, what="a value"), value)


def test_a_frame_comes_back_as_it_was() -> None:
    frame = pd.DataFrame({"a": np.arange(50_000), "b": np.arange(50_000.0), "c": [f"x{n}" for n in range(50_000)]})
    back = values.decode(carried(frame), what="a frame")
    pd.testing.assert_frame_equal(back, frame)
    back.loc[0, "b"] = 7.5
    assert back["b"].iloc[0] == 7.5


def test_what_is_done_to_a_value_later_does_not_change_what_was_recorded() -> None:
    array = np.zeros(100_000)
    data = carried(array)
    array[:] = 1
    assert not values.decode(data, what="a value").any()


def test_small_values_are_in_the_log_and_large_ones_are_not() -> None:
    assert reference(values.encode(b"x" * (limits.BLOB_BYTES - 100), what="a value")) is None
    assert reference(values.encode(np.zeros(1000), what="a value")) is None
    ref = reference(values.encode(np.random.default_rng(1).bytes(LARGE), what="a value"))
    assert ref is not None
    assert ref.size > LARGE


def test_equal_arrays_are_one_blob() -> None:
    assert carried(np.arange(100_000)).ref.digest == carried(np.arange(100_000)).ref.digest


def test_a_view_shows_a_large_value_without_reading_it() -> None:
    data = bytes(carried(np.zeros(100_000)))  # nobody keeps its blob
    assert values.preview(data, what="a value").startswith("800 kB: array([0., 0., 0., ..., 0., 0., 0.]")
    with pytest.raises(BlobMissingError, match=r"bytes \(blob"):
        values.decode(data, what="a value")


def test_a_value_is_read_wherever_in_the_process_its_blob_is_kept() -> None:
    data = carried(np.arange(100_000))
    store = MemoryBlobs()
    told: list[object] = []
    store.put(data.ref.digest, data.content, told.append)
    assert told == [None]
    assert values.decode(bytes(data), what="a value").sum() == 4_999_950_000
    blobs.remove_shelf(store)
    with pytest.raises(BlobMissingError):
        values.decode(bytes(data), what="a value")


def test_what_is_sent_and_not_recorded_is_never_a_reference() -> None:
    data = values.encode(np.zeros(100_000), what="an answer", whole=True)
    assert reference(data) is None
    assert len(data) > 800_000
    assert not values.decode(data, what="an answer").any()

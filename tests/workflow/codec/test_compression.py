"""Large pickles are compressed where that helps; arrays are not, and stay mapped."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from raftoral_nb.core.blob_refs import reference
from raftoral_nb.errors import ValueNotShippableError
from raftoral_nb.limits import BLOB_BYTES
from raftoral_nb.workflow.codec import blobs, compression, values
from raftoral_nb.workflow.codec.blobs import COMPRESSED, MAGIC, Carried

needs_zstd = pytest.mark.skipif(compression._zstd() is None, reason="pip install backports.zstd")

RANDOM = random.Random(1).randbytes(2 * BLOB_BYTES)
ROWS = [{"id": number, "name": f"user {number % 97}", "tags": ["a", "b"]} for number in range(20_000)]


def carried(value: object) -> Carried:
    data = values.encode(value, what="a value")
    assert isinstance(data, Carried)
    return data


def begins(data: Carried) -> bytes:
    return bytes(data.content.view(private=False)[: len(MAGIC)])


@needs_zstd
@pytest.mark.parametrize(
    "value", [ROWS, "text of some length, " * 50_000, bytes(3 * BLOB_BYTES)], ids=["rows", "text", "zeros"]
)
def test_what_becomes_smaller_is_compressed_and_comes_back(value: Any) -> None:
    data = carried(value)
    assert begins(data) == COMPRESSED
    assert data.ref.size < BLOB_BYTES
    assert values.decode(data, what="a value") == value


@pytest.mark.parametrize(
    "value", [np.zeros(200_000), [np.zeros(200_000), "text"], RANDOM], ids=["array", "with text", "random"]
)
def test_arrays_and_what_is_random_stay_as_they_are(value: Any) -> None:
    data = carried(value)
    assert begins(data) == MAGIC
    assert data.ref.size >= 2 * BLOB_BYTES
    np.testing.assert_array_equal(values.decode(data, what="a value")[0], value[0])


@needs_zstd
def test_a_pickle_of_which_only_the_samples_shrink_stays_as_it_is() -> None:
    size = compression.SAMPLE_BYTES
    last = 40 * size
    mixed = bytearray(random.Random(2).randbytes(last + size))
    for part in range(4):
        mixed[last * part // 3 : last * part // 3 + size] = bytes(size)
    assert compression.compressed(bytes(mixed)) is None


@needs_zstd
def test_equal_values_are_one_blob_and_the_digest_is_that_of_what_is_stored() -> None:
    first, second = carried(ROWS), carried([dict(row) for row in ROWS])
    assert first.ref.digest == second.ref.digest == blobs.digest_of(first.content)


@needs_zstd
def test_the_limit_counts_what_is_stored() -> None:
    assert reference(values.encode(ROWS, what="a value", most=BLOB_BYTES)) is not None
    with pytest.raises(ValueNotShippableError, match="more than max_value_bytes"):
        values.encode(RANDOM, what="a value", most=BLOB_BYTES)


@needs_zstd
def test_where_it_cannot_be_read_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = carried(ROWS)
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    with pytest.raises(ValueNotShippableError, match=r"pip install backports\.zstd"):
        values.decode(data, what="a value")
    assert begins(carried(ROWS)) == MAGIC  # and nothing is compressed there

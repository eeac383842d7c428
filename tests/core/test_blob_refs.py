"""A record's value is a value or a reference to a blob, and the two are never mixed up."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.core.blob_refs import MAX_REFERENCE_BYTES, BlobRef, encode_reference, kept_bytes, reference

REFS = st.builds(
    BlobRef,
    digest=st.text("0123456789abcdef", min_size=32, max_size=32),
    size=st.integers(0, 2**40),
    shown=st.text(max_size=60),
)


@given(REFS)
def test_a_reference_comes_back_from_its_bytes(ref: BlobRef) -> None:
    assert reference(encode_reference(ref)) == ref
    assert len(encode_reference(ref)) <= MAX_REFERENCE_BYTES


@given(st.one_of(st.none(), st.integers(), st.binary(), st.text(), st.lists(st.integers())))
def test_no_pickle_is_taken_for_a_reference(value: object) -> None:
    data = pickle.dumps(value, 5)
    assert reference(data) is None
    assert kept_bytes(data) == len(data)


@given(st.binary(max_size=2000))
def test_whatever_the_bytes_are_looking_at_them_raises_nothing(data: bytes) -> None:
    found = reference(data)
    assert found is None or data[:1] == b"\x00"


def test_what_is_kept_of_a_value_includes_its_blob() -> None:
    data = encode_reference(BlobRef("0" * 32, 1_000_000))
    assert kept_bytes(data) == 1_000_000 + len(data)
    assert kept_bytes(None) == kept_bytes(b"") == 0

"""Chains of records: what was changed, lost or torn is noticed, and what was written just before a crash is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.storage.record_chain import (
    Added,
    Chain,
    ChainBrokenError,
    ChainContents,
    Head,
    Row,
    Voted,
    follow_chain,
    identity,
)


def chain_of(count: int) -> tuple[list[Row], bytes]:
    own = identity("c", 1)
    chain = Chain(0, own, own)
    rows = [chain.append(ChainContents().base(own))]
    rows += [chain.append(Added(index, 1, bytes([index]), 1)) for index in range(1, count)]
    return rows, own


@given(st.data())
def test_rows_that_are_changed_dropped_swapped_or_missing_are_noticed(data: st.DataObject) -> None:
    rows, own = chain_of(8)
    head = Head(rows[-1].number, rows[-1].digest)
    position = data.draw(st.integers(0, len(rows) - 1))
    match data.draw(st.sampled_from(["flip", "drop", "swap", "cut"])):
        case "flip":
            body = bytearray(rows[position].body)
            body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            rows[position] = rows[position]._replace(body=bytes(body))
        case "drop":
            del rows[position]
        case "swap":
            other = data.draw(st.integers(0, len(rows) - 1).filter(lambda one: one != position))
            rows[position], rows[other] = rows[other], rows[position]
        case "cut":
            del rows[position:]
    with pytest.raises(ChainBrokenError):
        follow_chain(rows, head, own, may_be_torn=data.draw(st.booleans()))


def test_rows_of_another_node_do_not_fit() -> None:
    rows, _ = chain_of(3)
    with pytest.raises(ChainBrokenError):
        follow_chain(rows, Head(rows[-1].number, rows[-1].digest), identity("c", 2), may_be_torn=False)


def test_torn_rows_behind_the_head_are_cut_off_only_where_a_store_may_tear_them() -> None:
    rows, own = chain_of(5)
    head = Head(rows[2].number, rows[2].digest)
    rows[3] = rows[3]._replace(body=rows[3].body[:-1])
    found = follow_chain(rows, head, own, may_be_torn=True)
    assert (found.chain.number, found.dropped) == (3, 1)
    with pytest.raises(ChainBrokenError):
        follow_chain(rows, head, own, may_be_torn=False)


def test_a_base_that_was_written_just_before_the_head_is_taken() -> None:
    rows, own = chain_of(4)
    chain = Chain(rows[-1].number, rows[-1].digest, own)
    base = chain.append(ChainContents().base(chain.digest))
    after = chain.append(Voted(2, None))
    found = follow_chain([base, after], Head(rows[-1].number, rows[-1].digest), own, may_be_torn=False)
    assert found.contents.term == 2
    with pytest.raises(ChainBrokenError, match="behind the one"):
        follow_chain([base, after], Head(rows[-2].number, rows[-2].digest), own, may_be_torn=False)

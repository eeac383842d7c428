"""Faults as lines: every fault is a line, and the line is that fault again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb import Fault, FaultError, parse_fault
from raftoral_nb.faults.fault_lines import FAULTS, ON_ONE_NODE, numbers_in, parse_time, time_text
from raftoral_nb.faults.targets import NODE_NAMES

nodes: st.SearchStrategy[Any] = st.integers(1, 9) | st.sampled_from(NODE_NAMES)
links = st.tuples(nodes, nodes).filter(lambda link: link[0] != link[1])
delays = st.integers(1, 30_000_000_000).map(lambda nanoseconds: nanoseconds / 1_000_000_000)
faults = st.one_of(
    st.builds(lambda name, node: Fault(name=name, places=(node,)), st.sampled_from(ON_ONE_NODE), nodes),
    st.builds(
        lambda groups: Fault(name="partition", groups=groups),
        st.lists(st.lists(nodes, min_size=1, max_size=4).map(tuple), min_size=1, max_size=4).map(tuple),
    ),
    st.builds(lambda link, one_way: Fault(name="cut", places=(link,), one_way=one_way), links, st.booleans()),
    st.builds(
        lambda where, delay, part: Fault(name="slow", places=(where,), delay=delay, jitter=round(delay * part / 10, 9)),
        nodes | links,
        delays,
        st.integers(0, 10),
    ),
    st.builds(lambda places: Fault(name="heal", places=tuple(places)), st.lists(nodes | links, max_size=3)),
    st.just(Fault(name="add")),
    st.builds(lambda places: Fault(name="campaign", places=tuple(places)), st.lists(nodes, max_size=3)),
)


@given(faults)
def test_a_fault_is_a_line_and_the_line_is_that_fault(fault: Fault) -> None:
    again = parse_fault(str(fault))
    assert again == fault
    assert numbers_in(fault) <= set(range(1, 10))


@given(st.text(max_size=30) | st.builds(" ".join, st.tuples(st.sampled_from(sorted(FAULTS)), st.text(max_size=20))))
def test_any_other_line_is_refused_with_one_of_our_errors(line: str) -> None:
    try:
        fault = parse_fault(line)
    except FaultError as error:
        said = str(error)
    else:
        said = "Usage: "
        assert parse_fault(str(fault)) == fault
    assert "there are: " in said or "Usage: " in said


@given(delays)
def test_a_time_is_read_as_it_is_written(seconds: float) -> None:
    assert parse_time(time_text(seconds)) == seconds


def test_a_time_is_written_as_people_do() -> None:
    assert [time_text(seconds) for seconds in (0.009, 0.2, 0.0005, 1.0, 1.5, 60.0)] == [
        *("9ms", "200ms", "0.5ms", "1s", "1.5s", "60s")
    ]


@pytest.mark.parametrize("text", ["", "200", "ms", "-1s", "1 s", "1e3s", "infs", "1m", "0x1s", "٣s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(FaultError, match="not a time"):
        parse_time(text)

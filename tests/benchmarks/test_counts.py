"""Counts of the hot paths stay within their limits."""

from __future__ import annotations

import sys

import pytest

from benchmarks import counts
from benchmarks.counts import LIMITS
from tests.tools import require_tool

ADVICE = (
    "`python -m benchmarks.checkpoint_trace --modules` says where calls come from; if the step is worth it, "
    "`python -m benchmarks.counts --limits` prints the table of limits anew, for benchmarks/counts.py"
)


def check(found: dict[str, float]) -> None:
    more = {name: f"{count:.1f} of at most {LIMITS[name]}" for name, count in found.items() if count > LIMITS[name]}
    assert not more, f"{more}; {ADVICE}"


def test_a_step_makes_no_more_calls_and_moves_than_it_did() -> None:
    if sys.gettrace() is not None or sys.getprofile() is not None:
        pytest.skip("something else counts already")
    check(counts.calls())


def test_many_runs_need_no_more_entries_of_the_log_than_they_did() -> None:
    check(counts.entries())


@pytest.mark.parametrize(("nodes", "level"), [(1, "memory"), (1, "process"), (3, "memory")])
def test_a_step_makes_no_more_system_calls_than_it_did(nodes: int, level: str) -> None:
    require_tool("strace", get_it="apt-get install strace")
    try:
        found = counts.system_calls(nodes, level)
    except OSError as error:  # a container that forbids it has strace all the same
        pytest.skip(str(error))
    check(found)


def test_a_count_above_its_limit_says_what_to_do() -> None:
    name = next(iter(LIMITS))
    with pytest.raises(AssertionError, match="prints the table of limits anew"):
        check({name: LIMITS[name] + 1})

"""The models that clients' histories are held against."""

from __future__ import annotations

from math import inf

from raftoral_nb.simulation.linearizability import Access, Append, list_problem, register_problem


def done(element: str, began: float, ended: float, *seen: str) -> Append:
    return Append(element, began, ended, "done", (*seen, element))


def test_appends_that_show_prefixes_of_one_list_in_real_time_order_are_fine() -> None:
    history = [done("a", 0, 1), done("b", 0, 3, "a"), done("c", 2, 3, "a", "b"), Append("d", 0, inf, "unknown")]
    assert list_problem(history) is None


def test_an_append_that_ended_before_another_began_comes_first() -> None:
    assert "had ended before" in (list_problem([done("b", 2, 3), done("a", 0, 1, "b")]) or "")


def test_two_lists_that_are_no_prefixes_of_each_other_are_found() -> None:
    assert "no prefix" in (list_problem([done("a", 0, 9, "x"), done("b", 0, 9, "y", "z")]) or "")


def test_an_acknowledged_element_that_later_lists_miss_is_found() -> None:
    assert list_problem([done("a", 0, 1), done("c", 5, 6, "b")]) is not None


def test_an_element_that_was_refused_as_not_applied_must_not_appear() -> None:
    history = [Append("a", 0, inf, "refused"), done("b", 2, 3, "a")]
    assert "was refused" in (list_problem(history) or "")


def write(value: str, began: float, ended: float) -> Access:
    return Access("write", value, began, ended)


def read(value: str | None, began: float, ended: float) -> Access:
    return Access("read", value, began, ended)


def test_reads_that_some_order_explains_are_fine() -> None:
    assert (
        register_problem([read(None, 0, 1), write("a", 0, 5), read("a", 2, 3), write("b", 2, 6), read("b", 7, 8)])
        is None
    )


def test_a_read_of_what_was_overwritten_before_it_began_is_found() -> None:
    assert register_problem([write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)]) is not None


def test_two_readers_that_see_two_writes_in_opposite_orders_are_found() -> None:
    history = [write("a", 0, 9), write("b", 0, 9), read("a", 1, 2), read("b", 3, 4), read("a", 5, 6)]
    assert register_problem(history) is not None


def test_a_write_without_an_answer_may_take_effect_late_or_never() -> None:
    assert register_problem([write("a", 0, 1), write("b", 2, inf), read("a", 3, 4), read("b", 5, 6)]) is None
    assert register_problem([write("a", 0, 1), write("b", 2, inf), read("a", 3, 4)]) is None


def test_a_value_that_nobody_wrote_is_found() -> None:
    assert "never written" in (register_problem([read("a", 0, 1)]) or "")

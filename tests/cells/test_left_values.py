from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.cells.cell_blobs import CellBlobs
from raftoral_nb.cells.cell_pickles import OWN_FILE_BYTES, TakenValue, load_group, named_arrays, shared_parts
from raftoral_nb.cells.left_values import bundles, same_groups, store_values, take_values, why_not
from raftoral_nb.cells.shared_parts import ArraySpan, SharedParts


def grouped(taken: dict[str, TakenValue]) -> list[tuple[str, ...]]:
    return same_groups(
        {name: one.parts.ids for name, one in taken.items()}, {name: one.parts.spans for name, one in taken.items()}
    )


def restored(space: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Stores all values of a namespace, and loads them into another one."""
    blobs = CellBlobs(folder)
    roots = named_arrays(space)
    taken, lost = take_values(space, space, roots)
    assert lost == {}
    groups = grouped(taken)
    found: dict[str, Any] = {}
    for group in store_values(taken, groups, space, roots, blobs):
        found.update(load_group(group, blobs, found)[0])
    return found


def test_names_that_share_objects_are_found_and_share_them_again(tmp_path: Path) -> None:
    inner = [1]
    space = {"one": {"a": inner}, "two": [inner], "alone": [1], "text": "x", "same": "x"}
    taken, _ = take_values(space, space, frozenset())
    assert grouped(taken) == [
        ("alone",),
        ("one", "two"),
        ("same",),
        ("text",),
    ]
    found = restored(space, tmp_path)
    assert found == space
    assert found["one"]["a"] is found["two"][0]
    assert found["alone"] is not found["two"][0]


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.frozensets(st.integers(0, 12), max_size=4)))
def test_groups_are_those_that_are_linked_by_shared_objects(ids: dict[str, frozenset[int]]) -> None:
    groups = same_groups(ids)
    assert sorted(name for group in groups for name in group) == sorted(ids)
    place = {name: number for number, group in enumerate(groups) for name in group}
    objects = [frozenset[int]().union(*(ids[name] for name in group)) for group in groups]
    assert all(place[one] == place[other] for one in ids for other in ids if ids[one] & ids[other])
    assert all(not objects[one] & objects[other] for one in range(len(groups)) for other in range(one))


@given(st.lists(st.integers(0, 2 * OWN_FILE_BYTES), max_size=8))
def test_small_groups_are_stored_together_and_none_is_left_out(sizes: list[int]) -> None:
    groups = [(f"n{number}",) for number in range(len(sizes))]
    found = bundles(groups, {f"n{number}": size for number, size in enumerate(sizes)})
    assert sorted(name for bundle in found for name in bundle) == [name for (name,) in groups]
    assert sum(len(bundle) > 1 for bundle in found) <= 1


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("part", [slice(1, 3), slice(None, None, 2), slice(None, None, -1)])
def test_a_view_of_an_array_that_has_a_name_is_one_again(tmp_path: Path, order: Any, part: slice) -> None:
    base = np.array(np.arange(24.0).reshape(6, 4), order=order)
    found = restored({"base": base, "view": base[part]}, tmp_path)
    assert np.array_equal(found["view"], base[part])
    found["view"][:] = -1
    assert (found["base"][part] == -1).all()
    assert np.shares_memory(found["base"], found["view"])


def test_two_views_of_an_array_without_a_name_share_memory_if_it_is_little_larger(tmp_path: Path) -> None:
    hidden = np.arange(10)
    found = restored({"even": hidden[::2], "odd": hidden[::-1]}, tmp_path)
    found["odd"][-1] = 77
    assert found["even"][0] == 77


def test_a_view_that_cannot_be_written_to_cannot_be_again(tmp_path: Path) -> None:
    base = np.arange(5)
    fixed = base[1:]
    fixed.flags.writeable = False
    found = restored({"base": base, "fixed": fixed}, tmp_path)
    assert not found["fixed"].flags.writeable
    assert found["base"].flags.writeable


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(0),
        np.array(3.5),
        np.array(["a", None], dtype=object),
        np.arange(300_000, dtype="int16"),
        {"nested": [np.ones((200, 1000)), "text"]},
        bytearray(b"x" * 10),
        float("nan"),
    ],
    ids=str,
)
def test_values_come_back_equal(tmp_path: Path, value: Any) -> None:
    found = restored({"value": value}, tmp_path)["value"]
    np.testing.assert_equal(found, value)


def test_what_did_not_change_in_a_value_is_not_stored_again(tmp_path: Path) -> None:
    big = np.ones(OWN_FILE_BYTES)
    restored({"value": {"big": big, "n": 1}}, tmp_path)
    before = {file.name for file in tmp_path.iterdir()}
    restored({"value": {"big": big, "n": 2}}, tmp_path)
    new = [file for file in tmp_path.iterdir() if file.name not in before]
    assert sum(file.stat().st_size for file in new) < 10_000


def test_what_cannot_be_recorded_costs_the_others_nothing(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w") as file:
        space = {"x": 1, "g": (i for i in "a"), "f": file, "nested": [file]}
        taken, lost = take_values(space, space, frozenset())
    assert set(taken) == {"x"}
    assert lost == {"g": "a generator", "f": "an open file", "nested": "an open file"}


def test_the_words_for_what_cannot_be_recorded_do_not_say_it_twice() -> None:
    assert why_not(3, TypeError("cannot pickle 'int' object")) == "a int"
    assert why_not([], ValueError("too deep\nreally")) == "a list (too deep)"


def test_an_array_and_its_view_share_memory_however_often_they_are_restored(tmp_path: Path) -> None:
    big = np.arange(1000.0)
    found: dict[str, Any] = {"big": big, "view": big[10:20]}
    for _ in range(3):
        found = restored(found, tmp_path)
        assert found["view"].base is found["big"]


@pytest.mark.parametrize(
    "space",
    [
        {"table": np.arange(24).reshape(4, 6), "row": None},
        {"table": {"column": np.arange(24).reshape(4, 6)}, "row": None},
        {"table": [np.arange(24).reshape(4, 6), None]},
    ],
    ids=["in another shape", "in a dict", "within one value"],
)
def test_a_view_shares_memory_with_an_array_without_a_name_again(tmp_path: Path, space: dict[str, Any]) -> None:
    def arrays(space: dict[str, Any]) -> tuple[Any, Any]:
        table = space["table"]
        if isinstance(table, list):
            return table[0], table[1]
        return (table["column"] if isinstance(table, dict) else table), space["row"]

    row = arrays(space)[0][1]
    if isinstance(space["table"], list):
        space["table"][1] = row
    else:
        space["row"] = row
    for _ in range(2):
        space = restored(space, tmp_path)
        table, row = arrays(space)
        row += 100
        assert (table[1] == row).all()


def test_an_array_has_the_same_digest_when_it_was_restored(tmp_path: Path) -> None:
    space = {"flat": np.arange(1000.0), "table": np.arange(24).reshape(4, 6)}
    found = restored(space, tmp_path)
    for name, value in space.items():
        assert (
            TakenValue(found[name], found, named_arrays(found)).digest
            == TakenValue(value, space, named_arrays(space)).digest
        )


def test_values_that_are_made_while_others_are_looked_at_are_shared_by_nobody() -> None:
    class Passing:
        def __getstate__(self) -> dict[str, Any]:
            return {"rows": [1, 2], "more": {"key": [3]}}

    space: dict[str, Any] = {"one": Passing(), "other": Passing()}
    for _ in range(20):
        parts = {name: shared_parts(value, space, frozenset()) for name, value in space.items()}
        assert not parts["one"].meets(parts["other"])


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=6),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=6),
)
def test_values_meet_where_their_arrays_have_a_byte_in_common(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    def spans(places: list[tuple[int, int]]) -> list[ArraySpan]:
        return [ArraySpan(start, start + size, None) for start, size in places]

    def held(places: list[tuple[int, int]]) -> set[int]:
        return {byte for start, size in places for byte in range(start, start + size)}

    common = bool(held(one) & held(other))
    assert SharedParts([], spans(one)).meets(SharedParts([], spans(other))) == common
    if common:
        names: dict[str, frozenset[int]] = {"one": frozenset(), "other": frozenset()}
        assert same_groups(names, {"one": spans(one), "other": spans(other)}) == [("one", "other")]

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.cells.cell_blobs import FileBlobs
from raftoral_nb.cells.cell_pickles import OWN_FILE_BYTES, load_group, named_arrays
from raftoral_nb.cells.left_values import bundles, same_groups, store_values, take_values, why_not


def restored(space: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Stores all values of a namespace, and loads them into another one."""
    blobs = FileBlobs(folder)
    roots = named_arrays(space)
    taken, lost = take_values(space, space, roots)
    assert lost == {}
    groups = same_groups({name: one.ids for name, one in taken.items()})
    found: dict[str, Any] = {}
    for group in store_values(taken, groups, space, roots, blobs):
        found.update(load_group(group, blobs, found)[0])
    return found


def test_names_that_share_objects_are_found_and_share_them_again(tmp_path: Path) -> None:
    inner = [1]
    space = {"one": {"a": inner}, "two": [inner], "alone": [1], "text": "x", "same": "x"}
    taken, _ = take_values(space, space, frozenset())
    assert same_groups({name: one.ids for name, one in taken.items()}) == [
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

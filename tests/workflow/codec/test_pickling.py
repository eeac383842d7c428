from __future__ import annotations

import io
import pickle
from typing import Any

import pytest

from raftoral_nb.workflow.codec import pickling


def taken_apart(value: object) -> tuple[bytes, list[memoryview]]:
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    pickling.ValuePickler(file, 1 << 20, {}, buffers.append).dump(value)
    return file.getvalue(), [one.raw() for one in buffers]


def test_raw_buffers_are_kept_apart_and_are_what_the_loaded_value_is_made_of() -> None:
    data, buffers = taken_apart({"a": pickle.PickleBuffer(bytearray(b"x" * 5000)), "b": [1]})
    assert len(data) < 200
    mine = bytearray(buffers[0])
    value, objects = pickling.loads_with_buffers(data, [mine])
    assert value["a"] is mine
    assert any(one is value["b"] for one in objects)


def test_a_pickle_whose_buffers_are_missing_is_refused() -> None:
    data, _ = taken_apart(pickle.PickleBuffer(bytearray(b"x")))
    with pytest.raises(pickle.UnpicklingError):
        pickling.loads_with_buffers(data, [])


def test_a_value_without_buffers_is_loaded_as_by_any_other_way() -> None:
    value: Any = {"a": [1, (2, "b")]}
    data, buffers = taken_apart(value)
    assert buffers == []
    assert pickling.loads_with_buffers(data, [])[0] == pickling.loads(data) == value

"""What a node holds back is noted beside its blobs, and let go when it is recorded or not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raftoral_nb.core.blob_refs import BlobRef, encode_reference
from raftoral_nb.core.commands import (
    CacheStep,
    ContinueRun,
    EndRun,
    NoteTaken,
    SendSignal,
    SetCheckpoint,
    StartChild,
    StartRun,
    TellRun,
)
from raftoral_nb.core.held_keys import THE_END, HeldKey, held_key
from raftoral_nb.core.records import Step
from raftoral_nb.raft.blob_store import BlobStore, MemoryBlobs
from raftoral_nb.raft.held_values import HeldValues
from raftoral_nb.storage.directory_blobs import NOTES, DirectoryBlobs

DIGEST = "0" * 32
VALUE = encode_reference(BlobRef(DIGEST, 5_000_000, "an array"))
STEP = Step("3/make", "compute", VALUE, None, 1, 1)


def key(run_id: str = "r1", generation: int = 1, version: int = 2, step_id: str = "3/make") -> HeldKey:
    return HeldKey(run_id, generation, version, step_id)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (SetCheckpoint("r1", STEP, 2, 4), key(generation=4)),
        (CacheStep("r1", STEP, "key", "fn", "inputs", 2, 4), key(generation=4)),
        (TellRun("r1", STEP, "other", "id", "name", VALUE, 2, 4), key(generation=4)),
        (StartChild("r1", STEP, 4, "child", "w", 7, VALUE, False, 2), key(generation=4)),
        (EndRun("r1", 1, 1, VALUE, None, 2, False, 4), key(generation=4, step_id=THE_END)),
        (ContinueRun("r1", 1, 1, 4, VALUE, 0.0, 2), key(generation=4, step_id=THE_END)),
        (StartRun("r1", "w", 1, VALUE), None),
        (SendSignal("r1", "id", "name", VALUE), None),
        (NoteTaken("r1", 1, 1, 1), None),
    ],
)
def test_only_what_a_runs_own_code_came_to_is_held(command: Any, expected: HeldKey | None) -> None:
    assert held_key(command) == expected


def test_notes_outlive_the_node_that_made_them() -> None:
    store = MemoryBlobs(share=False)
    HeldValues(store).hold(key(), VALUE)
    again = HeldValues(store)
    assert dict(again.by_key) == {key(): VALUE}
    assert DIGEST in again
    assert "1" * 32 not in again
    again.drop(key())
    again.drop(key())
    assert not HeldValues(store).by_key


@pytest.fixture
def held() -> HeldValues:
    held = HeldValues(MemoryBlobs(share=False))
    for one in (key(), key(step_id="4/fit"), key(generation=2), key(version=3), key("r2")):
        held.hold(one, VALUE)
    return held


def test_all_of_a_run_is_let_go_at_once(held: HeldValues) -> None:
    held.drop_run("r1")
    assert list(held.by_key) == [key("r2")]


def test_what_is_of_no_run_that_is_known_is_let_go(held: HeldValues) -> None:
    held.keep_only({("r1", 1, 2), ("r3", 1, 1)})
    assert list(held.by_key) == [key(), key(step_id="4/fit")]


def test_a_damaged_note_is_left_out_and_one_of_an_earlier_process_is_read(tmp_path: Path) -> None:
    def opened() -> BlobStore:
        return DirectoryBlobs(tmp_path, "blobs", synced=True)

    store = opened()
    held = HeldValues(store)
    held.hold(key(), VALUE)
    held.hold(key("r2"), VALUE)
    store.close()
    store.end()
    names = sorted(file.name for file in (tmp_path / NOTES).iterdir())
    assert len(names) == 2
    (tmp_path / NOTES / names[0]).write_bytes(b"!")
    (tmp_path / NOTES / f".{names[0]}.part").write_bytes(b"")
    found = HeldValues(opened()).by_key
    assert len(found) == 1
    assert list(found.values()) == [VALUE]
    assert sorted(file.name for file in (tmp_path / NOTES).iterdir()) == names

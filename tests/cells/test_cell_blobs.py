from __future__ import annotations

from pathlib import Path

import pytest

from raftoral_nb.cells.cell_blobs import MAPPED_BYTES, CellBlob, FileBlobs, aligned
from raftoral_nb.workflow.codec.blobs import ALIGNMENT


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


@pytest.mark.parametrize("size", [0, 1, 1000, MAPPED_BYTES, MAPPED_BYTES + 7])
def test_what_is_put_is_loaded_and_can_be_written_to_without_reaching_the_store(blobs: FileBlobs, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    blob = blobs.put([data[:100], data[100:]])
    assert blob.size == size
    loaded = blobs.load(blob)
    assert bytes(loaded) == data
    if size:
        loaded[0] = (data[0] + 1) % 256
    assert blobs.is_whole(blob)
    assert bytes(blobs.load(blob)) == data


def test_the_same_bytes_are_one_file(blobs: FileBlobs, tmp_path: Path) -> None:
    assert blobs.put([b"one", b"two"]) == blobs.put([b"onetwo"])
    assert len(list((tmp_path / "blobs").iterdir())) == 1


def test_damage_is_found_and_what_was_discarded_is_written_anew(blobs: FileBlobs, tmp_path: Path) -> None:
    blob = blobs.put([b"x" * 1000])
    (tmp_path / "blobs" / blob.digest).write_bytes(b"x" * 999 + b"y")
    assert blobs.is_there(blob)
    assert not blobs.is_whole(blob)
    blobs.discard(blob)
    assert not blobs.is_there(blob)
    assert blobs.is_whole(blobs.put([b"x" * 1000]))


def test_one_that_is_cut_short_is_not_there(blobs: FileBlobs, tmp_path: Path) -> None:
    blob = blobs.put([b"x" * 1000])
    (tmp_path / "blobs" / blob.digest).write_bytes(b"x" * 10)
    assert not blobs.is_there(blob)


def test_sweeping_keeps_what_is_kept_and_what_is_loaded_stays_readable(blobs: FileBlobs, tmp_path: Path) -> None:
    kept, large = blobs.put([b"kept"]), blobs.put([b"z" * (MAPPED_BYTES + 1)])
    loaded = blobs.load(large)
    (tmp_path / "blobs" / "1234.new").write_bytes(b"left by a crash")
    blobs.sweep({kept})
    assert [file.name for file in (tmp_path / "blobs").iterdir()] == [kept.digest]
    assert loaded[-1] == ord("z")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FileBlobs(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        blobs.put([b"data"])
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_not_there_says_so(blobs: FileBlobs) -> None:
    missing = CellBlob("0" * 32, 3)
    assert not blobs.is_whole(missing)
    with pytest.raises(FileNotFoundError):
        blobs.load(missing)


def test_parts_begin_where_arrays_are_fastest() -> None:
    parts, places = aligned([memoryview(b"abc"), memoryview(b""), memoryview(b"d" * 65), memoryview(b"e")])
    data = b"".join(parts)
    assert all(place % ALIGNMENT == 0 for place in places)
    assert data[places[2] : places[2] + 65] == b"d" * 65
    assert data[places[3] :] == b"e"

from __future__ import annotations

from pathlib import Path

import pytest

from raftoral_nb.cells.cell_blobs import CellBlob, CellBlobs, aligned
from raftoral_nb.errors import DamagedBlobError
from raftoral_nb.storage.content_files import MAPPED_BYTES, ContentFiles, Part
from raftoral_nb.workflow.codec.blobs import ALIGNMENT


@pytest.fixture
def blobs(tmp_path: Path) -> CellBlobs:
    return CellBlobs(tmp_path / "blobs")


@pytest.mark.parametrize("size", [0, 1, 1000, MAPPED_BYTES, MAPPED_BYTES + 7])
def test_what_is_put_is_loaded_and_can_be_written_to_without_reaching_the_store(blobs: CellBlobs, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    blob = blobs.put([data[:100], data[100:]])
    assert blob.size == size
    loaded = blobs.load(blob)
    assert bytes(loaded) == data
    if size:
        loaded[0] = (data[0] + 1) % 256
    blobs.check(blob)
    assert bytes(blobs.load(blob)) == data


def test_the_same_bytes_are_one_file(blobs: CellBlobs, tmp_path: Path) -> None:
    assert blobs.put([b"one", b"two"]) == blobs.put([b"onetwo"])
    assert len(list((tmp_path / "blobs").iterdir())) == 1


@pytest.mark.parametrize("anew", [False, True])
def test_damage_is_found_and_what_is_damaged_is_written_anew(anew: bool, tmp_path: Path) -> None:
    blobs = CellBlobs(tmp_path / "blobs")
    blob = blobs.put([b"x" * 1000])
    (tmp_path / "blobs" / blob.digest).write_bytes(b"x" * 999 + b"y")
    blobs = CellBlobs(tmp_path / "blobs")
    assert blobs.is_there(blob, read=False)
    if not anew:
        assert not blobs.is_there(blob, read=True)
        assert not blobs.is_there(blob, read=False)
        with pytest.raises(FileNotFoundError):
            blobs.check(blob)
    assert blobs.put([b"x" * 1000]) == blob
    assert blobs.is_there(blob, read=True)
    assert bytes(blobs.load(blob)) == b"x" * 1000


def test_what_was_checked_before_is_checked_again_when_that_is_asked_for(blobs: CellBlobs, tmp_path: Path) -> None:
    blob = blobs.put([b"x" * 1000])
    (tmp_path / "blobs" / blob.digest).write_bytes(b"x" * 999 + b"y")
    with pytest.raises(DamagedBlobError):
        blobs.check(blob)
    blobs.put([b"x" * 1000])
    blobs.check(blob)


def test_one_that_is_cut_short_is_not_there_and_is_written_anew(blobs: CellBlobs, tmp_path: Path) -> None:
    blob = blobs.put([b"x" * 1000])
    (tmp_path / "blobs" / blob.digest).write_bytes(b"x" * 10)
    assert not blobs.is_there(blob, read=False)
    blobs.put([b"x" * 1000])
    assert blobs.is_there(blob, read=True)


def test_what_changes_while_it_is_written_is_not_stored(
    blobs: CellBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(1000)
    begin = ContentFiles.begin

    def changed(files: ContentFiles, digest: str) -> Part:
        data[0] = 1
        return begin(files, digest)

    monkeypatch.setattr(ContentFiles, "begin", changed)
    with pytest.raises(DamagedBlobError):
        blobs.put([data])
    assert list((tmp_path / "blobs").iterdir()) == []


def test_sweeping_keeps_what_is_kept_and_what_is_loaded_stays_readable(blobs: CellBlobs, tmp_path: Path) -> None:
    kept, large = blobs.put([b"kept"]), blobs.put([b"z" * (MAPPED_BYTES + 1)])
    loaded = blobs.load(large)
    for name in ("1234.new", f".{kept.digest}.1234", f"{kept.digest}.damaged"):
        (tmp_path / "blobs" / name).write_bytes(b"left by a crash")
    blobs.sweep({kept})
    assert [file.name for file in (tmp_path / "blobs").iterdir()] == [kept.digest]
    assert loaded[-1] == ord("z")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = CellBlobs(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raftoral_nb.storage.content_files.sync_file", full)
    with pytest.raises(OSError, match="No space"):
        blobs.put([b"data"])
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_not_there_says_so(blobs: CellBlobs) -> None:
    missing = CellBlob("0" * 32, 3)
    assert not blobs.is_there(missing, read=True)
    with pytest.raises(FileNotFoundError):
        blobs.load(missing)


def test_parts_begin_where_arrays_are_fastest() -> None:
    parts, places = aligned([memoryview(b"abc"), memoryview(b""), memoryview(b"d" * 65), memoryview(b"e")])
    data = b"".join(parts)
    assert all(place % ALIGNMENT == 0 for place in places)
    assert data[places[2] : places[2] + 65] == b"d" * 65
    assert data[places[3] :] == b"e"

"""Files named by what they hold: what is mapped, and what a folder of the version before has."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from raftoral_nb.cells.cell_blobs import CellBlob, CellBlobs
from raftoral_nb.storage import content_files
from raftoral_nb.storage.content_files import MAPPED_BYTES, ContentFiles, Mapped
from raftoral_nb.storage.directory_blobs import FOLDER, DirectoryBlobs
from raftoral_nb.workflow.codec.blobs import PIECE_BYTES, InMemory, digest_of


def put(files: ContentFiles, data: bytes) -> str:
    digest = digest_of(InMemory(data))
    with files.begin(digest) as part:
        part.write(data)
        part.keep()
    return digest


@pytest.fixture
def files(tmp_path: Path) -> ContentFiles:
    return ContentFiles(tmp_path / "files", synced=True)


def test_a_file_and_its_folder_can_only_be_read_by_their_owner(files: ContentFiles) -> None:
    digest = put(files, b"secret")
    assert (files.folder / digest).stat().st_mode & 0o777 == 0o600
    assert files.folder.stat().st_mode & 0o777 == 0o700


def test_what_is_not_kept_leaves_nothing(files: ContentFiles) -> None:
    with files.begin("0" * 32) as part:
        part.write(b"abc")
    assert list(files.folder.iterdir()) == []


@pytest.mark.parametrize("size", [1000, MAPPED_BYTES])
def test_many_that_are_looked_at_take_few_descriptors(
    files: ContentFiles, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_files, "_MOST_MAPPED", 5)
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    looked = []
    for seed in range(20):
        data = random.Random(seed).randbytes(size)
        found = files.find(put(files, data))
        assert found is not None
        looked.append((found.view(private=seed % 2 == 0), data))
    assert all(bytes(view) == data for view, data in looked)
    if descriptors.is_dir():
        expected = 5 if size == MAPPED_BYTES and sys.version_info < (3, 13) else 0
        assert len(list(descriptors.iterdir())) - before <= expected


def test_where_nothing_can_be_mapped_a_file_is_read(files: ContentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(1).randbytes(MAPPED_BYTES)
    digest = put(files, data)

    def full(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(content_files, "_mapping", full)
    view = files.read(digest).view(private=True)
    assert bytes(view) == data
    view[0] = 0


def test_a_file_that_is_cut_while_it_is_read_in_pieces_ends_early_and_not_the_process(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(3 * PIECE_BYTES))
    pieces = Mapped(file).pieces()
    assert next(pieces).nbytes == PIECE_BYTES
    with file.open("r+b") as opened:
        opened.truncate(PIECE_BYTES)
    assert list(pieces) == []


def test_a_folder_of_cells_of_the_version_before_is_read_and_its_leftovers_are_swept(tmp_path: Path) -> None:
    """It had files for everybody to read, and wrote them under other names: `HEX.new`."""
    folder = tmp_path / "cells"
    folder.mkdir(mode=0o755)
    data = b"from before" * 10
    digest = "dc1a4c0ebe7a45f8920ace771b941b94"
    (folder / digest).write_bytes(data)
    (folder / "00112233445566aa.new").write_bytes(b"half")
    blobs = CellBlobs(folder)
    blob = CellBlob(digest, len(data))
    blobs.check(blob)
    assert bytes(blobs.load(blob)) == data
    assert blobs.put([data]) == blob
    blobs.sweep({blob})
    assert [file.name for file in folder.iterdir()] == [digest]


def test_a_folder_of_large_values_of_the_version_before_is_read_and_its_leftovers_are_cleared_away(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "node-1" / FOLDER
    folder.mkdir(parents=True)
    digest = "dc1a4c0ebe7a45f8920ace771b941b94"
    (folder / digest).write_bytes(b"from before" * 10)
    (folder / f".{digest}.00112233").write_bytes(b"half")
    (folder / f"{digest}.damaged").write_bytes(b"for somebody to look at")
    store = DirectoryBlobs(folder.parent, "test-blobs", synced=True)
    found = store.find(digest)
    assert found is not None
    assert bytes(found.view(private=False)) == b"from before" * 10
    assert store.holds(digest)
    assert store.digests() == (digest,)
    assert sorted(file.name for file in folder.iterdir()) == [digest, f"{digest}.damaged"]

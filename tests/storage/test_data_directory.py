"""Data directories: whose they are, who uses them, and what is refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftoral_nb.errors import (
    DamagedStorageError,
    DirectoryInUseError,
    ForeignDirectoryError,
    NewerFormatError,
    StorageWriteError,
)
from raftoral_nb.storage.data_directory import DirectoryJournals, Manifest, node_folder, owner, read_manifest
from raftoral_nb.storage.durable_journal import DurableJournal
from raftoral_nb.storage.record_chain import Base, Chain, Head, follow_chain, identity
from raftoral_nb.storage.shared_directory import NodeJournals


def opened(journals: DirectoryJournals, node: int = 1) -> DurableJournal:
    journal = asyncio.run(journals.open(node))
    assert isinstance(journal, DurableJournal)
    return journal


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[DirectoryJournals]:
    one = DirectoryJournals(tmp_path / "data", "test", (1,), "process")
    yield one
    one.end()


def test_a_directory_in_use_is_refused_and_its_owner_is_named(journals: DirectoryJournals) -> None:
    with pytest.raises(DirectoryInUseError, match=r"in use by cluster 'test' of process \d+ \(this process\)"):
        DirectoryJournals(journals.path, "test", (1,), "process")
    assert owner(journals.path) is not None
    journals.end()
    assert owner(journals.path) is None
    DirectoryJournals(journals.path, "test", (1,), "process").end()


def test_a_directory_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ForeignDirectoryError, match="holds other files"):
        DirectoryJournals(tmp_path, "test", (1,), "process")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("x")
    with pytest.raises(ForeignDirectoryError, match="is a file"):
        DirectoryJournals(file, "test", (1,), "process")


def test_what_is_made_is_for_its_owner_only(journals: DirectoryJournals) -> None:
    opened(journals).close()
    for folder in (journals.path, node_folder(journals.path, 1)):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


def test_a_directory_of_another_user_is_refused_as_its_code_would_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    DirectoryJournals(path, "test", (1,), "process").end()
    file = next(node_folder(path, 1).iterdir())
    if os.geteuid() == 0:
        os.chown(file, 1234, 1234)
        DirectoryJournals(path, "test", (1,), "process").end()  # root may
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(ForeignDirectoryError, match=r"belongs to user \d+, not to you \(4321\).*would be run as you"):
        DirectoryJournals(path, "test", (1,), "process")
    with pytest.raises(ForeignDirectoryError, match="would be run as you"):
        NodeJournals(path, 1, "process")
    assert owner(path) is None


def test_another_cluster_or_another_python_is_refused(
    journals: DirectoryJournals, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals.end()
    with pytest.raises(ForeignDirectoryError, match=r"holds cluster 'test' of nodes 1, not 'other'"):
        DirectoryJournals(journals.path, "other", (1,), "process")
    with pytest.raises(ForeignDirectoryError, match="of nodes 1, 2, 3"):
        DirectoryJournals(journals.path, "test", (1, 2, 3), "process")
    monkeypatch.setattr("raftoral_nb.storage.data_directory.PYTHON", "3.99")
    with pytest.raises(ForeignDirectoryError, match=r"which Python 3\.99 cannot load"):
        DirectoryJournals(journals.path, "test", (1,), "process")


def test_a_log_that_was_copied_from_another_node_is_refused(tmp_path: Path) -> None:
    one = DirectoryJournals(tmp_path, "test", (1, 2), "process")
    shutil.rmtree(node_folder(tmp_path, 2))
    shutil.copytree(node_folder(tmp_path, 1), node_folder(tmp_path, 2))
    with pytest.raises(DamagedStorageError, match="belongs to another node or another cluster"):
        opened(one, 2)
    one.end()


def test_a_directory_of_a_later_version_is_refused(journals: DirectoryJournals) -> None:
    journals.end()
    file = journals.path / "cluster.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(NewerFormatError, match=r"cluster\.json has format 2"):
        DirectoryJournals(journals.path, "test", (1,), "process")


def test_a_record_of_a_later_version_is_refused() -> None:
    own = identity("c", 1)
    row = Chain(0, own, own).append(
        Base(format=2, previous=own, term=0, vote=None, commit=1, snapshot=None, entries=())
    )
    with pytest.raises(ValueError, match="format 2"):
        follow_chain([row], Head(row.number, row.digest), own, may_be_torn=True)


def test_a_directory_whose_making_was_interrupted_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> Manifest:
        raise OSError("power")

    with monkeypatch.context() as patch:
        patch.setattr("raftoral_nb.storage.data_directory._write_manifest", interrupted)
        with pytest.raises(StorageWriteError):
            DirectoryJournals(tmp_path / "data", "test", (1, 2), "process")
    one = DirectoryJournals(tmp_path / "data", "test", (1, 2), "process")
    assert opened(one, 2).last_index == 0
    one.end()


def test_a_directory_whose_making_was_killed_as_it_began_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "creating.new").touch()  # `write_file` was killed before it had a file
    one = DirectoryJournals(tmp_path, "test", (1,), "process")
    assert opened(one, 1).last_index == 0
    one.end()


def test_a_lost_manifest_is_damage_and_not_a_new_directory(journals: DirectoryJournals) -> None:
    journals.end()
    (journals.path / "cluster.json").unlink()
    with pytest.raises(DamagedStorageError, match=r"cluster\.json is missing"):
        DirectoryJournals(journals.path, "test", (1,), "process")


def test_a_new_member_gets_a_folder_of_its_own_until_it_leaves(journals: DirectoryJournals) -> None:
    assert opened(journals, 4).last_index == 0
    manifest = read_manifest(journals.path)
    assert manifest is not None
    assert (manifest.founders, manifest.nodes) == ((1,), (1, 4))
    journals.forget(4)
    manifest = read_manifest(journals.path)
    assert manifest is not None
    assert manifest.nodes == (1,)
    assert not node_folder(journals.path, 4).exists()

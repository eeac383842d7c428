"""The cluster's key in a file: who can read it, whom it belongs to, and when it is dropped."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.discovery import key_file
from raftoral_nb.discovery.key_file import KeyFile, Place
from raftoral_nb.discovery.process_identity import Process
from raftoral_nb.errors import ClusterNameTakenError, KeyFileError, UnknownClusterError
from raftoral_nb.transport.certificate import Certificate

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


def content(name: str = "lab", **more: object) -> KeyFile:
    fields: dict[str, object] = {"name": name, "key": KEY, "kind": "kernel", "owner": Process.own(), **more}
    return KeyFile(**fields)  # type: ignore[arg-type]


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.fixture
def ended() -> Process:
    """A process that has been, and is no more."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = Process.of(child.pid)
        assert not process.gone
        child.kill()
        child.wait()
    return process


def test_the_file_is_for_its_owner_only_and_says_what_was_written(runtime: Path) -> None:
    written = content(nodes={1: Place("127.0.0.1:4001"), 12: Place("[::1]:2", Process.own())}, data_dir="lab")
    path = key_file.write(written)
    assert path == runtime / "raftoral" / "lab.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert key_file.read(path) == written
    assert [one.content for one in key_file.found()] == [written]
    assert key_file.of_cluster("lab").path == path
    assert names_in(path.parent) == ["lab.json"]


def test_a_folder_that_is_not_there_holds_no_key_files_and_is_not_made_by_looking(runtime: Path) -> None:
    assert key_file.found() == ()
    assert key_file.remove(runtime / "raftoral" / "lab.json", KEY) is False
    assert not runtime.exists()


def test_secrets_are_not_in_what_is_printed() -> None:
    held = content(certificate=Certificate("CERT", "SECRET", "ab12"))
    for text in (repr(held), str(held), repr(held.certificate)):
        assert "SECRET" not in text
        assert repr(KEY)[2:-1] not in text
    assert "ab12" in repr(held.certificate)


def test_two_clusters_of_one_name_have_two_files_unless_names_must_be_unique() -> None:
    first, second = key_file.write(content()), key_file.write(content(key=bytes(32)))
    assert (first.name, second.name) == ("lab.json", "lab+2.json")
    with pytest.raises(ClusterNameTakenError, match=rf"'lab' is running already: process {os.getpid()}"):
        key_file.write(content(), unique=True)
    key_file.write(content(kind="processes"), unique=True)  # of that kind there was none
    with pytest.raises(UnknownClusterError, match=r"2 clusters named 'lab'.*lab\+2\.json"):
        key_file.of_cluster("lab", "kernel")
    assert key_file.of_cluster("lab", "processes").path.name == "lab+3.json"
    with pytest.raises(UnknownClusterError, match=r"no cluster named 'other' is running.*running: lab"):
        key_file.of_cluster("other")


@given(name=st.text(min_size=0, max_size=200))
def test_any_name_of_a_cluster_makes_a_file_in_the_folder_itself(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path_factory.getbasetemp() / "names"))
        try:
            written = content(name)
            path = key_file.write(written)
        except UnicodeEncodeError:
            assert not name.isprintable()  # half of a surrogate pair
            return
        try:
            assert path.parent == key_file.folder()
            assert key_file.of_cluster(name).content == written
        finally:
            assert key_file.remove(path, KEY)
        assert names_in(key_file.folder()) == []


def test_a_file_whose_process_has_ended_is_dropped_by_whoever_looks(ended: Process) -> None:
    path = key_file.write(content(owner=ended))
    assert path.exists()
    assert key_file.found() == ()
    assert not path.exists()
    key_file.write(content(owner=ended), unique=True)
    assert key_file.write(content(), unique=True) == path  # its name is free again


def test_a_cluster_lives_as_long_as_one_of_its_processes(ended: Process) -> None:
    half = content(owner=None, kind="processes", nodes={1: Place("h:1", ended), 2: Place("h:2", Process.own())})
    assert not half.gone
    assert msgspec.structs.replace(half, nodes={1: Place("h:1", ended)}).gone
    assert not content(owner=None).gone  # nobody can tell
    assert not content(owner=msgspec.structs.replace(ended, host="elsewhere")).gone


def test_a_number_that_another_process_has_now_is_not_taken_for_the_old_one() -> None:
    own = Process.own()
    assert not own.gone
    boot, space, ticks = own.began.split("/")
    assert msgspec.structs.replace(own, began=f"{boot}/{space}/{int(ticks) - 1}").gone
    assert msgspec.structs.replace(own, began=f"earlier/{space}/{ticks}").gone  # before the machine was started again
    assert not msgspec.structs.replace(own, began=f"{boot}/pid:[1]/7").gone  # another container: cannot be seen
    assert not msgspec.structs.replace(own, began="").gone


def test_a_process_that_ended_and_was_not_waited_for_counts_as_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        process = Process.of(child.pid)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.gone


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused(mode: int) -> None:
    path = key_file.write(content())
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=rf"lab\.json is open to others \(mode {mode:o}\).*chmod 600"):
        key_file.read(path)
    (one,) = key_file.found()
    assert one.content is None
    assert "open to others" in str(one.problem)


def test_a_folder_that_others_may_enter_is_refused(runtime: Path) -> None:
    path = key_file.write(content())
    path.parent.chmod(0o750)
    for do in (key_file.found, lambda: key_file.write(content()), lambda: key_file.remove(path, KEY)):
        with pytest.raises(KeyFileError, match="raftoral is open to others"):
            do()
    path.parent.chmod(0o700)
    path.parent.rename(runtime / "moved")
    path.parent.symlink_to(runtime / "moved")
    with pytest.raises(KeyFileError, match="not a link"):
        key_file.write(content())


def test_what_belongs_to_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = key_file.write(content())
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(KeyFileError, match="belongs to user"):
        key_file.read(path)
    with pytest.raises(KeyFileError, match="belongs to user"):
        key_file.found()


def test_links_pipes_and_folders_are_no_key_files() -> None:
    path = key_file.write(content())
    link, pipe, folder = path.with_name("link.json"), path.with_name("pipe.json"), path.with_name("folder.json")
    link.symlink_to(path)
    os.mkfifo(pipe, 0o600)
    folder.mkdir(0o700)
    with pytest.raises(KeyFileError, match="a link is not followed"):
        key_file.read(link)
    for odd in (pipe, folder):
        with pytest.raises(KeyFileError, match="not a regular file"):
            key_file.read(odd)
    assert [one.path.name for one in key_file.found() if one.content is not None] == ["lab.json"]
    assert len(key_file.found()) == 4


def test_damaged_and_newer_files_are_refused_and_left_alone() -> None:
    path = key_file.write(content())
    good = path.read_bytes()
    with pytest.raises(KeyFileError, match="no key file"):
        key_file.read(path.with_name("missing.json"))
    later = json.dumps({**json.loads(good), "format": 2}).encode()
    short_key = json.dumps({**json.loads(good), "key": "AAAA"}).encode()
    for damaged in (b"", b"{", good[:-9], b"[" * 100_000, bytes(300_000), b"\xff", b"[]", b"{}", later, short_key):
        path.write_bytes(damaged)
        with pytest.raises(KeyFileError, match="has format 2" if damaged is later else "or is damaged"):
            key_file.read(path)
        assert path.read_bytes() == damaged
        assert key_file.remove(path, KEY) is False
    assert key_file.write(content()).name == "lab+2.json"


def test_a_file_is_changed_whole_and_removed_only_by_who_knows_its_key() -> None:
    path = key_file.write(content())
    changed = key_file.update(path, lambda one: msgspec.structs.replace(one, nodes={1: Place("127.0.0.1:1")}))
    assert key_file.read(path) == changed
    assert changed.nodes == {1: Place("127.0.0.1:1")}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key_file.remove(path, bytes(32)) is False
    assert key_file.remove(path, KEY) is True
    assert key_file.remove(path, KEY) is False
    with pytest.raises(KeyFileError, match="there is no key file"):
        key_file.update(path, lambda one: one)
    assert names_in(path.parent) == []


def test_changes_at_the_same_time_lose_nothing() -> None:
    path = key_file.write(content())

    def add(node: int) -> None:
        key_file.update(path, lambda one: msgspec.structs.replace(one, nodes={**one.nodes, node: Place(f"h:{node}")}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert set(key_file.read(path).nodes) == set(range(40))
    assert names_in(path.parent) == ["lab.json"]


def test_what_a_killed_writer_left_is_cleared_away() -> None:
    path = key_file.write(content())
    (path.parent / f"0123{key_file._HALF}").write_bytes(b"half")
    (path.parent / "notes.txt").write_bytes(b"somebody's")
    key_file.found()
    assert names_in(path.parent) == ["lab.json", "notes.txt"]


def test_a_place_without_hard_links_or_locks_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    path = key_file.write(content())
    assert key_file.read(path) == content(made=key_file.read(path).made)
    assert names_in(path.parent) == ["lab.json"]


def test_who_keeps_the_folder_locked_is_waited_for_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    path = key_file.write(content())
    held = os.open(path.parent, os.O_RDONLY)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            os.close(held)

    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with monkeypatch.context() as patch:
            patch.setattr(key_file, "LOCK_SECONDS", 0.0)
            with pytest.raises(KeyFileError, match=r"locked for 0 s by another process.*fuser .*, then try again"):
                key_file.found()
        monkeypatch.setattr(key_file, "LOCK_SECONDS", 1000.0)
        monkeypatch.setattr(key_file, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
        assert [one.path for one in key_file.found()] == [path]
    finally:
        if len(pauses) < 8:
            os.close(held)
    assert pauses == [0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.1, 0.1]


def test_a_place_that_cannot_be_written_is_a_clear_error(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.write_text("a file is in the way")
    with pytest.raises(KeyFileError, match=r"cannot be used|cannot be made"):
        key_file.write(content())
    runtime.unlink()
    path = key_file.write(content())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(KeyFileError, match="No space left"):
        key_file.update(path, lambda one: one)


def test_a_path_is_told_from_a_name_and_a_name_may_look_like_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert key_file.path_meant("lab") is None
    assert key_file.path_meant(Path("lab")) == Path("lab")
    assert key_file.path_meant("~/lab.json") == tmp_path / "lab.json"
    assert key_file.path_meant("lab.json") == Path("lab.json")
    key_file.write(content("lab.json"))
    key_file.folder().chmod(0o755)
    assert key_file.path_meant("lab.json") == Path("lab.json")  # nobody asks a folder that others may enter
    key_file.folder().chmod(0o700)
    assert key_file.path_meant("lab.json") is None  # there is no such file, and such a cluster runs
    Path("lab.json").touch()
    assert key_file.path_meant("lab.json") == Path("lab.json")


@pytest.mark.parametrize("given", [5, None, b"lab"])
def test_what_is_neither_a_path_nor_a_name_is_refused(given: Any) -> None:
    with pytest.raises(KeyFileError, match="by the path of its key file, not as"):
        key_file.path_meant(given)


@pytest.mark.parametrize("path", ["a\0b.json", "~no-such-user-of-this-machine/a.json"])
def test_a_path_that_cannot_be_one_is_a_clear_error(path: str) -> None:
    with pytest.raises(KeyFileError):
        key_file.read(key_file.path_meant(path) or "")

"""A codec goes around all that a data directory holds of users' data; the wrong one is refused, and nothing is readable without it."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raftoral_nb import Cluster, Compression, Encryption, WorkflowContext
from raftoral_nb.errors import BadArgumentError, ClusterError, CodecError, DamagedStorageError
from raftoral_nb.raft.compaction import Compaction
from raftoral_nb.storage.codec import checked
from tests.cluster.helpers import PATIENCE

KEY = bytes(range(32))
SECRET = "correct horse battery staple"
SMALL_LOGS = Compaction(log_bytes=4_000, kept_bytes=1_000, piece_bytes=500)


async def tells(ctx: WorkflowContext, given: str) -> str:
    captured = "correct horse battery staple in the code"
    word = await ctx.compute("word", lambda: given + " in a step")
    large = await ctx.compute("large", lambda: (given + " in a large value. ") * 20_000)
    signal = await ctx.receive("word")
    return f"{word}, {signal}, {len(large)}, {captured}"


def readable(path: Path) -> list[str]:
    """The files in which the secret can be read, also in what zlib packed."""
    return [str(file) for file in path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


def run_once(path: Path, codec: Any, **options: Any) -> str:
    with Cluster(3, data_dir=path, codec=codec, compaction=SMALL_LOGS, **options) as cluster:
        run = cluster.start_workflow(tells, SECRET, run_id="told")
        run.signal("word", SECRET + " in a signal")
        for number in range(30):  # so that there are snapshots
            cluster.start_workflow(tells, f"{SECRET} {number}").terminate()
        result: str = run.wait_for_completion(PATIENCE)
        return result


@pytest.mark.parametrize("processes", [False, True])
def test_no_secret_is_readable_in_any_file_and_all_of_it_comes_back(tmp_path: Path, processes: bool) -> None:
    path = tmp_path / "data"
    codec = Encryption(KEY)
    result = run_once(path, codec, processes=processes)
    assert SECRET in result
    assert readable(path) == []
    with Cluster(data_dir=path, codec=codec, processes=processes) as cluster:
        run = cluster.run("told")
        assert run.wait_for_completion(PATIENCE) == result
        assert run.value("large") == (SECRET + " in a large value. ") * 20_000
    assert readable(path) == []


def test_without_a_codec_it_is_readable(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    run_once(tmp_path / "data", None)
    assert readable(tmp_path / "data")


def test_several_codecs_are_applied_in_a_row(tmp_path: Path) -> None:
    codec: list[Any] = [Compression(), Encryption(KEY)]
    result = run_once(tmp_path / "data", codec)
    assert readable(tmp_path / "data") == []
    with Cluster(data_dir=tmp_path / "data", codec=codec) as cluster:
        assert cluster.run("told").wait_for_completion(PATIENCE) == result


def test_what_compresses_takes_less_room(tmp_path: Path) -> None:
    async def makes(ctx: WorkflowContext, given: None) -> int:
        return int((await ctx.compute("zeros", lambda: np.zeros(500_000))).sum())

    sizes = []
    for name, codec in (("plain", None), ("packed", Compression())):
        with Cluster(1, data_dir=tmp_path / name, codec=codec) as cluster:
            cluster.start_workflow(makes).wait_for_completion(PATIENCE)
        sizes.append(sum(file.stat().st_size for file in (tmp_path / name).glob("node-1/blobs/*")))
    assert sizes[1] < sizes[0] / 50


@pytest.mark.parametrize(
    ("first", "then", "says"),
    [
        (Encryption(KEY), None, "was written with a codec"),
        (None, Encryption(KEY), "was written without a codec"),
        (Encryption(KEY), Encryption(bytes(32)), "another key"),
        (Encryption(KEY), Compression(), "another codec"),
    ],
)
@pytest.mark.parametrize("processes", [False, True])
def test_another_codec_than_that_of_the_directory_is_refused(
    tmp_path: Path, first: Any, then: Any, says: str, processes: bool
) -> None:
    with Cluster(1, data_dir=tmp_path / "data", codec=first):
        pass
    with pytest.raises(CodecError, match=says), Cluster(data_dir=tmp_path / "data", codec=then, processes=processes):
        pass
    with Cluster(data_dir=tmp_path / "data", codec=first, processes=processes) as cluster:
        assert cluster.nodes


def test_a_changed_record_is_noticed_as_damage(tmp_path: Path) -> None:
    run_once(tmp_path / "data", Encryption(KEY))
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "node-1" / "log.db")) as log, log:
        number, body = log.execute("SELECT number, body FROM records ORDER BY number DESC LIMIT 1").fetchone()
        changed = body[:-1] + bytes([body[-1] ^ 1])
        log.execute("UPDATE records SET body = ? WHERE number = ?", (changed, number))
    with pytest.raises(DamagedStorageError), Cluster(data_dir=tmp_path / "data", codec=Encryption(KEY)):
        pass


def test_a_codec_is_for_a_data_directory() -> None:
    with pytest.raises(ClusterError, match="data_dir"):
        Cluster(1, codec=Encryption(KEY))


class Backwards:
    def encode(self, data: bytes) -> bytes:
        return data[::-1] + b"!"

    def decode(self, data: bytes) -> bytes:
        return data[::-1]


@pytest.mark.parametrize("given", [zlib, "zlib", Backwards(), [Compression(), 3], [], (), Compression])
def test_what_is_no_codec_is_refused(given: Any) -> None:
    with pytest.raises(BadArgumentError, match="codec"):
        checked(given)


class Shows(Backwards):
    def encode(self, data: bytes) -> bytes:
        raise ValueError("no")

    def __repr__(self) -> str:
        return repr(KEY)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (KEY, "codec= got 32 bytes: did you mean Encryption(key)?"),
        ([Compression(), KEY], "codec= got 32 bytes: did you mean Encryption(key)?"),
        (KEY.hex(), "codec= got text of 64 characters"),
        (Encryption, "codec= got the class Encryption: give Encryption(key)"),
        (Shows(), "the codec (Shows) failed on a test value: ValueError"),
    ],
)
def test_a_key_that_is_given_as_a_codec_is_not_shown(given: Any, said: str) -> None:
    with pytest.raises(BadArgumentError) as raised:
        checked(given)
    assert said in str(raised.value)
    assert repr(KEY) not in str(raised.value)
    assert KEY.hex() not in str(raised.value)


class Reverse:
    @staticmethod
    def encode(data: bytes) -> bytes:
        return data[::-1]

    decode = encode


def test_a_class_with_static_methods_is_a_codec() -> None:
    assert checked(Reverse) is Reverse


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("abc", "not text of 3 characters"),
        (KEY.hex(), "hexadecimal digits: use bytes.fromhex"),
        (bytes(31), "not 31 bytes"),
        (bytearray(KEY), "use bytes"),
        (None, "not None"),
    ],
)
def test_what_was_given_as_a_key_is_told_without_showing_it(key: Any, said: str) -> None:
    with pytest.raises(BadArgumentError, match="32 bytes") as raised:
        Encryption(key)
    assert said in str(raised.value)
    assert "abc" not in str(raised.value)
    assert KEY.hex() not in str(raised.value)


@pytest.mark.parametrize("key", [b"short", "text", bytes(31), None])
def test_another_key_than_one_of_32_bytes_is_refused(key: Any) -> None:
    with pytest.raises(BadArgumentError, match="32 bytes"):
        Encryption(key)


def test_two_encryptions_of_the_same_differ_and_the_key_is_not_shown() -> None:
    codec = Encryption(Encryption.new_key())
    assert codec.encode(b"same") != codec.encode(b"same")
    assert codec.decode(codec.encode(b"")) == b""
    assert repr(codec) == "Encryption(...)"


@pytest.mark.parametrize("level", [0, 10, True, "1"])
def test_another_level_than_from_1_to_9_is_refused(level: Any) -> None:
    with pytest.raises(BadArgumentError, match="level"):
        Compression(level)

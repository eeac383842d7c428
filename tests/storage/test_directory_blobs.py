"""The blobs of a node with a data directory: whole or not at all, checked, shared between nodes beside each other."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb.errors import DamagedBlobError, StorageWriteError
from raftoral_nb.storage import content_files
from raftoral_nb.storage.directory_blobs import FOLDER, DirectoryBlobs
from raftoral_nb.workflow.codec.blobs import InMemory, digest_of


def content(seed: int = 1, size: int = 3_000_000) -> InMemory:
    return InMemory(random.Random(seed).randbytes(size))


class Node:
    """A node's folder, and the store of each incarnation of it."""

    def __init__(self, path: Path, number: int) -> None:
        self.folder = path / f"node-{number}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = self.open()

    def open(self) -> DirectoryBlobs:
        return DirectoryBlobs(self.folder, "test-blobs", synced=True)

    def again(self) -> None:
        self.store.close()
        self.store.end()
        self.store = self.open()

    def file(self, digest: str) -> Path:
        return self.folder / FOLDER / digest

    async def put(self, data: InMemory) -> BaseException | None:
        error: BaseException | None = await told(lambda done: self.store.put(digest_of(data), data, done))
        return error

    async def adopt(self, digest: str) -> bool:
        here: bool = await told(lambda done: self.store.adopt(digest, done))
        return here


async def told(ask: Callable[[Callable[[Any], None]], None]) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ask(future.set_result)
    async with asyncio.timeout(30):
        return await future


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


@pytest.fixture
def nodes(tmp_path: Path) -> Any:
    found = [Node(tmp_path, number) for number in (1, 2)]
    yield found
    for node in found:
        node.store.close()
        node.store.end()
    assert not [thread for thread in threading.enumerate() if thread.name == "test-blobs"]


def test_a_blob_is_a_file_named_by_its_digest_and_nobody_elses_business(nodes: list[Node]) -> None:
    async def test() -> None:
        data = content()
        digest = digest_of(data)
        assert not nodes[0].store.holds(digest)
        assert await nodes[0].put(data) is None
        assert nodes[0].store.holds(digest)
        file = nodes[0].file(digest)
        assert file.read_bytes() == bytes(data.view(private=False))
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert [one.name for one in file.parent.iterdir()] == [digest]

    run(test)


def test_a_mapped_blob_can_be_written_to_without_changing_the_file(nodes: list[Node]) -> None:
    async def test() -> None:
        data = content()
        digest = digest_of(data)
        await nodes[0].put(data)
        found = nodes[0].store.find(digest)
        assert found is not None
        view = found.view(private=True)
        view[:5] = b"12345"
        again = nodes[0].store.find(digest)
        assert again is not None
        assert digest_of(again) == digest

    run(test)


def test_the_next_incarnation_checks_a_file_before_it_says_that_it_holds_it(nodes: list[Node]) -> None:
    async def test() -> None:
        data = content()
        digest = digest_of(data)
        await nodes[0].put(data)
        nodes[0].again()
        assert nodes[0].store.digests() == (digest,)
        assert not nodes[0].store.holds(digest)
        assert await nodes[0].adopt(digest)
        assert nodes[0].store.holds(digest)

    run(test)


def test_damage_is_found_by_the_digest_and_mended_from_the_node_beside(nodes: list[Node], caplog: Any) -> None:
    async def test() -> None:
        data = content()
        digest = digest_of(data)
        for node in nodes:
            await node.put(data)
        nodes[0].again()
        file = nodes[0].file(digest)
        file.write_bytes(b"!" + file.read_bytes()[1:])
        with pytest.raises(DamagedBlobError, match=r"does not hold what was written.*renamed"):
            nodes[0].store.find(digest)
        assert nodes[0].store.find(digest) is None
        assert await nodes[0].adopt(digest)
        assert nodes[0].file(digest).read_bytes() == bytes(data.view(private=False))

    run(test)


def test_nodes_of_one_directory_have_a_blob_once_on_the_disk(nodes: list[Node]) -> None:
    async def test() -> None:
        data = content()
        digest = digest_of(data)
        await nodes[0].put(data)
        assert await nodes[1].adopt(digest)
        assert nodes[0].file(digest).stat().st_ino == nodes[1].file(digest).stat().st_ino
        nodes[0].store.remove([digest])
        assert not nodes[0].store.holds(digest)
        assert not await nodes[0].adopt("0" * 32)  # what was asked before is done
        assert not nodes[0].file(digest).exists()
        assert nodes[1].store.find(digest) is not None

    run(test)


def test_a_blob_comes_in_pieces_and_is_there_when_it_is_whole(nodes: list[Node]) -> None:
    async def test() -> None:
        data = content()
        digest, whole = digest_of(data), bytes(data.view(private=False))
        arriving = nodes[0].store.arrive(digest, len(whole))
        for offset in range(0, len(whole), 700_000):
            arriving.add(whole[offset : offset + 700_000])
        assert not nodes[0].store.holds(digest)
        assert await told(arriving.finish) is None
        assert nodes[0].store.holds(digest)
        assert await told(lambda done: nodes[0].store.read(digest, 1_000_000, 10, done)) == whole[1_000_000:1_000_010]
        assert await told(lambda done: nodes[0].store.read("0" * 32, 0, 10, done)) is None

    run(test)


def test_what_came_with_other_bytes_is_not_kept(nodes: list[Node]) -> None:
    async def test() -> None:
        arriving = nodes[0].store.arrive("0" * 32, 3)
        arriving.add(b"abc")
        assert isinstance(await told(arriving.finish), DamagedBlobError)
        assert nodes[0].store.digests() == ()
        assert not list((nodes[0].folder / FOLDER).iterdir())

    run(test)


def test_what_was_half_written_when_a_process_ended_is_cleared_away(nodes: list[Node]) -> None:
    async def test() -> None:
        arriving = nodes[0].store.arrive("0" * 32, 6)
        arriving.add(b"abc")
        await nodes[0].adopt("1" * 32)  # what was asked before is done
        assert len(list((nodes[0].folder / FOLDER).iterdir())) == 1
        nodes[0].again()
        assert not list((nodes[0].folder / FOLDER).iterdir())

    run(test)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(nodes: list[Node]) -> None:
    async def test() -> None:
        nodes[0].folder.chmod(0o500)
        try:
            error = await nodes[0].put(content())
        finally:
            nodes[0].folder.chmod(0o700)
        assert isinstance(error, StorageWriteError)

    run(test)


def test_a_full_disk_is_told_and_leaves_nothing(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        def full(descriptor: int, data: Any) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            error = await nodes[0].put(content())
        assert isinstance(error, StorageWriteError)
        assert "No space left" in str(error)
        assert not list((nodes[0].folder / FOLDER).iterdir())
        assert await nodes[0].put(content()) is None

    run(test)


def test_a_file_that_was_removed_while_it_was_checked_is_not_held(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        data = content()
        digest = digest_of(data)
        await nodes[0].put(data)
        nodes[0].again()
        store = nodes[0].store
        hashed, removed = threading.Event(), threading.Event()

        def slow(what: Any) -> str:
            found = digest_of(what)
            hashed.set()
            assert removed.wait(30)
            return found

        monkeypatch.setattr(content_files, "digest_of", slow)
        reader = threading.Thread(target=store.find, args=(digest,))
        reader.start()
        await asyncio.to_thread(hashed.wait, 30)
        store.remove([digest])
        store._worker.submit(removed.set, later=True)
        await asyncio.to_thread(reader.join)
        monkeypatch.undo()
        assert not store.holds(digest)
        assert await nodes[0].put(data) is None
        assert nodes[0].file(digest).exists()

    run(test)


def test_a_file_that_somebody_removed_is_not_held_any_more(nodes: list[Node]) -> None:
    async def test() -> None:
        data = content()
        digest = digest_of(data)
        await nodes[0].put(data)
        nodes[0].file(digest).unlink()
        assert nodes[0].store.find(digest) is None
        assert not nodes[0].store.holds(digest)

    run(test)


class Reverses:
    def encode(self, data: bytes) -> bytes:
        return data[::-1]

    def decode(self, data: bytes) -> bytes:
        return data[::-1]


def test_a_decoded_blob_that_was_removed_is_not_adopted_from_memory(tmp_path: Path) -> None:
    async def test() -> None:
        folder = tmp_path / "node-1"
        folder.mkdir()
        store = DirectoryBlobs(folder, "test-blobs", synced=False, codec=Reverses())
        data = content()
        digest = digest_of(data)
        assert await told(lambda done: store.put(digest, data, done)) is None
        assert store.find(digest) is not None
        store.remove([digest])
        assert not await told(lambda done: store.adopt(digest, done))
        assert not store.holds(digest)
        store.close()
        store.end()

    run(test)


class Fails(Reverses):
    def encode(self, data: bytes) -> bytes:
        raise MemoryError


def test_a_codec_that_fails_is_told_and_ends_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        folder = tmp_path / "node-1"
        folder.mkdir()
        store = DirectoryBlobs(folder, "test-blobs", synced=False, codec=Fails())
        data = content()
        assert isinstance(await told(lambda done: store.put(digest_of(data), data, done)), MemoryError)
        assert not await told(lambda done: store.adopt("0" * 32, done))
        store.close()
        store.end()

    run(test)

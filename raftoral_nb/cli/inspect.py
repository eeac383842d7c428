"""`raftoral-nb inspect DIR`: what a data directory holds, read without starting anything and without changing a file."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..core.apply import apply_entry
from ..core.entry_codec import decode_entry
from ..core.records import NodeId
from ..core.run_record import Run
from ..core.snapshot import Reader
from ..core.state import State
from ..errors import (
    BadArgumentError,
    CodecError,
    DamagedStorageError,
    ForeignDirectoryError,
    ProtocolError,
    RaftoralError,
    SnapshotError,
    StorageError,
)
from ..storage.codec import KEY_BYTES, Codec, Compression, Encryption, checked, refuse_other
from ..storage.data_directory import Manifest, node_folder, owner, read_manifest, read_node

if TYPE_CHECKING:
    import argparse

READS: Final = 5
"""The most attempts to read a node's files while a cluster writes them: a copy may catch half a change."""


class NodeFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of one node's files."""

    node: NodeId
    term: int
    vote: str | None
    first_index: int
    """Index of the first entry held."""
    last_index: int
    commit_index: int
    """The commit index that the node knew when it wrote its last entry; the true one may be higher."""
    snapshot_index: int
    """The last entry that the snapshot stands for; 0 without one."""
    snapshot_bytes: int
    sizes: Mapping[str, int]
    """Bytes of each file, and of all that is in each folder."""


class DirectoryContents(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a data directory. `problems` says why a node cannot be read."""

    path: Path
    manifest: Manifest
    used_by: str | None
    nodes: Mapping[NodeId, NodeFiles]
    problems: Mapping[NodeId, str]
    state: State
    """The state after the entries known to be committed; a cluster that continues may find that more of them are."""
    encoded: Mapping[NodeId, Mapping[str, int]] = {}
    """The bytes of each file of each node, if they were written with a codec that is not known here: nothing else can be told of them."""


def read(path: Path, key: bytes | None = None) -> DirectoryContents:
    """Read a data directory, with the `key` if it is encrypted.

    Raises `StorageError` if it is none, or `cluster.json` cannot be read, and `CodecError` if it was not written with that key.
    """
    manifest = read_manifest(path) if path.exists() else None
    if manifest is None:
        raise ForeignDirectoryError(
            f"there is no cluster in {path}; a data directory is made by %raftoral start --data-dir DIR"
        )
    used_by = owner(path)
    codec = _codec(path, manifest, key)
    if manifest.codec and codec is None:
        encoded = {node: _sizes(node_folder(path, node)) for node in manifest.nodes}
        return DirectoryContents(
            path=path, manifest=manifest, used_by=used_by, nodes={}, problems={}, state=State(), encoded=encoded
        )
    nodes: dict[NodeId, NodeFiles] = {}
    problems: dict[NodeId, str] = {}
    best = State()
    for node in manifest.nodes:
        try:
            nodes[node], state = _read_node(path, manifest, node, codec, READS if used_by else 1)
        except (StorageError, SnapshotError) as error:
            problems[node] = str(error)
        else:
            best = max(best, state, key=lambda one: one.index)
    return DirectoryContents(path=path, manifest=manifest, used_by=used_by, nodes=nodes, problems=problems, state=best)


def _codec(path: Path, manifest: Manifest, key: bytes | None) -> Codec | None:
    """Return the codec that a directory was written with; None if there is none, or it is not known. Raises `CodecError`."""
    candidates: list[object] = [Compression()]
    if key is not None:
        sealed = Encryption(key)
        candidates = [sealed, [Compression(), sealed], [sealed, Compression()]]
    for one in candidates if manifest.codec else ():
        codec = checked(one)
        with contextlib.suppress(CodecError):
            refuse_other(manifest.codec, codec, str(path))
            return codec
    if key is not None:
        refuse_other(manifest.codec, checked(candidates[0]), str(path))
    return None


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file in a folder, and of all that is in each folder in it."""

    def size(file: Path) -> int:
        with contextlib.suppress(OSError):  # gone meanwhile
            return sum(map(size, file.iterdir())) if file.is_dir() else file.stat().st_size
        return 0

    return {file.name: size(file) for file in sorted(folder.iterdir())} if folder.is_dir() else {}


def _read_node(
    path: Path, manifest: Manifest, node: NodeId, codec: Codec | None, tries: int
) -> tuple[NodeFiles, State]:
    for left in reversed(range(tries)):
        try:
            found, pieces = read_node(path, manifest, node, codec)
        except DamagedStorageError:
            if not left:
                raise
        else:
            break
    contents = found.contents
    state = State()
    if contents.kept is not None:
        reader = Reader()
        for piece in pieces:
            reader.feed(piece)
        state = reader.state()
    since = 1 if contents.kept is None else contents.kept.index
    for data, index, _ in contents.entries:
        if since < index <= contents.commit and data[:1] == b"\0":
            try:
                apply_entry(state, index, decode_entry(data[1:]))
            except ProtocolError as error:
                raise StorageError(
                    f"entry {index} of node {node} is not one that this version reads: {error}"
                ) from error
    return NodeFiles(
        node=node,
        term=contents.term,
        vote=contents.vote,
        first_index=contents.entries[0][1] if contents.entries else 0,
        last_index=contents.entries[-1][1] if contents.entries else 0,
        commit_index=min(contents.commit, contents.entries[-1][1]) if contents.entries else 0,
        snapshot_index=0 if contents.kept is None else contents.kept.index,
        snapshot_bytes=sum(map(len, pieces)),
        sizes=_sizes(node_folder(path, node)),
    ), state


# --- in words ---------------------------------------------------------------------------------------------------------


_ENCODED: Final = (
    "it was written with a codec: terms, entries, workflows and runs cannot be read without it. If it is encrypted, give "
    f"--encryption-key FILE ({KEY_BYTES} bytes, or {2 * KEY_BYTES} hexadecimal digits)"
)


def lines(found: DirectoryContents, *, steps: bool = False) -> list[str]:
    """Return the contents as text, a line each; with `steps` every recorded step by its name."""
    manifest = found.manifest
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.made))
    head = (
        f"{found.path}: cluster {manifest.name!r} of {_count(len(manifest.nodes), 'node')}, made {made} with Python "
        f"{manifest.python}, format {manifest.format}"
    )
    told = [
        head,
        f"in use by {found.used_by}; what it has just written may be missing here" if found.used_by else "not in use",
        "",
    ]
    for node, sizes in found.encoded.items():
        told.append(f"node {node}  bytes: {_listed(sizes)}")
    if found.encoded:
        return [*told, "", _ENCODED]
    for node in manifest.nodes:
        if node in found.problems:
            told.append(f"node {node}  CANNOT BE READ: {found.problems[node]}")
            continue
        one = found.nodes[node]
        snapshot = (
            f"snapshot of entry {one.snapshot_index} ({one.snapshot_bytes:,} bytes)"
            if one.snapshot_index
            else "no snapshot"
        )
        told.append(
            f"node {node}  term {one.term}, entries {one.first_index} to {one.last_index}, known committed to "
            f"{one.commit_index}, {snapshot}; bytes: {_listed(one.sizes)}"
        )
    state = found.state
    told += [
        "",
        f"as of entry {state.index}: {_count(len(state.definitions), 'workflow')}, {_count(len(state.runs), 'run')}",
    ]
    told += [f"workflow  {workflow}, version {version}" for workflow, version in sorted(state.definitions)]
    for run in state.runs.values():
        told.append(_run_line(run))
        if steps:
            told += [
                f"    {step.step_id}  {'failed' if step.failure else 'recorded'} by node {step.node}"
                for step in run.steps
            ]
    return told


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items())


def _run_line(run: Run) -> str:
    definition = run.definition
    why = f": {run.failure}" if run.failure is not None else ""
    return (
        f"run  {run.run_id}  {definition.workflow}, version {definition.version}  {run.status}{why}, "
        f"{_count(len(run.by_id), 'step')} recorded"
    )


def as_data(found: DirectoryContents) -> dict[str, Any]:
    """Return the same as plain data, for `--json`."""
    return {
        "cluster": msgspec.to_builtins(found.manifest),
        "used_by": found.used_by,
        "nodes": {str(node): msgspec.to_builtins(one) for node, one in found.nodes.items()},
        "encoded": {str(node): dict(sizes) for node, sizes in found.encoded.items()},
        "problems": {str(node): problem for node, problem in found.problems.items()},
        "index": found.state.index,
        "workflows": sorted(f"{workflow} v{version}" for workflow, version in found.state.definitions),
        "runs": {
            run.run_id: {
                "workflow": run.definition.workflow,
                "version": run.definition.version,
                "status": run.status,
                "steps": [step.step_id for step in run.steps],
            }
            for run in found.state.runs.values()
        },
    }


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# --- the command ------------------------------------------------------------------------------------------------------


def read_key(file: Path) -> bytes:
    """Return the key in a file: its 32 bytes, or 64 hexadecimal digits. Raises `BadArgumentError`, which never shows what is in it."""
    try:
        data = file.expanduser().read_bytes()
    except OSError as error:
        raise BadArgumentError(f"the key cannot be read: {error}") from None
    if len(data) != KEY_BYTES:
        with contextlib.suppress(ValueError):
            data = bytes.fromhex(data.decode("ascii"))
    if len(data) != KEY_BYTES:
        raise BadArgumentError(f"{file} holds no key: that is {KEY_BYTES} bytes, or {2 * KEY_BYTES} hexadecimal digits")
    return data


def run(arguments: argparse.Namespace) -> int:
    """Carry out `inspect`; returns the exit code."""
    try:
        key = None if arguments.encryption_key is None else read_key(arguments.encryption_key)
        found = read(arguments.directory.absolute(), key)
    except RaftoralError as error:
        print(f"raftoral-nb: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(as_data(found), indent=2))
    else:
        print("\n".join(lines(found, steps=arguments.steps)))
    return 1 if found.problems or found.encoded else 0

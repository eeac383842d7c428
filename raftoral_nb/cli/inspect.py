"""`raftoral-nb inspect DIR`: what a data directory holds, read without starting anything and without changing a file."""

from __future__ import annotations

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
    DamagedStorageError,
    ForeignDirectoryError,
    ProtocolError,
    RaftoralError,
    SnapshotError,
    StorageError,
)
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
    """Bytes of each file."""


class DirectoryContents(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a data directory. `problems` says why a node cannot be read."""

    path: Path
    manifest: Manifest
    used_by: str | None
    nodes: Mapping[NodeId, NodeFiles]
    problems: Mapping[NodeId, str]
    state: State
    """The state after the entries known to be committed; a cluster that continues may find that more of them are."""


def read(path: Path) -> DirectoryContents:
    """Read a data directory. Raises `StorageError` if it is none, or `cluster.json` cannot be read."""
    manifest = read_manifest(path) if path.exists() else None
    if manifest is None:
        raise ForeignDirectoryError(
            f"there is no cluster in {path}; a data directory is made by %raftoral start --data-dir DIR"
        )
    used_by = owner(path)
    nodes: dict[NodeId, NodeFiles] = {}
    problems: dict[NodeId, str] = {}
    best = State()
    for node in manifest.nodes:
        try:
            nodes[node], state = _read_node(path, manifest, node, READS if used_by else 1)
        except (StorageError, SnapshotError) as error:
            problems[node] = str(error)
        else:
            best = max(best, state, key=lambda one: one.index)
    return DirectoryContents(path=path, manifest=manifest, used_by=used_by, nodes=nodes, problems=problems, state=best)


def _read_node(path: Path, manifest: Manifest, node: NodeId, tries: int) -> tuple[NodeFiles, State]:
    for left in reversed(range(tries)):
        try:
            found, pieces = read_node(path, manifest, node)
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
    folder = node_folder(path, node)
    return NodeFiles(
        node=node,
        term=contents.term,
        vote=contents.vote,
        first_index=contents.entries[0][1] if contents.entries else 0,
        last_index=contents.entries[-1][1] if contents.entries else 0,
        commit_index=min(contents.commit, contents.entries[-1][1]) if contents.entries else 0,
        snapshot_index=0 if contents.kept is None else contents.kept.index,
        snapshot_bytes=sum(map(len, pieces)),
        sizes={file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    ), state


# --- in words ---------------------------------------------------------------------------------------------------------


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
        sizes = ", ".join(f"{name} {size:,}" for name, size in one.sizes.items())
        told.append(
            f"node {node}  term {one.term}, entries {one.first_index} to {one.last_index}, known committed to "
            f"{one.commit_index}, {snapshot}; bytes: {sizes}"
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


def run(arguments: argparse.Namespace) -> int:
    """Carry out `inspect`; returns the exit code."""
    try:
        found = read(arguments.directory.absolute())
    except RaftoralError as error:
        print(f"raftoral-nb: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(as_data(found), indent=2))
    else:
        print("\n".join(lines(found, steps=arguments.steps)))
    return 1 if found.problems else 0

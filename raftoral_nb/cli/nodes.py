"""`raftoral-nb ps`, `raftoral-nb stop` and `raftoral-nb node`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from ..discovery import key_file
from ..discovery.key_file import KeyFile
from ..errors import ClusterError, NodeStateError, RaftoralError

PORT: Final = 7001
"""The port of a node that is given an address without one."""


def add_parsers(commands: Any) -> None:
    """Add the three commands to the command line."""
    ps = commands.add_parser(
        "ps",
        help="show your clusters that run on this machine",
        description="Shows the clusters that you have running on this machine: those of notebooks, and those whose nodes are "
        "processes of their own, which can be attached to.",
    )
    ps.add_argument("--json", action="store_true", help="as JSON")
    stop = commands.add_parser(
        "stop",
        help="stop a cluster whose nodes are processes of their own",
        description="Stops a cluster whose nodes are processes of their own. What is in its data directory stays.",
    )
    stop.add_argument("name", metavar="NAME", help="the cluster's name, or the path of its key file")
    node = commands.add_parser(
        "node",
        help="run one node of a cluster, on a machine of its own",
        description="Runs one node in this process until it is interrupted. The first node makes the cluster, and the key file "
        "if there is none; it is copied, as secret as it is, to the other machines, where nodes join with it. A node that was "
        "a member before continues from its data directory.",
    )
    node.add_argument("--listen", metavar="HOST[:PORT]", required=True, help=f"where the others find it (port: {PORT})")
    node.add_argument("--key-file", metavar="FILE", type=Path, required=True, help="the cluster's key file")
    node.add_argument("--data-dir", metavar="DIR", type=Path, required=True, help="where this node keeps its log")
    node.add_argument(
        "--join", metavar="HOST:PORT", action="append", default=[], help="a node that runs; may be repeated"
    )
    node.add_argument("--name", help="the cluster's name, for the first node (default: that of the key file)")
    node.add_argument("--durability", choices=("process", "disk"), default="process", help="default: %(default)s")
    node.add_argument(
        "--keep-runs", metavar="N", help="how many finished runs the cluster keeps (default: as it is; at first, 1000)"
    )
    node.add_argument(
        "--keep-bytes",
        metavar="SIZE",
        help="how much of finished runs the cluster keeps, such as 200MB (default: as it is; at first, 1GB)",
    )
    node.add_argument(
        "--label",
        metavar="LABEL",
        action="append",
        default=[],
        help="steps with where=LABEL can run on this node; may be repeated",
    )
    node.add_argument(
        "--max-value-bytes",
        metavar="SIZE",
        help="how large a value may be that the cluster keeps, such as 3GB (default: as it is; at first, 1GiB)",
    )
    node.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="warning", metavar="LEVEL")


def run(arguments: argparse.Namespace) -> int:
    """Run one of them; returns the exit code."""
    try:
        match arguments.command:
            case "ps":
                return _ps(as_json=arguments.json)
            case "stop":
                return _stop(arguments.name)
            case _:
                from ..hosts.remote.bootstrap import run_node

                return run_node(arguments, PORT)
    except RaftoralError as error:
        print(f"raftoral-nb {arguments.command}: {error}", file=sys.stderr)
        return 1


# --- ps


def _ps(*, as_json: bool) -> int:
    found = key_file.found()
    if as_json:
        print(msgspec.json.format(msgspec.json.encode([_told(one) for one in found])).decode())
        return 0
    rows = [("NAME", "NODES", "WHERE", "SINCE", "DATA")]
    for one in found:
        content = one.content
        if content is None:
            print(f"{one.path}: {one.problem}", file=sys.stderr)
            continue
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(content.made))
        rows.append((content.name, _nodes(content), _where(content), since, content.data_dir or "-"))
    if len(rows) == 1:
        print("no cluster of yours runs on this machine")
        return 0
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _nodes(content: KeyFile) -> str:
    return ",".join(map(str, sorted(content.nodes))) or "-"


def _where(content: KeyFile) -> str:
    if content.kind == "kernel":
        return content.whose
    pids = ",".join(str(process.pid) for process in content.processes if process != content.owner)
    ends = "keep running without it" if content.owner is None else f"end with {content.owner}"
    return f"processes {pids}, which {ends}"


def _told(one: key_file.Found) -> dict[str, Any]:
    content = one.content
    if content is None:
        return {"file": str(one.path), "problem": one.problem}
    return {
        "file": str(one.path),
        "name": content.name,
        "kind": content.kind,
        "outlives": content.kind == "processes" and content.owner is None,
        "data_dir": content.data_dir,
        "since": content.made,
        "nodes": {
            str(number): {"address": place.address, "pid": None if place.process is None else place.process.pid}
            for number, place in sorted(content.nodes.items())
        },
    }


# --- stop


def _stop(name: str) -> int:
    path = key_file.path_meant(name)
    found = key_file.of_cluster(name) if path is None else key_file.Found(path, key_file.read(path))
    content = found.content
    assert content is not None
    if content.kind == "kernel":
        raise ClusterError(f"cluster {content.name!r} lives in {content.whose}: stop it there, with %raftoral stop")
    asyncio.run(_stop_nodes(content))
    with contextlib.suppress(RaftoralError):
        if path is None:
            key_file.remove(found.path, content.key)
    print(f"cluster {content.name} stopped")
    return 0


async def _stop_nodes(content: KeyFile) -> None:
    from ..hosts.remote.announcement import KeyFileOfProcesses
    from ..hosts.remote.last_known import wait_gone
    from ..hosts.remote.messages import Hello, Stop
    from ..hosts.remote.rpc import Calls
    from ..transport.tls import Tls

    announced = KeyFileOfProcesses(None, content)
    tls = None if content.certificate is None else Tls(content.certificate)
    addresses, done, problems = dict(announced.addresses), set[int](), []
    while left := sorted(set(addresses) - done):  # those that are met tell of others
        for number in left:
            done.add(number)
            try:
                calls = await Calls.open(content.key, addresses[number], number, lambda calls: None, tls=tls)
            except ClusterError as error:
                process = announced.processes.get(number)
                if process is not None and not process.gone:
                    problems.append(f"node {number} ({process}): {error}")
                continue
            try:
                welcome = (await calls.ask(Hello())).body
            except NodeStateError:  # it ends just now
                continue
            for other, address in welcome.elsewhere.items():
                addresses.setdefault(other, address)
            with contextlib.suppress(NodeStateError):
                await calls.ask(Stop())
            await calls.lost
            if not await asyncio.to_thread(wait_gone, welcome.process, 5.0):
                problems.append(f"node {number} ({welcome.process}) has not ended yet")
    if problems:
        raise ClusterError("not every node was stopped: " + "; ".join(problems))

"""`raftoral-nb node`: the first node of a cluster, one that joins, or one that comes back."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from ...core.commands import ChangeMembers, Command, Committed, Outcome, Rejected
from ...core.labels import checked_labels
from ...core.records import NodeId
from ...discovery import key_file
from ...discovery.key_file import KeyFile, Place
from ...discovery.process_identity import Process
from ...errors import ClusterError, KeyFileError, NotAcknowledgedError, RaftoralError
from ...raft.compaction import DEFAULT_COMPACTION
from ...raft.replica import Timing
from ...storage.data_directory import Durability, Manifest, read_manifest
from ...storage.shared_directory import prepare
from ...transport.frames import new_key
from ...transport.tls import Tls, is_loopback, make_certificate
from .. import options
from ..spread import Spread
from .announcement import address_text, parse_address
from .messages import Address, Ask, Hello, Introduce, JoinAnswer, JoinRequest, Shared, Spec, Welcome
from .node_process import Ending, Ready, run
from .rpc import Calls
from .server import remember

T = TypeVar("T")

JOIN_SECONDS: Final = 30.0
"""The time a node that joins waits for a majority to make it a member (seconds)."""

ADDRESSES_FILE: Final = "addresses.json"
"""The file, in the data directory, of the other nodes' last known addresses."""


def run_node(arguments: argparse.Namespace, default_port: int) -> int:
    """Run the node until it is ended; returns the exit code. Raises `RaftoralError` if it cannot start.

    An address without a port is meant to have the `default_port`.
    """
    host, port = parse_address(arguments.listen, default_port)
    if _is_anywhere(host):
        raise ClusterError(f"--listen {host!r} is no address that the others can dial: give the one of this machine")
    labels = checked_labels(arguments.label, "--label")
    settings = _settings(arguments.keep_runs, arguments.keep_bytes, arguments.max_value_bytes)
    joins = [parse_address(text, default_port) for text in arguments.join]
    path: Path = arguments.data_dir.expanduser().absolute()
    manifest = _manifest_of_one_node(path)
    file: Path = arguments.key_file.expanduser()
    if joins or (manifest is not None and file.exists()):
        content = key_file.read(file)
    else:
        content = _first_key_file(file, arguments.name, host)
    if not joins and manifest is None and content.nodes:
        there = " or ".join(f"--join {place.address}" for _, place in sorted(content.nodes.items()))
        raise ClusterError(
            f"the key file {file} is of a cluster that has nodes already, and {path} holds none of them: to start a first node again "
            f"would make another cluster under the same key. Join it ({there}), or name another key file to begin a new one"
        )
    ending = Ending()
    ending.catch_signals()
    joined = _let_in(ending, content, joins, new=manifest is None) if joins else None
    node, founders = _prepared(path, manifest, joined, content.name, arguments.durability)
    addresses = path / ADDRESSES_FILE
    spec = Spec(
        shared=_shared(joined, content.name, founders, path, arguments.durability),
        key=content.key,
        node=node,
        incarnation=1,
        host=host,
        port=port,
        elsewhere={**_remembered(addresses), **({} if joined is None else joined.nodes)},
        remember=str(addresses),
        parent=None,
        log_level=arguments.log_level,
        certificate=content.certificate,
        labels=labels,
    )
    is_new_member = manifest is None and joined is not None
    return run(spec, ending, None, (), partial(_listening, spec, ending, file, content, is_new_member, settings))


def _manifest_of_one_node(path: Path) -> Manifest | None:
    """Return what a data directory says of the node in it; None if it is new. Raises `ClusterError` if it holds several nodes."""
    manifest = read_manifest(path)
    if manifest is not None and len(manifest.nodes) != 1:
        raise ClusterError(
            f"{path} holds nodes {', '.join(map(str, manifest.nodes))} of cluster {manifest.name!r}, and this runs one node, of a folder of its "
            f"own. Start them together: Cluster(processes=True, data_dir={str(path)!r}), or %raftoral start --processes "
            "--data-dir; or name another folder for a node of another cluster"
        )
    return manifest


def _let_in(ending: Ending, content: KeyFile, joins: Sequence[Address], *, new: bool) -> JoinAnswer:
    """Return what the running nodes answer to one that wants to join. Raises `ClusterError` if none does, or it is ended before."""
    try:
        return asyncio.run(_until_asked(ending, _ask_to_join(content, joins, new=new)))
    except asyncio.CancelledError:
        raise ClusterError("the node was stopped before it had joined; nothing was created") from None


def _prepared(
    path: Path, manifest: Manifest | None, joined: JoinAnswer | None, name: str, durability: Durability
) -> tuple[NodeId, Sequence[NodeId]]:
    """Return the number of the node, and the founders of its cluster; its data directory is there from here on."""
    if manifest is not None:
        return manifest.nodes[0], manifest.founders
    if joined is None:
        prepare(path, name, [1], durability)
        return 1, (1,)
    assert joined.node is not None, "a number was asked for"
    prepare(path, name, [joined.node], durability, joined.shared.founders)
    return joined.node, joined.shared.founders


def _settings(keep_runs: str | None, keep_bytes: str | None, max_value_bytes: str | None) -> Mapping[str, Command]:
    """Return the commands for what is to be kept, as it was written, by the flags that asked for it. Raises `ClusterError`."""
    number = int(keep_runs) if keep_runs is not None and keep_runs.isdecimal() else keep_runs
    asked = {
        "--keep-runs and --keep-bytes": options.retention(number, keep_bytes),
        "--max-value-bytes": options.value_limit(max_value_bytes),
    }
    return {flags: command for flags, command in asked.items() if command is not None}


def _listening(
    spec: Spec, ending: Ending, file: Path, content: KeyFile, new: bool, settings: Mapping[str, Command], ready: Ready
) -> None:
    """Announce that the node listens: in its key file, to the other nodes, and to the process that started it."""
    node = spec.node
    _place(file, content, node, ready.address)
    remember(spec, spec.elsewhere)
    others = {number: address for number, address in spec.elsewhere.items() if number != node}
    try:
        asyncio.run(_until_asked(ending, _introduce(content, node, ready.address, others, new=new)))
    except asyncio.CancelledError:
        if new:
            raise ClusterError(
                f"node {node} was stopped before it became a member; start it again with an empty data directory"
            ) from None
        return
    print(f"node {node} of cluster {content.name} listens at {address_text(ready.address)}", flush=True)
    if settings:
        with contextlib.suppress(asyncio.CancelledError):  # it is ended, and says so elsewhere
            asyncio.run(_until_asked(ending, _set(content, node, ready.address, settings)))


def _is_anywhere(host: str) -> bool:
    """Tell whether an address is one to listen on that nobody can dial, however it is written. Asks no name server."""
    try:
        found = socket.getaddrinfo(host or "0", None, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):  # a name
        return False
    addresses = [ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in found]
    return any(one.is_unspecified or getattr(one, "ipv4_mapped", one) == _NOWHERE for one in addresses)


_NOWHERE: Final = ipaddress.IPv4Address(0)


async def _until_asked(ending: Ending, work: Coroutine[Any, Any, T]) -> T:
    """Do something, and cancel it when the process is to end meanwhile."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def asked() -> None:
        loop.remove_reader(ending.descriptor)
        task.cancel()

    loop.add_reader(ending.descriptor, asked)
    try:
        return await task
    finally:
        loop.remove_reader(ending.descriptor)


def _remembered(file: Path) -> dict[NodeId, Address]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[NodeId, Address])
    except (OSError, ValueError):  # it is of use, and not needed
        return {}


def _first_key_file(file: Path, name: str | None, host: str) -> KeyFile:
    if file.exists():
        return key_file.read(file)
    named = name or file.stem
    content = KeyFile(
        name=named,
        key=new_key(),
        kind="processes",
        certificate=None if is_loopback(host) else make_certificate(named),
    )
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(msgspec.json.format(msgspec.json.encode(content)))
    except OSError as error:
        raise KeyFileError(f"the key file {file} cannot be made: {error}") from error
    print(
        f"made {file}: anybody who has it can join, so copy it only to the machines of the other nodes", file=sys.stderr
    )
    return content


def _place(file: Path, content: KeyFile, node: NodeId, address: Address) -> None:
    """Say in the key file, which may be the copy of this machine, where the node is."""
    nodes = {**key_file.read(file).nodes, node: Place(address_text(address), Process.own())}
    data = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(content, nodes=nodes)))
    half = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
        half.replace(file)
    except OSError as error:
        half.unlink(missing_ok=True)
        print(f"the key file {file} cannot be brought up to date: {error}", file=sys.stderr)


def _shared(
    joined: JoinAnswer | None, name: str, founders: Sequence[NodeId], path: Path, durability: Durability
) -> Shared:
    if joined is not None:
        return msgspec.structs.replace(joined.shared, data_dir=str(path), durability=durability, path=())
    return Shared(
        name=name,
        founders=tuple(founders),
        data_dir=str(path),
        temporary=False,
        durability=durability,
        timing=Timing(),
        compaction=DEFAULT_COMPACTION,
        proposal_timeout=10.0,
        spread=Spread(runs=True),
    )


def _tls(content: KeyFile) -> Tls | None:
    return None if content.certificate is None else Tls(content.certificate)


async def _ask_to_join(content: KeyFile, known: Sequence[Address], *, new: bool) -> JoinAnswer:
    """Ask those who run for a number, if the node is new, and where the others are. Raises `ClusterError` if nobody answers."""
    problems = []
    for address in known:
        if new:
            print(f"joining cluster {content.name} through {address_text(address)}", file=sys.stderr, flush=True)
        try:
            calls = await Calls.open(content.key, address, None, lambda calls: None, tls=_tls(content))
            try:
                joined: JoinAnswer = (await calls.ask(JoinRequest(reserve=new))).body
                return joined
            finally:
                calls.close()
                await calls.lost
        except RaftoralError as error:
            problems.append(str(error))
    raise ClusterError(
        f"no node of cluster {content.name!r} let this one join: {'; '.join(problems) or 'none is known'}"
    )


async def _introduce(content: KeyFile, node: NodeId, own: Address, others: dict[NodeId, Address], *, new: bool) -> None:
    """Tell the others where this node is, and have it made a member if it is none. Raises `NotAcknowledgedError`.

    One that comes back may be none: it was killed before it became one, or was removed meanwhile.
    """
    asks = new

    async def reach(number: NodeId, address: Address) -> Outcome | None:
        try:
            calls = await Calls.open(content.key, address, number, lambda calls: None, tls=_tls(content))
            try:
                nonlocal asks
                await calls.ask(Introduce(node, own))
                if not new:
                    welcome: Welcome = (await calls.ask(Hello())).body
                    # As far as that node knows; one that has just started knows nothing.
                    if not welcome.applied or node in (welcome.members or welcome.shared.founders):
                        return None
                    asks = True
                return await _become_member(node, calls)
            finally:
                calls.close()
                await calls.lost
        except RaftoralError as error:
            # It is dialed by the one with the higher number, which knows where it is, as soon as it can be reached.
            print(f"node {number} at {address_text(address)} cannot be reached now: {error}", file=sys.stderr)
            return None

    asked = {asyncio.ensure_future(reach(number, address)) for number, address in others.items()}
    outcome: Outcome = Rejected("no node could be reached", "no_leader")
    try:
        for answered in asyncio.as_completed(asked):
            # Any of them may pass it on, and those that cannot reach the others wait until they can.
            outcome = await answered or outcome
            if isinstance(outcome, Committed) or _never(outcome):
                break
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    if isinstance(outcome, Committed) or not asks:
        return
    why = outcome.reason
    if _never(outcome):
        raise NotAcknowledgedError(f"{why}; start it with an empty data directory", may_commit=False)
    if new:
        raise NotAcknowledgedError(
            f"node {node} was not made a member within {JOIN_SECONDS:g} s: {why}; start it again, with an empty data directory",
            may_commit=not isinstance(outcome, Rejected),
        )
    print(f"node {node} may not be a member; no majority answered within {JOIN_SECONDS:g} s: {why}", file=sys.stderr)


async def _set(content: KeyFile, node: NodeId, own: Address, settings: Mapping[str, Command]) -> None:
    """Have the cluster keep as much as was asked for, as soon as it has a leader; says so if it has none for long."""
    for flags, command in settings.items():
        try:
            calls = await Calls.open(content.key, own, node, lambda calls: None, tls=_tls(content))
            try:
                outcome = await _asked(calls, command)
            finally:
                calls.close()
                await calls.lost
        except RaftoralError as error:
            outcome = Rejected(str(error), "no_leader")
        if not isinstance(outcome, Committed):
            print(f"{flags} were not set, start the node again: {outcome.reason}", file=sys.stderr)


def _never(outcome: Outcome) -> bool:
    """Tell whether the node can never be a member, as its number was another's, or its own before it was removed."""
    return isinstance(outcome, Rejected) and outcome.code == "number_taken"


async def _become_member(node: NodeId, calls: Calls) -> Outcome:
    """Ask one node for it, until it is so or the time is up: another change may be under way, or nobody lead."""
    return await _asked(calls, ChangeMembers(node, "add"))


async def _asked(calls: Calls, command: Command) -> Outcome:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + JOIN_SECONDS
    while True:
        outcome: Outcome = (await calls.ask(Ask(command, max(1.0, deadline - loop.time())))).body
        if isinstance(outcome, Committed) or _never(outcome) or loop.time() >= deadline:
            return outcome
        await asyncio.sleep(Timing().election_min)

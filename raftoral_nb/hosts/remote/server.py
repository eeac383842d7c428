"""The server of a node's process, where clients ask. Everything here runs on the consensus loop of that process."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ...core.commands import Committed, Outcome, Rejected, ReserveNumber
from ...core.events import ClusterEvent
from ...core.records import NodeId
from ...discovery.process_identity import Process
from ...errors import ClusterError, NodeStateError, NotAcknowledgedError, RaftoralError
from ...limits import MAX_NODES
from ...node import execution_queries
from ...raft.journal import Snapshot
from ...storage.sqlite_store import write_file
from ...transport.clients import ClientHandler, ReplyChannel
from ..view_frame import Described
from .messages import (
    MAX_ANSWER_BYTES,
    MAX_ITEMS,
    Address,
    Announce,
    Answer,
    Answered,
    Ask,
    AskAll,
    Asked,
    AwaitApplied,
    AwaitEnd,
    Boot,
    BringBlob,
    BringPiece,
    Campaign,
    ChangeLinks,
    ChangeNode,
    Drop,
    Entries,
    Follow,
    Forget,
    HandOver,
    Hello,
    Introduce,
    JoinAnswer,
    JoinRequest,
    LogAnswer,
    Look,
    Moved,
    News,
    NodeLook,
    Objected,
    Query,
    ReadBlob,
    ReadCode,
    ReadEntries,
    ReadLog,
    ReadPiece,
    Refusal,
    Request,
    SnapshotOffer,
    Spec,
    Stop,
    Validate,
    Welcome,
    decode_request,
    encode,
    refusal,
    unpacked,
)
from .node_backend import NodeBackend, beside
from .remote_blobs import BlobRequests

logger = logging.getLogger(__name__)

MAX_QUESTIONS: Final = 256
"""The most unanswered requests of one client; past it the client is disconnected."""

_REGULAR: Final = b"\x00"
"""The first byte of log entries that are ours."""


class RpcServer:
    """The server of all clients of a process. `stop()` is called when one asks for the process' end."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.host: NodeBackend
        self.stop = stop
        self.described = Described()

    def receive(self, channel: ReplyChannel) -> ClientHandler:
        """Open the session of a client that has proven the key."""
        return RpcSession(self, channel)

    def keep_blob(self, digest: str) -> None:
        """Keep a large value that a client brought: its command follows."""
        incarnation = self.host.incarnation(self.host.node)
        if incarnation is not None:
            incarnation.member.blobs.keep(digest)

    # --- what is asked

    async def do(self, asked: Asked, session: RpcSession) -> Any:
        """Return the answer to a question; raises `RaftoralError` where it cannot be done."""
        host = self.host
        node = host.node
        match asked:
            case Hello():
                return self._welcome()
            case Follow(told=told, status=number):
                return await self._news(told, number)
            case ReadLog(after=after):
                return await self._log(after, session)
            case ReadPiece(number=number):
                return session.piece(number)
            case Ask(command=command, timeout=timeout):
                incarnation = host.incarnation(node)
                if incarnation is None:
                    return Rejected(f"node {node} is dead", "stopped")
                return await incarnation.ask(command, timeout)
            case AskAll(commands=commands, timeout=timeout):
                incarnation = host.incarnation(node)
                if incarnation is None:
                    return [Rejected(f"node {node} is dead", "stopped")] * len(commands)
                return await incarnation.ask_all(commands, timeout)
            case ChangeNode(change=change):
                await self._change(change)
                return host.status()
            case Campaign():
                host.alive(node, "made a candidate").campaign()
            case HandOver(target=target):
                host.alive(node, "asked").hand_over(target)
            case ChangeLinks():
                self._change_links(asked)
            case Announce(kind=kind, data=data, origin=origin):
                event: Any = unpacked(kind, data)
                if isinstance(event, ClusterEvent):
                    host.event_log.put(kind, data, origin, time.time())
            case Introduce(node=other, address=address):
                self._introduce(other, address)
            case Forget(node=other):
                host.tcp.forget(other)
                remember(host.spec, host.tcp.elsewhere)
            case Look(only=only, entries=count):
                return self._look(None if only is None else frozenset(only), count)
            case ReadEntries(last=last):
                return host.log_words(node, last)
            case Query(run_id=run_id, name=name, args=args):
                value, failure = await beside(host, node, execution_queries.answer, run_id, name, args)
                return Answered(value, failure)
            case Validate(run_id=run_id, name=name, value=data):
                return Objected(await beside(host, node, execution_queries.objection, run_id, name, data))
            case AwaitEnd(run_id=run_id):
                return await beside(host, node, execution_queries.end, run_id)
            case AwaitApplied(target=target):
                return await host.on_await_applied(node, target)
            case Boot():
                await host.on_boot(node)
                return host.status()
            case BringBlob():
                return await session.blobs.begins(asked)
            case BringPiece():
                await session.blobs.comes(asked)
            case ReadBlob():
                return await session.blobs.read(asked)
            case ReadCode(run_id=run_id):
                return host.run_code(run_id)
            case JoinRequest(reserve=reserve):
                return await self._join_answer(reserve=reserve)
            case Stop():
                asyncio.get_running_loop().call_later(0.01, self.stop)  # the answer leaves first
        return None

    def _welcome(self) -> Welcome:
        host = self.host
        network = host.tcp
        lanes = [(a, b) for a in host.everybody for b in host.everybody if a != b]
        slow = [(a, b, delay) for a, b in lanes if (delay := network.delay(a, b)) is not None]
        return Welcome(
            shared=host.spec.shared,
            node=host.node,
            incarnation=host.starts[host.node],
            process=Process.own(),
            python=platform.python_version(),
            status=host.status(),
            status_number=host.status_number,
            told=host.event_log.told,
            applied=self.applied,
            members=host.head().members,
            elsewhere=dict(network.elsewhere),
            cuts=tuple(lane for lane in lanes if network.is_cut(*lane)),
            delays=tuple(slow),
        )

    @property
    def applied(self) -> int:
        """The index up to which the log is applied."""
        incarnation = self.host.incarnation(self.host.node)
        return 0 if incarnation is None else incarnation.member.replica.raft.applied_index

    async def _news(self, told: int, status_number: int) -> News:
        host = self.host
        while host.event_log.told == told and host.status_number == status_number:
            await host.event_log.news()
        host.look_at_status()
        items, missed = host.event_log.behind(told)
        upto = items[-1].number if items else host.event_log.told
        return News(items, upto, missed, host.status(), host.status_number)

    async def _log(self, after: int, session: RpcSession) -> LogAnswer:
        host = self.host
        while True:
            incarnation = host.incarnation(host.node)
            if incarnation is not None and self.applied > after:
                break
            await host.entries_applied()
        journal = host.journals.of(host.node)
        applied = self.applied
        if journal.first_index > after + 1 and journal.snapshot is not None:
            return LogAnswer(None, session.offer(journal.snapshot))
        found: list[tuple[int, bytes]] = []
        upto, size = after, 0
        # The first entry may only stand for what a snapshot has.
        if journal.term_at(after + 1) is not None and not journal[after + 1 - journal.first_index][0]:
            assert journal.snapshot is not None
            return LogAnswer(None, session.offer(journal.snapshot))
        for data, index, _ in journal[after + 1 - journal.first_index : applied + 1 - journal.first_index]:
            if found and (size + len(data) > MAX_ANSWER_BYTES or len(found) >= MAX_ITEMS):
                break
            upto = index
            if data[:1] == _REGULAR and len(data) > 1:
                found.append((index, data[1:]))
                size += len(data)
        return LogAnswer(Entries(tuple(found), upto), None)

    async def _change(self, change: str) -> None:
        incarnation = self.host.alive(self.host.node, "changed")
        match change:
            case "pause":
                incarnation.pause()
            case "resume":
                incarnation.resume()
            case "hold":
                incarnation.hold()
                # The gate is closed when this is answered, unless a workflow blocks.
                try:
                    async with asyncio.timeout(1.0):
                        await beside(self.host, self.host.node, _passed)
                except TimeoutError:
                    pass
            case "release":
                incarnation.release()
        self.host.look_at_status()

    def _change_links(self, asked: ChangeLinks) -> None:
        network = self.host.tcp
        for source, target, cut in asked.cuts:
            (network.cut if cut else network.mend)(source, target, both=False)
        for source, target, delay in asked.delays:
            network.slow(source, target, delay, both=False)

    def _introduce(self, node: NodeId, address: Address) -> None:
        if node == self.host.node:
            return
        self.host.tcp.introduce(node, address)
        self.host.event_log.add(Moved(node, address))
        remember(self.host.spec, self.host.tcp.elsewhere)

    def _look(self, only: frozenset[str] | None, entries: int) -> NodeLook:
        host = self.host
        self.described.begin()
        return NodeLook(
            host.node_statistics(host.node, 0, only),
            host.tail(host.node, entries, self.described.of),
            host.tcp.refused_frames,
            host.tcp.dropped_unauthenticated,
        )

    async def _join_answer(self, *, reserve: bool) -> JoinAnswer:
        """Return the nodes' addresses, for a node that joins or comes back, and a number that a majority reserves for it alone."""
        host = self.host
        if reserve and len(host.head().members) >= MAX_NODES:
            raise ClusterError(f"a cluster has at most {MAX_NODES} nodes; remove one first")
        if host.incarnation(host.node) is None:
            raise NodeStateError(f"node {host.node} is dead; ask another one")
        number = await self._reserve_number() if reserve else None
        nodes: dict[NodeId, Address] = {**host.tcp.elsewhere, **host.tcp.addresses}
        return JoinAnswer(node=number, shared=host.spec.shared, nodes=nodes)

    async def _reserve_number(self) -> NodeId:
        host = self.host
        number = 0
        outcome: Outcome = Rejected("nobody was asked", "number_taken")
        while isinstance(outcome, Rejected) and outcome.code == "number_taken":
            number = max(number + 1, host.next_number(), *(other + 1 for other in host.tcp.elsewhere))
            outcome = await host.on_ask(ReserveNumber(number))
        if not isinstance(outcome, Committed):
            raise NotAcknowledgedError(f"no majority agreed on a number for it: {outcome.reason}", may_commit=False)
        return number


def remember(spec: Spec, elsewhere: Mapping[NodeId, Address]) -> None:
    """Keep where the other nodes are, for when this one is started again."""
    if spec.remember is not None:
        try:
            write_file(Path(spec.remember), msgspec.json.encode(dict(elsewhere)))
        except OSError as error:
            logger.warning("the addresses of the other nodes cannot be stored: %s", error)


async def _passed(_executor: Any) -> None:
    """Done when the node's thread has come to it."""


class RpcSession:
    """The session of one client (`transport.clients.ClientHandler`)."""

    def __init__(self, server: RpcServer, channel: ReplyChannel) -> None:
        self._server = server
        self._channel = channel
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._offered: Snapshot | None = None
        self.blobs = BlobRequests(lambda: server.host.journals.of(server.host.node).blobs, server.keep_blob)

    def received(self, payloads: Sequence[bytes]) -> None:
        """Questions."""
        for payload in payloads:
            request = decode_request(payload)
            if isinstance(request.asked, Drop):
                task = self._tasks.get(request.asked.request)
                if task is not None:
                    task.cancel()
                continue
            if len(self._tasks) >= MAX_QUESTIONS:
                self._channel.abort()
                return
            task = asyncio.get_running_loop().create_task(self._serve(request))
            self._tasks[request.number] = task

    def lost(self) -> None:
        """End the session of a client that has left: what it waited for is dropped."""
        for task in tuple(self._tasks.values()):
            task.cancel()
        self.blobs.abandon()

    def offer(self, snapshot: Snapshot) -> SnapshotOffer:
        """Keep a snapshot for this client while it reads it, whatever becomes of the node's own."""
        self._offered = snapshot
        return SnapshotOffer(snapshot.index, len(snapshot.pieces))

    def piece(self, number: int) -> bytes:
        """Return a piece of the snapshot that was offered."""
        if self._offered is None or not 0 <= number < len(self._offered.pieces):
            raise ClusterError(f"no piece {number} of a snapshot was offered")
        return self._offered.pieces[number]

    async def _serve(self, request: Request) -> None:
        body, refused = b"", None
        try:
            try:
                answer = await self._server.do(request.asked, self)
                body = b"" if answer is None else encode(answer)
            except RaftoralError as error:
                refused = refusal(error)
            except Exception as error:
                logger.exception("a client's request %s failed", type(request.asked).__name__)
                refused = Refusal("ClusterError", f"the request failed on the node: {type(error).__name__}: {error}")
            host = self._server.host
            self._answer(Answer(request.number, host.event_log.told, self._server.applied, body, refused))
        finally:
            self._tasks.pop(request.number, None)

    def _answer(self, answer: Answer) -> None:
        try:
            self._channel.answer(encode(answer))
        except RaftoralError as error:  # too large for a frame
            self._channel.answer(encode(Answer(answer.number, answer.told, answer.applied, b"", refusal(error))))

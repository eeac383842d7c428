"""The notes on a simulation while it runs: its history, and the violations its checker found."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Sequence
from hashlib import blake2b

from ..core.apply import Applied
from ..core.cluster_events import EffectStarted, ExecutionStopped, RoleChanged
from ..core.commands import Committed, Outcome
from ..core.events import ClusterEvent
from ..core.records import NodeId
from ..transport.messages import Message
from ..workflow.execution.execution import Execution
from ..workflow.execution.inbox import HandedOver
from .invariants import TORN_APART, Checker
from .result import HistoryItem
from .simulated_node import SimulatedNode
from .tap import GETS, SENDS, message_words


class Witness:
    """A witness to all that nodes do and clients are told. A `node.NodeHost`.

    `broken(number)` is called in the turn after a node's replica broke. Between the `messages` seconds (virtual), messages are in
    the history too; None: never.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        broken: Callable[[NodeId], None],
        messages: tuple[float, float] | None = None,
    ) -> None:
        self.checker = Checker(lambda: self.elapsed)
        self.history: list[HistoryItem] = []
        self.acknowledged = 0
        """Commands that clients were told to be committed."""
        self.installed = 0
        """Snapshots that came from another node."""
        self.acts_since = 0.0
        """The time when a node last began to act."""
        self.began = loop.time()
        self._loop = loop
        self._broken = broken
        self._messages = messages

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the beginning."""
        return self._loop.time() - self.began

    def note(self, node: NodeId, what: str, details: str) -> None:
        """Add to the history."""
        self.history.append((round(self.elapsed, 6), node, what, details))

    def digest(self) -> str:
        """Return the same for the same history, with its messages or without."""
        digest = blake2b(digest_size=16)
        for item in self.history:
            if item[2] not in (SENDS, GETS):
                digest.update(repr(item).encode())
        return digest.hexdigest()

    # --- from the network

    @property
    def notes_messages(self) -> bool:
        """True if messages are ever in the history."""
        return self._messages is not None

    def sent(self, source: NodeId, target: NodeId, message: Message, incarnation: int) -> None:
        """Note that an incarnation of a node sent a message."""
        self.checker.sent(source, target, message, incarnation)
        if self._messages is not None:
            self.note_message(source, SENDS, f"to node {target}: {message_words(message)}")

    def note_message(self, node: NodeId, what: str, details: str) -> None:
        """Add to the history, if messages are in it now."""
        if self._messages is not None and self._messages[0] <= self.elapsed <= self._messages[1]:
            self.note(node, what, details)

    # --- from the nodes (node.NodeHost)

    def applied(self, node: SimulatedNode, index: int, applied: Sequence[Applied]) -> None:
        """Note that a node applied an entry."""
        new = index not in self.checker.committed
        self.checker.applied(node, index, applied)
        if new:
            for one in applied:
                id_ = one.proposal.id
                name = "" if id_ is None else f" {id_.client}/{id_.number}"
                self.note(node.number, "committed", f"{index}: {_described(one)}{name}")

    def handed_over(self, node: SimulatedNode, items: Sequence[HandedOver]) -> None:
        """Note that a node's executor got records."""
        self.checker.handed_over(node, items)

    def turned(self, node: SimulatedNode, execution: Execution) -> None:
        """Note that an execution of a node began, or has had a turn."""
        self.checker.observations.turned(node, execution)

    def acting_changed(self, node: SimulatedNode, term: int | None) -> None:
        """Note that a node may act, or not any more."""
        self.note(
            node.number, "acts" if term is not None else "stops acting", "" if term is None else f"in term {term}"
        )
        if term is not None:
            self.acts_since = self.elapsed
        self.checker.acting_changed(node, term)

    def told(self, node: SimulatedNode, event: ClusterEvent) -> None:
        """Note that a node published an event."""
        match event:
            case RoleChanged(role=role, term=term):
                self.note(node.number, role, f"term {term}")
                self.checker.role_changed(node, role, term)
            case EffectStarted(run_id=run_id, step_id=step_id):
                self.note(node.number, "effect", f"{run_id} {step_id}")
                self.checker.effect_started(node, event)
            case ExecutionStopped(run_id=run_id, status=status, reason=reason):
                self.note(node.number, status, f"{run_id}: {reason}")
                if status == "superseded":  # a snapshot took the place of what it still had to do
                    return
                self.checker.violated(
                    "no execution differs", f"{run_id!r} on node {node.number} {status}: {reason}", run_id
                )
            case _:
                pass

    def broke(self, node: SimulatedNode, error: BaseException | None) -> None:
        """Note that a node's replica broke."""
        torn_apart = isinstance(error, pickle.UnpicklingError | EOFError)
        invariant = TORN_APART if torn_apart else "no replica breaks"
        self.checker.violated(invariant, f"node {node.number}: {error!r}", node.number)
        self._loop.call_soon(self._broken, node.number)

    def state_replaced(self, node: SimulatedNode) -> None:
        """Note that a node read a snapshot, its own or another's."""
        self.note(node.number, "snapshot", f"read up to {node.member.state.index}")
        self.checker.installed(node)
        # A log that has nothing but what stands for a snapshot was replaced by another node's.
        self.installed += len(node.journal) == 1 and not node.journal[0][0]

    # --- from the clients

    def answered(self, client: int, node: NodeId, what: str, outcome: Outcome) -> None:
        """Note that a client was told by a node what became of a command."""
        if isinstance(outcome, Committed):
            self.acknowledged += 1
            self.note(node, "answered", f"client {client}: {what}: committed at {outcome.index}")
        else:
            self.note(node, "answered", f"client {client}: {what}: {type(outcome).__name__} {outcome.reason}")


def _described(one: Applied) -> str:
    command = one.proposal.command
    name = type(command).__name__
    answer = "" if isinstance(one.answer, Committed) else f" ({one.answer.code})"
    for field in ("term", "run_id"):
        if hasattr(command, field):
            name += f" {getattr(command, field)}"
    step = getattr(command, "step", None)
    if step is not None:
        name += f" {step.step_id}"
    found = getattr(command, "definition", None)
    if found is not None:
        name += f" {found.workflow}={found.fingerprint}"
    return name + answer

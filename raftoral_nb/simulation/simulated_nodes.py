"""The nodes of a simulation, with their network and disks: they start and end, come and go."""

from __future__ import annotations

import asyncio

from ..core.records import NodeId
from ..transport.messages import Message
from . import hazards
from .dice import SeededDice
from .disk import Store
from .effects import Effects
from .faulty_network import SimulatedNetwork
from .setting import Setting
from .simulated_node import SimulatedNode
from .witness import Witness


class SimulatedNodes:
    """The cluster of a simulation. A node's disk outlives its incarnations, until it is lost."""

    def __init__(self, loop: asyncio.AbstractEventLoop, setting: Setting, witness: Witness, effects: Effects) -> None:
        self.loop = loop
        self.numbers = setting.founders
        """The nodes that have a disk, ascending; in the beginning, and unless one is being added or removed, these are the members."""
        self.living: dict[NodeId, SimulatedNode] = {}
        self.lost: frozenset[NodeId] = frozenset()
        """The nodes that never start again."""
        self.moved = False
        """True if the members are others than in the beginning, or were."""
        conditions = setting.plan.conditions
        self.network = SimulatedNetwork(
            loop,
            SeededDice(setting.seed, "network"),
            quickest=conditions.quickest,
            slowest=conditions.slowest,
            sent=self._sent,
            note=witness.note_message if witness.notes_messages else None,
        )
        self.stores: dict[NodeId, Store] = {
            number: setting.store(number, witness.checker) for number in setting.founders
        }
        self._setting = setting
        self._witness = witness
        self._effects = effects
        self._incarnations = dict.fromkeys(setting.founders, 0)

    @property
    def acting(self) -> NodeId | None:
        """The node that acts in the highest term."""
        found = [(node.member.acting_term, number) for number, node in self.living.items() if node.member.acting_term]
        return max(found)[1] if found else None

    def start(self, number: NodeId) -> None:
        """Start a node from what its disk holds. Does nothing if it runs, or never starts again."""
        if number in self.living or number in self.lost or number not in self.numbers:
            return
        self._incarnations[number] += 1
        setting, conditions = self._setting, self._setting.plan.conditions
        node = SimulatedNode(
            number,
            setting.founders,
            self._incarnations[number],
            joins=number not in setting.founders,
            seed=setting.seed,
            loop=self.loop,
            store=self.stores[number],
            timing=setting.timing,
            rate=setting.rates.get(number, 1.0),
            lag=conditions.lag,
            host=self._witness,
            guarded=setting.without != hazards.ALL,
            paths=setting.paths,
            step_seconds=self._step_seconds,
            proposal_seconds=conditions.patience,
            compaction=setting.compaction,
            takes_runs=setting.takes_runs,
            labels=setting.labels_of(number),
        )
        self.living[number] = node
        self._witness.checker.journals[number] = node.journal
        self._witness.note(number, "started", f"incarnation {self._incarnations[number]}, {len(node.journal)} entries")
        node.start(self.network)

    def end(self, number: NodeId, why: str) -> None:
        """End the node's process."""
        node = self.living.pop(number, None)
        if node is not None:
            self._witness.note(number, why, "")
            node.end()

    def end_all(self) -> None:
        """Stop every node; nothing is noted of that."""
        for node in list(self.living.values()):
            node.end()

    def add(self) -> NodeId:
        """Start a node that is no member yet; returns its number, which nobody had before."""
        number = max(self._incarnations) + 1
        self.moved = True
        self.stores[number] = self._setting.store(number, self._witness.checker)
        self._incarnations[number] = 0
        self.numbers = (*self.numbers, number)
        self.start(number)
        return number

    def lose_disk(self, number: NodeId) -> None:
        """End a node's process and lose its disk: that number never comes back."""
        self._end_for_good(number)
        self._witness.checker.disk_lost(number)

    def forget(self, number: NodeId) -> None:
        """Forget a node that is no longer a member."""
        self._witness.note(number, "removed", "")
        self._end_for_good(number)
        self._witness.checker.removed(number)

    def _end_for_good(self, number: NodeId) -> None:
        self.moved = True
        self.numbers = tuple(one for one in self.numbers if one != number)
        self.end(number, "lost its disk")

    def _sent(self, source: NodeId, target: NodeId, message: Message) -> None:
        self._witness.sent(source, target, message, self._incarnations[source])

    def _step_seconds(self, node: NodeId, name: str) -> float:  # noqa: ARG002
        return self._effects.seconds(name)

"""Nodes that join a cluster while it runs, and nodes that leave it for good."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from ..core.cluster_events import NodeChanged
from ..core.commands import ChangeMembers, Committed, ReserveNumber
from ..core.records import NodeId
from ..errors import ClusterError, NotAcknowledgedError
from ..faults.targets import NodeName
from ..hosts import open_files
from ..hosts.backend_parts import MembershipBackend
from ..hosts.local_announcement import Announcement
from ..limits import MAX_NODES
from .access import ClusterAccess
from .node import NodeTable

ATTEMPTS = 5
"""The number of attempts to get a node number or a change of members, while others ask too or leadership moves."""


class Membership:
    """Changes of the members, one at a time, each agreed on by a majority before the call returns."""

    def __init__(
        self,
        access: ClusterAccess[MembershipBackend],
        announcement: Announcement,
        nodes: NodeTable,
        transfer: Callable[[NodeId], object],
    ) -> None:
        self._access = access
        self._host = access.host
        self._announcement = announcement
        self._nodes = nodes
        self._transfer = transfer
        self._changing = threading.Lock()

    def add(self) -> NodeId:
        """Start a new node, wait until a majority has made it a member, and return its number.

        It counts for majorities at once, and catches up by itself. It has a number that no node had before: a node that
        lost its log would break promises made under its name; the number is agreed on before the node starts, so that
        two that join at the same time, from different notebooks or machines, are never taken for one. Raises `ClusterError`
        if there are `MAX_NODES` already, `TooManyOpenFilesError`, and `NotAcknowledgedError` if no majority agrees within `proposal_timeout`: no
        node was started then, or, if the majority was lost meanwhile, it runs and may become a member later.
        """
        self._access.check_running()
        with self._changing:
            if len(self._host.numbers) >= MAX_NODES:
                raise ClusterError(f"a cluster has at most {MAX_NODES} nodes; remove one first")
            number = self._reserve_number()
            with open_files.told("no node can be added"):
                self._host.thread.run(self._host.on_join, number)
            self._nodes.put(number)
            self._announcement.change()
            self._change_members(number, "add")
        return number

    def remove(self, node: NodeName) -> NodeId:
        """Take a node out for good, alive or dead, and return its number: it is no longer a member, and its log is dropped.

        A leader hands leadership over first. Raises `NoSuchNodeError`, `ClusterError` for the only node, and
        `NotAcknowledgedError` if no majority agrees within `proposal_timeout`; the node then stays, and may yet lose
        its membership.
        """
        number = self._access.number(node)
        with self._changing:
            others = [other for other in self._host.numbers if other != number]
            if not others:
                raise ClusterError(f"node {number} is the only one and cannot be removed; stop the cluster instead")
            self._change_members(number, "remove")
            self._host.leave(number, 1.0)
            self._nodes.drop(number)
            self._announcement.change()
            self._host.announce(NodeChanged(number, "removed"))
        return number

    def _reserve_number(self) -> NodeId:
        number, why = 0, ""
        for _ in range(ATTEMPTS):
            number = max(number + 1, self._host.next_number())
            answer = self._host.propose(ReserveNumber(number), f"the number {number} for a node that is to join")
            if isinstance(answer, Committed):
                return number
            why = answer.reason  # somebody else took it
        raise NotAcknowledgedError(f"no number could be reserved for a new node: {why}", may_commit=False)

    def _make_another_lead(self, number: NodeId) -> None:
        others = [other for other in self._host.numbers if other != number]
        found = {other: self._host.incarnation(other) for other in others}
        able = [other for other, one in found.items() if one is not None and not one.paused]
        if not able:
            raise ClusterError(f"node {number} leads, and no other node runs that could lead in its place")
        self._transfer(able[0])

    def _change_members(self, number: NodeId, change: Literal["add", "remove"]) -> None:
        why = ""
        for _ in range(ATTEMPTS):
            # Who acts has applied all that came before it, changes of members included.
            if self._access.wait_for_leader(self._host.proposal_timeout) == number and change == "remove":
                self._make_another_lead(number)
            answer = self._host.propose(ChangeMembers(number, change), f"to {change} node {number}")
            if isinstance(answer, Committed):
                return
            why = answer.reason
        raise NotAcknowledgedError(f"the change to {change} node {number} was not made: {why}", may_commit=False)

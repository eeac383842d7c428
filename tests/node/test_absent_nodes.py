"""The watch of the acting node over those that offered themselves: alone, with a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftoral_nb.core.commands import Command, Outcome, WithdrawNode
from raftoral_nb.core.state import Offer, State
from raftoral_nb.node.absent_nodes import SILENT_TIMEOUTS, AbsentNodes
from raftoral_nb.raft.timing import Timing

TIMING = Timing(heartbeat=0.05, election_min=0.5, election_max=1.0)


class Ticket:
    def __init__(self, command: Command, done: Callable[[Outcome], None]) -> None:
        self.command, self.done = command, done
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Acting:
    """Node 1, which acts in term 3, with nodes 2 and 3, which take runs; and its loop."""

    node = 1
    paused = False

    def __init__(self) -> None:
        self.state = State(offers={number: Offer(f"t{number}", True) for number in (1, 2, 3)})
        self.acting_term: int | None = 3
        self.proposed: list[Ticket] = []
        self.now = 0.0
        self.alarm: tuple[float, Callable[[], None]] | None = None
        loop: Any = self
        self.absent = AbsentNodes(self, loop, TIMING, lambda: 5.0)

    def propose(self, command: Command, timeout: float, done: Callable[[Outcome], None]) -> Ticket:
        self.proposed.append(Ticket(command, done))
        return self.proposed[-1]

    def heard_of(self, node: int) -> float:
        return 0.0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        self.alarm = (when, callback)
        return self

    def cancel(self) -> None:
        self.alarm = None

    def until(self, now: float) -> None:
        """Let time go on."""
        while self.alarm is not None and self.alarm[0] <= now:
            self.now, callback = self.alarm
            self.alarm = None
            callback()
        self.now = now

    def asked(self) -> list[Command]:
        return [ticket.command for ticket in self.proposed]


def test_a_node_is_withdrawn_soon_after_its_link_is_lost_and_late_if_it_only_says_nothing() -> None:
    acting = Acting()
    acting.absent.link_changed(2, up=True)
    acting.absent.link_changed(2, up=False)
    acting.until(0.9)
    assert acting.asked() == []
    acting.until(1.1)
    assert acting.asked() == [WithdrawNode(2, "t2", 5.0)]
    acting.until(SILENT_TIMEOUTS * TIMING.election_max + 0.1)
    assert acting.asked()[1:] == [WithdrawNode(3, "t3", 5.0)]


def test_one_whose_link_is_back_in_time_stays() -> None:
    acting = Acting()
    acting.absent.link_changed(2, up=False)
    acting.until(0.9)
    acting.absent.link_changed(2, up=True)
    acting.until(5.0)
    assert acting.asked() == []


def test_whoever_acts_no_more_asks_no_more_as_the_next_leader_would_carry_it_out() -> None:
    acting = Acting()
    acting.absent.link_changed(2, up=False)
    acting.until(1.1)
    (ticket,) = acting.proposed
    acting.acting_term = None
    acting.absent.look()
    assert ticket.cancelled
    acting.acting_term = 5
    acting.absent.look()
    assert len(acting.proposed) == 2, "it is still gone"

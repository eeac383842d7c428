"""Schedules of what goes wrong, and when: lists of faults with a beginning and an end, made from the seed alone.

Because it is data, a schedule can be printed, run again, and shrunk: any fault may be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from ..core.records import NodeId
from .dice import SeededDice

LEADER: Final = 0
"""A placeholder for a node's number: whichever node acts when the fault begins (node 1 if none does)."""

KINDS: Final = (
    "cut",
    "asymmetric cut",
    "isolation",
    "partition",
    "reset",
    "slow link",
    "kill",
    "disk crash",
    "pause",
    "hold",
    "stall",
    "clock",
    "join",
    "leave",
    "replacement",
    "burst",
)
"""`stall`: a node's own thread, on which workflows run, does nothing for a while. `hold`: its executions wait.
`disk crash`: a kill inside the disk operation that comes after `amount` more of them. `burst`: a client sends `amount`
commands to the node without waiting for answers (no fault, and not counted as one). `join`: a new node becomes a member.
`leave`: a node is one no more. `replacement`: a node's disk is lost, and a new node takes its place."""

MEMBERSHIP: Final = ("join", "leave", "replacement")
"""The faults that change the members."""


class PlannedFault(msgspec.Struct, frozen=True):
    """One fault: it begins at `at` and ends `seconds` later (virtual seconds since the beginning).

    `nodes` are whom it befalls: the first end of a link and the second; one side of a partition; the node. They are numbered
    as in the beginning; a node that took the place of another is meant by the number of that one. `amount` is the
    clock's rate, the seconds a slow link adds, or the disk operations until a crash.
    """

    at: float
    kind: str
    nodes: tuple[NodeId, ...]
    seconds: float
    amount: float = 0.0

    def __str__(self) -> str:
        names = ", ".join("the leader" if node == LEADER else f"node {node}" for node in self.nodes)
        amount = f" {self.amount:g}" if self.amount else ""
        return f"{self.at:8.3f} s  {self.kind}{amount}: {names}, for {self.seconds:.3f} s"


class Conditions(msgspec.Struct, frozen=True):
    """The conditions of the whole simulation: message delays, clock rates, thread lags (all in seconds but the rates)."""

    quickest: float = 0.001
    slowest: float = 0.01
    clock_spread: float = 0.0
    """The spread of the clocks' rates: they run between 1 - spread and 1 + spread."""
    lag: float = 0.0
    """The longest delay of a call from one of a node's threads to the other."""
    pace: float = 1.0
    """The factor by which heartbeats and elections take longer than by default."""
    beat: float = 1.0
    """The further factor by which heartbeats take longer."""
    large: float = 0.0
    """The number of times the input of a run is about as large as a multiple of PySyncObj's batch size."""
    patience: float = 30.0
    """The seconds after which a node proposes a record again that was neither committed nor refused."""


class Plan(msgspec.Struct, frozen=True):
    """All that a seed decides before it begins."""

    schedule: str
    nodes: int
    conditions: Conditions
    faults: tuple[PlannedFault, ...]
    lost: tuple[NodeId, ...] = ()
    """The nodes that never come back after the healing: those that are down then; if too few, the first of these."""


Weights = Mapping[str, float]


class Recipe(msgspec.Struct, frozen=True):
    """The recipe of a named schedule: how often each kind of fault, and under which conditions."""

    weights: dict[str, float]
    gap: float
    """Mean seconds between the beginnings of two faults."""
    slowest: tuple[float, float] = (0.005, 0.03)
    """The longest message delay is drawn from this range."""
    clock_spread: float = 0.0
    lag: float = 0.0
    nodes: int | None = None
    """The number of nodes it needs; most do with any number."""
    loses: float = 0.35
    """The number of times a minority stays down after the healing."""


ALL: Final[Weights] = {
    "cut": 2,
    "asymmetric cut": 3,
    "isolation": 3,
    "partition": 2,
    "reset": 3,
    "slow link": 2,
    "kill": 3,
    "disk crash": 3,
    "pause": 3,
    "hold": 1,
    "stall": 1,
    "clock": 1,
    "join": 0.5,
    "leave": 0.5,
    "replacement": 0.7,
}

SCHEDULES: Final[dict[str, Recipe]] = {
    "delays": Recipe({"slow link": 5, "reset": 1, "asymmetric cut": 1, "isolation": 1}, 2.0, slowest=(0.08, 0.25)),
    "partitions": Recipe({"partition": 4, "isolation": 4, "cut": 2, "asymmetric cut": 4}, 2.2),
    "crashes": Recipe({"kill": 5, "disk crash": 5, "reset": 1}, 2.0),
    "pauses": Recipe({"pause": 6, "hold": 2, "stall": 3, "isolation": 1}, 2.0, lag=0.02),
    "clocks": Recipe({"clock": 5, "pause": 1, "isolation": 2, "kill": 1, "asymmetric cut": 1}, 2.0, clock_spread=0.15),
    "resets": Recipe({"reset": 8, "slow link": 2, "isolation": 1, "kill": 1}, 1.2, slowest=(0.02, 0.1)),
    "leaders": Recipe({"kill": 3, "isolation": 3, "pause": 3, "disk crash": 2}, 2.2, slowest=(0.01, 0.08), lag=0.01),
    "stale answers": Recipe({"slow link": 1, "partition": 1, "isolation": 1}, 1.6, slowest=(0.005, 0.02), nodes=5),
    "elections": Recipe({"isolation": 1, "disk crash": 1}, 1.6, slowest=(0.005, 0.25), loses=1.0),
    "members": Recipe(
        {
            "join": 3,
            "leave": 3,
            "replacement": 4,
            "isolation": 3,
            "kill": 3,
            "partition": 2,
            "asymmetric cut": 1,
            "pause": 1,
        },
        1.6,
        slowest=(0.005, 0.08),
    ),
    "sizes": Recipe({"reset": 3, "isolation": 2, "kill": 1, "slow link": 1}, 2.2, slowest=(0.01, 0.06)),
    "mixed": Recipe(dict(ALL), 1.8, slowest=(0.01, 0.15), clock_spread=0.1, lag=0.02),
}
"""The schedules by name. A seed without a name gets one of them by turns."""

SLOWEST_BEAT: Final = 1.6
"""The slowest heartbeat: if slower, an election would take no longer than three heartbeats (`raft.replica.Timing`)."""

FAULT_SECONDS: Final = 49.0
"""Faults begin within so many seconds; then everything is healed."""


SIZES: Final = (3, 5, 3, 3, 5, 3, 4, 3, 2, 5, 3, 4)
"""The number of nodes a seed has, drawn with equal chances."""


def plan(seed: int, *, nodes: int | None = None, schedule: str | None = None) -> Plan:
    """Return what happens under a seed. Unless given, a seed has its own schedule and number of nodes (`SIZES`).

    Giving a seed the schedule and the nodes that it has anyway changes nothing.
    """
    names = tuple(SCHEDULES)
    name = schedule if schedule is not None else names[seed % len(names)]
    recipe = SCHEDULES[name]
    count = nodes or recipe.nodes or SeededDice(seed, "size", name).pick(SIZES)
    dice = SeededDice(seed, "plan", name, count)
    conditions = Conditions(
        quickest=0.0005 + 0.002 * dice.random(),
        slowest=dice.between(*recipe.slowest),
        clock_spread=recipe.clock_spread * dice.random(),
        lag=recipe.lag * dice.random(),
        pace=1.0 if recipe.nodes is not None or dice.happens(0.35) else 2.0,
        beat=1.0 if dice.happens(0.2) else SLOWEST_BEAT,
        large=0.3 if name == "sizes" else 0.05 if dice.happens(0.15) else 0.0,
        patience=30.0 if dice.happens(0.5) else dice.between(0.05, 0.6),
    )
    faults = _SPECIAL[name](dice, count) if name in _SPECIAL else _faults(dice, recipe, count)
    lost: tuple[NodeId, ...] = ()
    minority = (count - 1) // 2
    # Whoever lost a disk and has not been replaced yet may be all that a minority can lose.
    settled = not any(fault.kind in MEMBERSHIP for fault in faults)
    if minority and settled and dice.happens(recipe.loses):
        lost = dice.some(range(1, count + 1), minority if dice.happens(0.8) else 1 + dice.below(minority))
    return Plan(name, count, conditions, tuple(faults), lost)


def _faults(dice: SeededDice, recipe: Recipe, count: int) -> list[PlannedFault]:
    kinds = [kind for kind in KINDS if kind in recipe.weights]
    total = sum(recipe.weights[kind] for kind in kinds)
    faults: list[PlannedFault] = []
    at = 1.0 + dice.random()
    # Some seeds have quick successions, some have quiet times in which logs grow apart.
    gap = recipe.gap * dice.between(0.6, 1.3)
    while at < FAULT_SECONDS:
        drawn = dice.random() * total
        for kind in kinds:
            drawn -= recipe.weights[kind]
            if drawn < 0:
                break
        faults.append(_MAKERS[kind](dice, round(at, 3), count))
        at += gap * dice.between(0.1, 1.9)
    return faults


def _stale_answers(dice: SeededDice, count: int) -> list[PlannedFault]:
    """Answers to a leader that arrive when it leads again, in a later term, its log and that of the answerer cut meanwhile.

    A leader and one follower are cut off, the answers of that follower are slow, another leader cuts the tails of both,
    is cut off itself, and the first one may be elected again, all before the answers arrive.
    """
    faults: list[PlannedFault] = []
    at = 2.0
    while at < FAULT_SECONDS - 4:
        follower = 1 + dice.below(count)
        alone = dice.between(0.5, 1.0)
        back = alone + dice.between(0.1, 0.4)
        slow = back + dice.between(0.4, 1.5)
        faults += [
            PlannedFault(round(at, 3), "slow link", (follower, LEADER), round(alone, 3), round(slow, 3)),
            PlannedFault(round(at + 0.05, 3), "partition", (LEADER, follower), round(alone - 0.05, 3)),
            PlannedFault(round(at + 0.06, 3), "burst", (LEADER,), 0.0, 8),
            PlannedFault(round(at + back, 3), "isolation", (LEADER,), round(dice.between(0.5, 1.5), 3)),
        ]
        at += dice.between(3.5, 5.0)
    return faults


def _elections(dice: SeededDice, count: int) -> list[PlannedFault]:
    """Candidates that die as they are elected, while who led before is cut off with a tail that nobody else has.

    Some are back at once, and must remember whom they voted for. The last one does not come back. Then one node has the best log and another the highest term, and neither can be
    elected if each waits for the other.
    """
    faults: list[PlannedFault] = []
    at = 2.0
    last = FAULT_SECONDS - 1.5
    while at <= last:
        final = at == last
        alone = 3.0 if final else dice.between(1.0, 2.5)
        down = 60.0 if final else 0.01 if dice.happens(0.5) else dice.between(0.3, 2.5)
        candidates = dice.some(range(1, count + 1), 1 + dice.below(max(1, (count - 1) // 2)))
        faults += [
            PlannedFault(round(at, 3), "isolation", (LEADER,), round(alone, 3)),
            PlannedFault(round(at + 0.01, 3), "burst", (LEADER,), 0.0, 1 + dice.below(8)),
            *(
                PlannedFault(round(at + 0.15, 3), "disk crash", (candidate,), round(down, 3), 1 + dice.below(6))
                for candidate in candidates
            ),
        ]
        at = last if not final and at > last - 5.0 else at + dice.between(2.5, 5.0)
    return faults


_SPECIAL: Final = {"stale answers": _stale_answers, "elections": _elections}
"""Schedules that are more than faults drawn one by one."""


def _someone(dice: SeededDice, count: int) -> NodeId:
    """Return a node, and the leader as often as not: that is where it hurts."""
    return LEADER if dice.happens(0.5) else 1 + dice.below(count)


def _pair(dice: SeededDice, count: int) -> tuple[NodeId, ...]:
    if dice.happens(0.4):
        return (LEADER, 1 + dice.below(count))
    first, second = dice.some(range(1, count + 1), 2)
    return (first, second) if dice.happens(0.5) else (second, first)


def _link(kind: str, low: float, high: float) -> Callable[[SeededDice, float, int], PlannedFault]:
    def make(dice: SeededDice, at: float, count: int) -> PlannedFault:
        return PlannedFault(at, kind, _pair(dice, count), round(dice.between(low, high), 3))

    return make


def _on_node(kind: str, low: float, high: float) -> Callable[[SeededDice, float, int], PlannedFault]:
    def make(dice: SeededDice, at: float, count: int) -> PlannedFault:
        # Short ones and long ones: squared, so that there are more short ones.
        return PlannedFault(at, kind, (_someone(dice, count),), round(low + (high - low) * dice.random() ** 3, 3))

    return make


def _slow(dice: SeededDice, at: float, count: int) -> PlannedFault:
    seconds = round(dice.between(1.0, 6.0), 3)
    return PlannedFault(at, "slow link", _pair(dice, count), seconds, round(dice.between(0.05, 0.6), 3))


def _partition(dice: SeededDice, at: float, count: int) -> PlannedFault:
    side = dice.some(range(1, count + 1), 1 + dice.below(count - 1))
    return PlannedFault(at, "partition", side, round(dice.between(0.3, 4.0), 3))


def _disk_crash(dice: SeededDice, at: float, count: int) -> PlannedFault:
    operations = 1 + dice.below(20)
    return PlannedFault(at, "disk crash", (_someone(dice, count),), round(0.01 + 3 * dice.random() ** 3, 3), operations)


def _clock(dice: SeededDice, at: float, count: int) -> PlannedFault:
    rate = round(dice.pick((0.7, 0.85, 0.95, 1.05, 1.2, 1.5)), 3)
    return PlannedFault(at, "clock", (_someone(dice, count),), round(dice.between(1.0, 8.0), 3), rate)


_MAKERS: Final[dict[str, Callable[[SeededDice, float, int], PlannedFault]]] = {
    "cut": _link("cut", 0.2, 4.0),
    "asymmetric cut": _link("asymmetric cut", 0.2, 4.0),
    "isolation": _on_node("isolation", 0.2, 5.0),
    "partition": _partition,
    "reset": _link("reset", 0.0, 0.0),
    "slow link": _slow,
    "kill": _on_node("kill", 0.01, 5.0),
    "disk crash": _disk_crash,
    "pause": _on_node("pause", 0.1, 5.0),
    "hold": _on_node("hold", 0.2, 5.0),
    "stall": _on_node("stall", 0.05, 2.0),
    "clock": _clock,
    "join": _on_node("join", 0.0, 0.0),
    "leave": _on_node("leave", 0.0, 0.0),
    "replacement": _on_node("replacement", 0.0, 0.0),
}


def described(faults: Sequence[PlannedFault]) -> str:
    """Return the faults, one a line."""
    return "\n".join(map(str, faults))

"""Faults as lines of text: `isolate leader`, `slow 1-2 --delay 200ms`. Scenarios are made of them, and magics take them.

A line is taken apart into a `Fault`, which is data; `str` of it is a line again, and `cause` brings it about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import msgspec

from ..core.records import NodeId
from ..errors import FaultError
from ..limits import MAX_LINK_DELAY
from ..threads.seconds import Seconds, keep_numbers
from .targets import NODE_NAMES, NodeName

T = TypeVar("T")

FAULTS: Final = {
    "kill": "kill NODE",
    "restart": "restart NODE",
    "pause": "pause NODE",
    "resume": "resume NODE",
    "hold": "hold NODE",
    "release": "release NODE",
    "partition": "partition NODE ... [/ NODE ...]",
    "isolate": "isolate NODE",
    "cut": "cut A-B [--one-way]",
    "slow": "slow NODE|A-B --delay TIME [--jitter TIME]",
    "heal": "heal [NODE|A-B ...]",
    "transfer": "transfer NODE",
    "campaign": "campaign [NODE ...]",
    "add": "add",
    "remove": "remove NODE",
}
"""The faults, as they are typed."""

ON_ONE_NODE: Final = ("kill", "restart", "pause", "resume", "hold", "release", "isolate", "transfer", "remove")
"""The faults whose only argument is a node."""

_EXAMPLES: Final = {
    "partition": "partition 1 / 2 3",
    "cut": "cut 1-2",
    "slow": "slow 2 --delay 200ms --jitter 50ms",
    "heal": "heal 1-2",
    "campaign": "campaign 2 3",
}
_TIME: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)(?P<unit>ms|s)", re.ASCII)
_PER_SECOND: Final = {"ms": 1000, "s": 1}

Place = NodeName | tuple[NodeName, NodeName]
"""A node, or the link between two."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do to a cluster, as `parse_fault` makes it. `places` are the nodes and links it is done to, in order."""

    name: str
    places: tuple[Place, ...] = ()
    groups: tuple[tuple[NodeName, ...], ...] = ()
    """The groups of a partition."""
    one_way: bool = False
    delay: float = 0.0
    """Seconds."""
    jitter: float = 0.0
    """Seconds."""

    if TYPE_CHECKING:  # what may be given is wider than what is kept

        def __init__(
            self,
            *,
            name: str,
            places: tuple[Place, ...] = (),
            groups: tuple[tuple[NodeName, ...], ...] = (),
            one_way: bool = False,
            delay: Seconds = 0.0,
            jitter: Seconds = 0.0,
        ) -> None: ...

    def __post_init__(self) -> None:
        keep_numbers(self, "delay", "jitter")

    def __str__(self) -> str:
        words = [self.name, *map(_place, self.places)]
        if self.groups:
            words.append(" / ".join(" ".join(map(str, group)) for group in self.groups))
        if self.one_way:
            words.append("--one-way")
        for flag, seconds in (("--delay", self.delay), ("--jitter", self.jitter)):
            if seconds:
                words += [flag, time_text(seconds)]
        return " ".join(words)


def time_text(seconds: float) -> str:
    """Return a time as `parse_time` reads it (`200ms`, `1.5s`), to the nanosecond."""
    number, unit = (f"{seconds * 1000:.6f}", "ms") if seconds < 1 else (f"{seconds:.9f}", "s")
    return number.rstrip("0").rstrip(".") + unit


def parse_time(text: str) -> float:
    """Return the seconds, to the nanosecond, of `200ms` or `1.5s`. Raises `FaultError`."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise FaultError(f"{text!r} is not a time: write it with its unit, as in 200ms or 1.5s")
    return round(float(found["number"]) / _PER_SECOND[found["unit"]], 9)


def parse_fault(line: str, prefix: str = "") -> Fault:
    """Parse a line. Raises `FaultError`, which says how the line should look, with `prefix` before it."""
    name, *words = line.split() or [""]
    if name not in FAULTS:
        raise FaultError(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")
    try:
        return _parse(name, words)
    except FaultError as problem:
        example = f". Example: {prefix}{_EXAMPLES[name]}" if name in _EXAMPLES else ""
        separator = "\n" if prefix else " "
        raise FaultError(f"{problem}.{separator}Usage: {prefix}{FAULTS[name]}{example}") from None


def numbers_in(fault: Fault) -> frozenset[int]:
    """Return the nodes that a fault names by their numbers."""
    found: set[NodeName] = set()
    for place in fault.places:
        found |= set(place) if isinstance(place, tuple) else {place}
    found |= {node for group in fault.groups for node in group}
    return frozenset(node for node in found if isinstance(node, int))


class FaultTarget(Protocol):
    """The target of faults: a `Cluster`, by its methods of these names, and by those of `FAULTS` that take one node or link."""

    def partition(self, *groups: Iterable[NodeName]) -> tuple[tuple[NodeId, ...], ...]:
        """Part the nodes."""
        ...

    def cut(self, a: NodeName, b: NodeName, *, one_way: bool = False) -> tuple[NodeId, NodeId]:
        """Cut a link."""
        ...

    def slow(
        self, where: NodeName | tuple[NodeName, NodeName], delay: Seconds, jitter: Seconds = 0.0
    ) -> tuple[tuple[NodeId, NodeId], ...]:
        """Slow links."""
        ...

    def heal(self, *where: NodeName | tuple[NodeName, NodeName]) -> tuple[tuple[NodeId, NodeId], ...]:
        """Mend links."""
        ...

    def add(self) -> NodeId:
        """Add a node."""
        ...

    def campaign(self, *nodes: NodeName) -> tuple[NodeId, ...]:
        """Have nodes campaign."""
        ...


def cause(cluster: FaultTarget, fault: Fault) -> Fault:
    """Cause a fault; returns it as it was, with numbers for names. Raises what the method of that name raises."""
    match fault.name:
        case "partition":
            groups = cluster.partition(*fault.groups)
            return Fault(name="partition", groups=groups)
        case "cut":
            (place,) = fault.places
            assert isinstance(place, tuple)
            return Fault(name="cut", places=(cluster.cut(*place, one_way=fault.one_way),), one_way=fault.one_way)
        case "slow":
            (place,) = fault.places
            links = cluster.slow(place, fault.delay, fault.jitter)
            return msgspec.structs.replace(fault, places=(_meant(place, links),))
        case "heal":
            healed = cluster.heal(*fault.places)
            return Fault(name="heal", places=healed if fault.places else ())
        case "add":
            cluster.add()
            return fault
        case "campaign":
            return Fault(name="campaign", places=cluster.campaign(*_nodes(fault.places)))
    (node,) = fault.places
    act: Callable[[Place], int] = getattr(cluster, fault.name)
    return Fault(name=fault.name, places=(act(node),))


def _meant(place: Place, links: tuple[tuple[int, int], ...]) -> Place:
    """Return the numbers for a place that was slowed: its only link, or the node that all links have in common."""
    if isinstance(place, tuple):
        return links[0]
    if isinstance(place, int):
        return place
    common = set.intersection(*map(set, links))
    return min(common) if len(common) == 1 else place


def _nodes(places: tuple[Place, ...]) -> list[NodeName]:
    return [place for place in places if not isinstance(place, tuple)]


def _place(place: Place) -> str:
    return "-".join(map(str, place)) if isinstance(place, tuple) else str(place)


def _parse(name: str, words: list[str]) -> Fault:
    if name == "partition":
        groups = [part.split() for part in " ".join(words).split("/")]
        if not all(groups):
            raise FaultError("a group of the partition has no node in it")
        return Fault(name=name, groups=tuple(tuple(_node(word) for word in group) for group in groups))
    flags, words = _flags(name, words)
    if name == "add":
        if words:
            raise FaultError("add takes no argument: a new node gets a number that no node had before")
        return Fault(name=name)
    if name in ON_ONE_NODE:
        return Fault(name=name, places=(_node(_only(name, words)),))
    if name == "cut":
        link = _link(_only(name, words))
        return Fault(name=name, places=(link,), one_way="--one-way" in flags)
    if name == "slow":
        if "--delay" not in flags:
            raise FaultError("slow needs --delay")
        delay, jitter = parse_time(flags["--delay"]), parse_time(flags.get("--jitter", "0s"))
        if not delay > 0 or jitter > delay or delay + jitter > MAX_LINK_DELAY:
            raise FaultError(
                f"a delay is more than 0 and at most {MAX_LINK_DELAY:g}s with its jitter, which is no larger than the delay"
            )
        return Fault(name=name, places=(_node_or_link(_only(name, words)),), delay=delay, jitter=jitter)
    if name == "campaign":
        return Fault(name=name, places=tuple(_node(word) for word in words))
    return Fault(name=name, places=tuple(_node_or_link(word) for word in words))


_VALUES: Final = {"cut": {"--one-way": False}, "slow": {"--delay": True, "--jitter": True}}
"""The flags of each fault, and whether a value follows."""


def _flags(name: str, words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the flags among the words with their values, and the other words."""
    known = _VALUES.get(name, {})
    flags: dict[str, str] = {}
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if not word.startswith("--"):
            others.append(word)
            continue
        if flag not in known or (equals and not known[flag]):
            raise FaultError(f"{name} has no flag {word}")
        if flag in flags:
            raise FaultError(f"{flag} is given twice")
        if known[flag] and not equals:
            value = next(rest, "")
        if known[flag] and not value:
            raise FaultError(f"{flag} needs a value")
        flags[flag] = value
    return flags, others


def _only(name: str, words: list[str]) -> str:
    if len(words) != 1:
        raise FaultError(f"{name} takes one argument, not {len(words)}")
    return words[0]


def _node(word: str) -> NodeName:
    if word.isascii() and word.isdigit() and len(word) < 10:
        return int(word)
    for name in NODE_NAMES:
        if word == name:
            return name
    raise FaultError(f"{word!r} is not a node: a node is a number or one of {', '.join(NODE_NAMES)}")


def _link(word: str) -> tuple[NodeName, NodeName]:
    a, dash, b = word.partition("-")
    if not (a and dash and b):
        raise FaultError(f"{word!r} is not a link: a link is two nodes with a - between them")
    first, second = _node(a), _node(b)
    if first == second:
        raise FaultError(f"{word} is not a link: it is between two nodes")
    return first, second


def _node_or_link(word: str) -> Place:
    return _link(word) if "-" in word else _node(word)

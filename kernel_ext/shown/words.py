"""Registrations and recoveries as sentences, and the words that other sentences are made of. Pure, and the same in two equal notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftoral_nb.core.cluster_events import LinkDelay
from raftoral_nb.core.sizes import size_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raftoral_nb import Registration
    from raftoral_nb.core.cluster_events import ClusterRecovered
    from raftoral_nb.core.statistics import NodeStatistics


def link_list(links: Sequence[tuple[int, int]]) -> str:
    """`link 1-2`, `links 1-2, 1-3`."""
    named = ", ".join(f"{a}-{b}" for a, b in links)
    return f"link{'' if len(links) == 1 else 's'} {named}"


def group_words(groups: Sequence[Sequence[int]]) -> str:
    """`1 / 2 3`, as it is typed."""
    return " / ".join(" ".join(map(str, group)) for group in groups)


def delay_words(delay: LinkDelay | None) -> str:
    """`200 ms`, `200 ms ± 50 ms`."""
    if delay is None:
        return "as fast as ever"
    jitter = f" ± {_milliseconds(delay.jitter)}" if delay.jitter else ""
    return f"{_milliseconds(delay.seconds)}{jitter}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.4g} ms" if seconds < 10 else f"{seconds:.4g} s"


def node_words(nodes: Sequence[int]) -> str:
    """`node 1`, `nodes 1, 2`."""
    return f"node{'' if len(nodes) == 1 else 's'} {node_list(nodes)}"


def link_state(node: NodeStatistics) -> tuple[str, ...]:
    """The faults of a node's links, in a few words: `isolated`, `cut from 2`, `cannot hear 3`, `slow to 1, 2`."""
    links = node.links
    if len(links) > 0 and all(link.cut and link.cut_back for link in links.values()):
        return ("isolated",)
    found = []
    for words, peers in (
        ("cut from", [peer for peer, link in links.items() if link.cut and link.cut_back]),
        ("cannot reach", [peer for peer, link in links.items() if link.cut and not link.cut_back]),
        ("cannot hear", [peer for peer, link in links.items() if link.cut_back and not link.cut]),
        ("slow to", [peer for peer, link in links.items() if link.delay is not None]),
    ):
        if peers:
            found.append(f"{words} {node_list(peers)}")
    return tuple(found)


def recovered_words(found: ClusterRecovered) -> str:
    """The state that a cluster recovered, in a sentence."""
    return (
        f"recovered {_many(found.runs, 'run')} ({found.unfinished} unfinished) with {_many(found.steps, 'recorded step')} and "
        f"{_many(found.workflows, 'workflow')} in {found.seconds:.1f} s"
    )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def registration_words(registration: Registration) -> str:
    """The result of a registration, and what the workflow took along."""
    who = f"{registration.workflow}, version {registration.version}"
    found = [f"  not deterministic: {finding}" for finding in registration.findings]
    if not registration.changed:
        return "\n".join([f"{who}: unchanged", *found])
    taken = [f"{one.name} ({one.kind}, {size_words(one.size, coarse=True)})" for one in registration.captured]
    lines = [f"{who}: registered; {'captured ' + ', '.join(taken) if taken else 'nothing captured'}"]
    if registration.unfinished:
        runs = ", ".join(registration.unfinished[:5]) + (", ..." if len(registration.unfinished) > 5 else "")
        lines.append(
            f"  {counted(len(registration.unfinished), 'unfinished run')} of other versions keep{'s' * (len(registration.unfinished) == 1)}"
            f" the code they started with ({runs}); to move one: %raftoral move RUN {registration.version}"
        )
    return "\n".join([*lines, *found])


def counted(number: int, one: str) -> str:
    """`1 step`, `2 steps`: a number with its noun."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def node_list(nodes: Iterable[int]) -> str:
    """`1, 2, 3`."""
    return ", ".join(map(str, nodes))

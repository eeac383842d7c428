"""The common part of the subcommands for links, leadership and membership. The engine parses them: they are faults of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Final

from raftoral_nb import FAULTS, FaultError, parse_fault

from ..errors import MagicError
from ..shown import display as shows
from .subcommand import Notebook, Subcommand, Typed, Values, one_of

if TYPE_CHECKING:
    from raftoral_nb import Cluster, Fault

_DELAYS: Final = ("50ms", "200ms", "1s")
DELAY: Final[Values] = one_of(*_DELAYS)
"""Delays that are offered; any other may be typed."""


def fault(
    name: str,
    *,
    does: str,
    examples: tuple[str, ...],
    done: Callable[[Fault], str],
    offers: Callable[[Typed, list[str]], list[str]],
    flags: dict[str, Values | None] | None = None,
    act: Callable[[Cluster, Fault], str] | None = None,
) -> Subcommand[Fault]:
    """A subcommand that causes the fault of its name.

    `done` says what was caused, when it has numbers and not names. `act` causes it and says so where the notebook can be told
    more. `offers` is given the words that are no flags and no delays; the flags are added to what it offers.
    """

    def parse(rest: str, _: str) -> Fault:
        try:
            return parse_fault(f"{name} {rest}", "%raftoral ")
        except FaultError as problem:
            raise MagicError(str(problem)) from None

    def do(asked: Fault, notebook: Notebook) -> None:
        cluster = notebook.session.cluster
        shows.emit(shows.notice(done(cluster.cause(asked)) if act is None else act(cluster, asked)))

    def offered(typed: Typed) -> list[str]:
        return offers(typed, [word for word in typed.given if word not in _DELAYS]) + list(typed.flags)

    return Subcommand(
        name=name,
        group="Break it",
        usage=FAULTS[name],
        does=does,
        examples=examples,
        parse=parse,
        do=do,
        offers=offered,
        flags=flags or {},
        caused=done,
    )


def nodes(*words: str, most: int | None = None) -> Callable[[Typed, list[str]], list[str]]:
    """Offers the nodes that are not given yet, by number and by these words; `most` of them, if that is given."""

    def offers(typed: Typed, given: list[str]) -> list[str]:
        if most is not None and len(given) >= most:
            return []
        return [one for one in (*typed.nodes, *words) if one not in given]

    return offers


def links(typed: Typed, given: Sequence[str]) -> list[str]:
    """Offers the links that are not given yet."""
    return [f"{a}-{b}" for a, b in combinations(typed.known.nodes, 2) if f"{a}-{b}" not in given]


def place_list(done: Fault) -> str:
    """`node 1, 2-3`: the places of a fault."""
    return ", ".join(
        "-".join(map(str, place)) if isinstance(place, tuple) else f"node {place}" for place in done.places
    )

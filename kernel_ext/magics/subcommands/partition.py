"""`%raftoral partition`: cut all links between groups of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...shown.words import group_words
from ..fault_commands import fault, nodes
from ..subcommand import Typed

if TYPE_CHECKING:
    from raftoral_nb import Fault


def _done(done: Fault) -> str:
    return f"partitioned: {group_words([[int(node) for node in group] for group in done.groups])}"


def _offers(typed: Typed, given: list[str]) -> list[str]:
    found = nodes("leader", "follower")(typed, given)
    return [*found, "/"] if given and given[-1] != "/" else found


SUBCOMMAND = fault(
    "partition",
    does="cut all links between groups of nodes",
    examples=(
        "  %raftoral partition 1 / 2 3           cut every link between the groups; nodes in none of them form one more",
    ),
    done=_done,
    offers=_offers,
)

"""`%raftoral heal`: end what was done to links: to all, or to some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...shown.words import link_list
from ..fault_commands import fault, links, nodes

if TYPE_CHECKING:
    from raftoral_nb import Fault


def healed_words(healed: Sequence[tuple[int, int]]) -> str:
    """A sentence about the links that were healed."""
    return f"{link_list(healed)} healed" if healed else "nothing to heal: no link is cut or slow there"


def _done(done: Fault) -> str:
    return f"{', '.join(map(_place, done.places)) or 'everything'} healed"


def _place(place: object) -> str:
    return f"link {'-'.join(map(str, place))}" if isinstance(place, tuple) else f"node {place}"


SUBCOMMAND = fault(
    "heal",
    does="end what was done to links: to all, or to some",
    examples=("  %raftoral heal                        mend all links (or: heal 2, heal 1-2)",),
    done=_done,
    offers=lambda typed, given: [*nodes()(typed, given), *links(typed, given)],
    act=lambda cluster, asked: healed_words(cluster.heal(*asked.places)),
)

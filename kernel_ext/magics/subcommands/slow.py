"""`%raftoral slow`: have messages of a node, or over a link, take longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftoral_nb.core.cluster_events import LinkDelay

from ...shown.words import delay_words
from ..fault_commands import DELAY, fault, links, nodes, place_list
from ..subcommand import Typed

if TYPE_CHECKING:
    from raftoral_nb import Fault


def _done(done: Fault) -> str:
    places = place_list(done)
    what = f"link {places}" if "-" in places else f"links of {places}"
    return f"{what} slowed: {delay_words(LinkDelay(done.delay, done.jitter))} each way"


def _offers(typed: Typed, given: list[str]) -> list[str]:
    return [] if given else [*nodes("leader", "follower")(typed, given), *links(typed, given)]


SUBCOMMAND = fault(
    "slow",
    does="have messages of a node, or over a link, take longer",
    examples=(
        """\
  %raftoral slow 2 --delay 200ms --jitter 50ms
                                        every message of a node takes longer, each way; slow 1-2: over one link""",
    ),
    done=_done,
    offers=_offers,
    flags={"--delay": DELAY, "--jitter": DELAY},
)

"""`%raftoral cut`: cut the link between two nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fault_commands import fault, links, place_list

if TYPE_CHECKING:
    from raftoral_nb import Fault


def _done(done: Fault) -> str:
    places = place_list(done)
    if not done.one_way:
        return f"link {places} cut"
    source, target = places.split("-")
    return f"link {places} cut one way: what node {source} says does not reach node {target}"


SUBCOMMAND = fault(
    "cut",
    does="cut the link between two nodes",
    examples=("  %raftoral cut 1-2                     cut one link; --one-way loses only what node 1 says to node 2",),
    done=_done,
    offers=lambda typed, given: [] if given else links(typed, given),
    flags={"--one-way": None},
)

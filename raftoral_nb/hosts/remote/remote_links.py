"""The links between nodes of other processes, as a handle sees and changes them."""

from __future__ import annotations

from ...core.cluster_events import LinkDelay
from ...core.records import NodeId
from .messages import ChangeLinks

Lane = tuple[NodeId, NodeId]


class RemoteLinks:
    """The known cuts and delays of links. Changes gather until `taken` gives them away, to be sent to every node."""

    def __init__(self) -> None:
        self.refused_frames = 0
        self.dropped_unauthenticated = 0
        self._cuts: set[Lane] = set()
        self._delays: dict[Lane, LinkDelay] = {}
        self._changed_cuts: dict[Lane, bool] = {}
        self._changed_delays: dict[Lane, LinkDelay | None] = {}

    # --- raft.network.Links

    def cut(self, a: NodeId, b: NodeId, both: bool = True) -> None:
        """Cut the link: from now on messages from `a` to `b` (and back, if `both`) vanish."""
        for lane in ((a, b), (b, a))[: 1 + both]:
            self._cuts.add(lane)
            self._changed_cuts[lane] = True

    def mend(self, a: NodeId, b: NodeId, both: bool = True) -> None:
        """Ends a `cut`."""
        for lane in ((a, b), (b, a))[: 1 + both]:
            self._cuts.discard(lane)
            self._changed_cuts[lane] = False

    def slow(self, a: NodeId, b: NodeId, delay: LinkDelay | None, both: bool = True) -> None:
        """Slow the link down: from now on messages take that much longer; None ends it."""
        for lane in ((a, b), (b, a))[: 1 + both]:
            if delay is None:
                self._delays.pop(lane, None)
            else:
                self._delays[lane] = delay
            self._changed_delays[lane] = delay

    def heal_all(self) -> None:
        """Ends every cut and every slowness."""
        for lane in tuple(self._cuts):
            self.mend(*lane, both=False)
        for lane in tuple(self._delays):
            self.slow(*lane, None, both=False)

    def is_cut(self, source: NodeId, target: NodeId) -> bool:
        """Tell whether messages from `source` to `target` vanish now."""
        return (source, target) in self._cuts

    def delay(self, source: NodeId, target: NodeId) -> LinkDelay | None:
        """Return the delay of messages from `source` to `target`; None if there is none."""
        return self._delays.get((source, target))

    # --- between handle and nodes

    def taken(self) -> ChangeLinks | None:
        """Take what was changed since the last call; None if nothing was."""
        cuts, self._changed_cuts = self._changed_cuts, {}
        delays, self._changed_delays = self._changed_delays, {}
        if not cuts and not delays:
            return None
        return ChangeLinks(
            tuple((a, b, cut) for (a, b), cut in cuts.items()), tuple((a, b, d) for (a, b), d in delays.items())
        )

    def everything(self) -> ChangeLinks:
        """Return all that is not well: for a node that has just been started."""
        return ChangeLinks(
            tuple((a, b, True) for a, b in self._cuts), tuple((a, b, d) for (a, b), d in self._delays.items())
        )

    def become(self, other: RemoteLinks) -> None:
        """Take over the cuts and delays of another."""
        self._cuts = set(other._cuts)
        self._delays = dict(other._delays)

    def learn(self, change: ChangeLinks) -> None:
        """Learn what a node says, or what another handle did."""
        for a, b, cut in change.cuts:
            (self._cuts.add if cut else self._cuts.discard)((a, b))
        for a, b, delay in change.delays:
            if delay is None:
                self._delays.pop((a, b), None)
            else:
                self._delays[a, b] = delay

"""How long the things of consensus may take."""

from __future__ import annotations

import msgspec

from ..errors import ClusterError


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take, in seconds.

    A follower that hears nothing for a random time between `election_min` and `election_max` campaigns, and earlier if
    its link to the leader broke and stays broken; a leader that hears from no majority for `election_max` steps down.
    Invariant: `election_min` > 3 x `heartbeat`.
    """

    heartbeat: float = 0.05
    election_min: float = 0.25
    election_max: float = 0.5
    retry: float = 1.0
    """A proposal without an answer is handed to the leader again after this long."""

    def __post_init__(self) -> None:
        if not 0 < 3 * self.heartbeat < self.election_min < self.election_max or self.retry <= 0:
            raise ClusterError(
                f"{self!r}: an election must take longer than three heartbeats, election_max longer than election_min, and "
                "every time is more than 0 seconds"
            )

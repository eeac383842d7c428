"""The time limits of consensus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..errors import ClusterError
from ..threads.seconds import Seconds, is_number, keep_numbers


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The time limits of consensus, in seconds; each may be given as a `timedelta`.

    A follower that hears nothing for a random time between `election_min` and `election_max` campaigns, and earlier if
    its link to the leader broke and stays broken; a leader that hears from no majority for `election_max` steps down.
    Invariant: `election_min` > 3 x `heartbeat`.
    """

    heartbeat: float = 0.05
    election_min: float = 0.25
    election_max: float = 0.5
    retry: float = 1.0
    """A proposal without an answer is handed to the leader again after this long."""

    if TYPE_CHECKING:  # what may be given is wider than what is kept

        def __init__(
            self,
            *,
            heartbeat: Seconds = 0.05,
            election_min: Seconds = 0.25,
            election_max: Seconds = 0.5,
            retry: Seconds = 1.0,
        ) -> None: ...

    def __post_init__(self) -> None:
        keep_numbers(self, *self.__struct_fields__)
        for name in self.__struct_fields__:
            if not is_number(getattr(self, name)):
                raise ClusterError(
                    f"Timing({name}=...) is a number of seconds, or a timedelta, not {getattr(self, name)!r}"
                )
        if not 0 < 3 * self.heartbeat < self.election_min < self.election_max or self.retry <= 0:
            raise ClusterError(
                f"{self!r}: an election must take longer than three heartbeats, election_max longer than election_min, and "
                "every time is more than 0 seconds"
            )

"""The scenarios that are played on a cluster, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ..errors import ClusterError
from ..faults.player import PlayedOn, ScenarioPlay
from ..faults.scenario import Scenario
from ..faults.targets import no_such_node
from ..hosts.backend_parts import ScenarioBackend
from ..threads.seconds import Seconds
from .access import ClusterAccess


class ScenarioPlays:
    """The scenario that is played on a cluster, or was played last."""

    def __init__(self, cluster: PlayedOn, access: ClusterAccess[ScenarioBackend]) -> None:
        self._cluster = cluster
        self._access = access
        # Held while a play begins: one that has begun is seen by `halt`, and none begins after it.
        self._change = threading.Lock()
        self._play: ScenarioPlay | None = None

    @property
    def last(self) -> ScenarioPlay | None:
        """The scenario that is played, or was played last; None if there was none."""
        return self._play

    def scenario(self, scenario: Scenario | str | Sequence[tuple[str | Seconds, str]]) -> ScenarioPlay:
        """Play a scenario (one of yours, a list of its steps, or the name of one in `SCENARIOS`) on a thread of its own.

        Returns at once: `wait` waits for its end, `stop` ends it. Raises `ScenarioError` if it is not a scenario,
        `NoSuchNodeError` for a node that is not there, and `ClusterError` while another one is played.
        """
        self._access.check_running()
        given: Any = scenario
        if isinstance(given, str):
            given = Scenario.built_in(given, self._access.numbers)
        elif not isinstance(given, Scenario):
            given = Scenario("unnamed", given)
        for number in sorted(given.node_numbers - set(self._access.numbers)):
            raise no_such_node(number, self._access.numbers)
        with self._change:
            if self._play is not None and self._play.status == "running":
                raise ClusterError(
                    f"scenario {self._play.scenario.name} is being played: wait for its end, or stop it first"
                )
            self._access.check_running()
            self._play = ScenarioPlay(self._cluster, self._access.host, given).start()
            return self._play

    def halt(self) -> None:
        """Have the play end at its next step. Once the cluster counts as stopped: no other begins after this."""
        with self._change:
            play = self._play
        if play is not None:
            play.halt()

    def end(self, timeout: float) -> tuple[str, ...]:
        """Wait until the play has ended, at most `timeout` seconds; returns its name if it has not."""
        play = self._play
        return () if play is None or play.stop(timeout) else (f"scenario {play.scenario.name}",)

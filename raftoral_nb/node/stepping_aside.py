"""Having another node do the steps of runs whose executions cannot go on here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..core.commands import AssignRun, Outcome, Rejected
from ..core.run_record import RECORD_FORMAT
from ..core.statistics import STUCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..core.commands import Command
    from ..core.records import NodeId, RunId
    from ..workflow.execution.execution import Execution


class AsideEnv(Protocol):
    """What is needed of the executor."""

    node: NodeId

    def wall_clock(self) -> float:
        """Return the time of day by this node's clock, in Unix seconds."""
        ...

    def propose(self, command: Command, refused: Callable[[Outcome], None]) -> None:
        """Propose a command; `refused` is called on this loop unless it was committed."""
        ...

    def say(self, run_id: RunId, text: str) -> None:
        """Write a line of the engine's own into the run's log."""
        ...

    def yield_leadership(self) -> None:
        """Have another node lead."""
        ...


class SteppingAside:
    """Has another node do the steps of runs that would be stuck: of those that this one owns, and of those that it does as the leader.

    At most once per run and role: should every node have diverged from it, it must come to rest somewhere. As its owner once more when another
    node offers itself, which may be able to. Not for runs that an earlier version recorded: no other node of this one continues them either.
    """

    def __init__(self, env: AsideEnv) -> None:
        self._env = env
        # Invariant: the runs for which it is done, as their owner or (False) as the leader.
        self._done: set[tuple[RunId, bool]] = set()

    def look(self, executions: Iterable[Execution]) -> None:
        """Step aside for those of these executions that cannot go on, if this node does the steps of their runs."""
        yields = False
        for execution in executions:
            number = execution.rights.now() if execution.status in STUCK else None
            if number is None or execution.format != RECORD_FORMAT or execution.run_ended:
                continue
            owns = number < 0
            if (execution.run_id, owns) in self._done:
                continue
            self._done.add((execution.run_id, owns))
            whom = "own it: another is to" if owns else "lead it: it lets another node lead"
            self._env.say(execution.run_id, f"node {self._env.node} cannot go on with this run, and so not {whom}")
            if owns:
                self._give_away(execution, number)
            else:
                yields = True
        if yields:
            self._env.yield_leadership()

    def forget(self, run_id: RunId) -> None:
        """Note that a run has other code, or is gone."""
        self._done -= {(run_id, True), (run_id, False)}

    def other_offers(self, executions: Iterable[Execution]) -> None:
        """Look again at the runs that this node owns: another one takes runs now."""
        self._done = {done for done in self._done if not done[1]}
        self.look(execution for execution in executions if execution.rights.assigned)

    def _give_away(self, execution: Execution, number: int) -> None:
        env = self._env

        def refused(outcome: Outcome) -> None:
            if isinstance(outcome, Rejected) and outcome.code != "no_leader":
                return  # it has ended, or no other node takes runs: when one does, this is looked at again
            if execution.rights.now() == number and not execution.run_ended:
                self._give_away(execution, number)

        env.propose(AssignRun(execution.run_id, 0, number, env.wall_clock()), refused)

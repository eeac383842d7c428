"""What once was wrong, in the engine or in the simulation itself; each test is named after it."""

from __future__ import annotations

import asyncio

from raftoral_nb.simulation.clock_view import ClockView
from raftoral_nb.simulation.dice import SeededDice
from raftoral_nb.simulation.faults import Conditions, Plan, PlannedFault
from raftoral_nb.simulation.result import Result
from raftoral_nb.simulation.simulation import simulate
from raftoral_nb.virtual_time.clock import run


def test_a_timer_that_fired_a_hair_before_its_time_was_set_anew_for_ever() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        dice = SeededDice("timers")
        early: list[float] = []
        for _ in range(2000):
            clock = ClockView(loop, rate=dice.between(0.7, 1.5), start=dice.between(0, 1000))
            for view in (loop, clock.as_loop()):
                when = view.time() + dice.random()
                fired = asyncio.Event()

                def note(
                    view: asyncio.AbstractEventLoop = view, when: float = when, fired: asyncio.Event = fired
                ) -> None:
                    if view.time() < when:
                        early.append(when - view.time())
                    fired.set()

                view.call_at(when, note)
                await fired.wait()
        assert not early

    run(main)


def late_votes() -> Plan:
    """Node 1 leads and is cut off; node 2 campaigns and gets node 3's vote so late that node 3 has won a younger term by then."""
    faults: list[PlannedFault] = []
    for at in (3.0, 9.0, 15.0, 21.0, 27.0, 33.0):
        faults += [
            PlannedFault(at, "slow link", (3, 2), 3.0, 0.8),
            PlannedFault(at, "isolation", (1,), 1.0),
            PlannedFault(at, "cut", (1, 2), 3.0),
        ]
    return Plan("late votes", 3, Conditions(), tuple(faults))


def began_to_lead_behind_a_younger_term(result: Result) -> bool:
    acting = 0
    for _, _, what, details in result.history:
        term = int(details.split()[-1]) if what in ("acts", "leader") else 0
        if what == "acts":
            acting = max(acting, term)
        elif what == "leader" and term < acting:
            return True
    return False


def test_a_leader_of_an_older_term_whose_votes_came_late_was_blamed_for_what_a_younger_term_committed() -> None:
    seeds = (simulate(seed, planned=late_votes()) for seed in range(20))
    result = next(result for result in seeds if result.violations or began_to_lead_behind_a_younger_term(result))
    assert not result.violations


def pauses_of_nodes_that_are_asked() -> Plan:
    """No majority, so that clients wait for their answers, and pauses of whom they wait for."""
    alone = [PlannedFault(5.0, "isolation", (number,), 40.0) for number in (1, 2)]
    pauses = [PlannedFault(5.0 + 0.9 * turn, "pause", (1 + turn % 3,), 0.3) for turn in range(1, 40)]
    return Plan("pauses", 3, Conditions(), (*alone, *pauses))


def test_questions_that_a_pause_ended_were_answered_in_the_order_of_their_addresses() -> None:
    """They were kept in a set: one seed in a hundred gave another history when it was run again."""
    first, *others = (simulate(1, planned=pauses_of_nodes_that_are_asked()) for _ in range(3))
    answers = [item for item in first.history if "the node was paused" in item[3]]
    times = [(time, node) for time, node, *_ in answers]
    assert len(set(times)) < len(times), "no pause ended more than one question"
    assert all(other.history == first.history for other in others)


def test_an_execution_that_was_woken_while_its_node_was_held_overlooked_the_end_of_its_run_and_waited_for_ever() -> (
    None
):
    """Node 1 is held where its execution waits for the end of run-37's first generation, which comes meanwhile."""
    assert not simulate(202827, nodes=3, schedule="pauses").violations


def test_a_gate_opened_in_front_of_a_task_group_of_which_only_what_came_behind_was_recorded() -> None:
    for seed, nodes, schedule in ((100331, 3, "mixed"), (100149, 2, "members"), (100338, 4, "leaders")):
        assert not simulate(seed, nodes=nodes, schedule=schedule).violations


def test_a_step_that_is_never_answered_in_time_knows_by_the_log_that_its_state_is_saved() -> None:
    """It saved the same state again and again, in ever more entries."""
    assert not simulate(900072).violations

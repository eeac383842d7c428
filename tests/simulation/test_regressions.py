"""What once was wrong, in the engine or in the simulation itself; each test is named after it."""

from __future__ import annotations

import asyncio

import pytest

from raftoral_nb.simulation.clock import run
from raftoral_nb.simulation.clock_view import ClockView
from raftoral_nb.simulation.dice import SeededDice
from raftoral_nb.simulation.run import simulate


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


@pytest.mark.parametrize("seed", [17, 1149])
def test_a_leader_of_an_older_term_whose_votes_came_late_was_blamed_for_what_a_younger_term_committed(
    seed: int,
) -> None:
    assert not simulate(seed).violations

"""How long simulated steps take, and that each effect has a value of its own."""

from __future__ import annotations

from raftoral_nb.simulation.effects import CONTINUES, HANGS, LONGEST_HEALED_STEP, ONCE, SeededEffects, effect_seconds
from raftoral_nb.simulation.invariants import Checker


def test_no_two_effects_have_the_same_value() -> None:
    effects = SeededEffects(1, Checker(lambda: 0.0))
    assert len({effects.new_value("a"), effects.new_value("a"), effects.new_value("b")}) == 3


def test_an_effect_that_may_be_there_once_violates_that_when_it_is_there_twice() -> None:
    checker = Checker(lambda: 0.0)
    effects = SeededEffects(1, checker)
    effects.new_value(f"first{ONCE}")
    effects.new_value(f"second{ONCE}")
    assert not checker.violations
    effects.new_value(f"first{ONCE}")
    assert [violation.invariant for violation in checker.violations] == ["at most once"]


def test_some_steps_hang_until_all_is_healed_and_none_after() -> None:
    names = [f"step {number}" for number in range(200)]
    effects = SeededEffects(1, Checker(lambda: 0.0))
    taken = [effects.seconds(name) for name in names]
    assert taken == [effect_seconds(1, name, 1) for name in names]
    assert effects.hung == sum(seconds >= HANGS for seconds in taken) > 0
    hung = effects.hung
    effects.healed = True
    assert max(effects.seconds(name) for name in names) <= LONGEST_HEALED_STEP
    assert effects.hung == hung


def test_a_long_step_that_begins_before_what_was_acknowledged_violates_that() -> None:
    checker = Checker(lambda: 0.0)
    effects = SeededEffects(1, checker)
    effects.continued("long", 0)
    effects.saved("long", 2)
    effects.saved("long", 1)
    effects.continued("long", 2)
    effects.continued("another", 0)
    assert not checker.violations
    effects.continued("long", 1)
    assert [violation.invariant for violation in checker.violations] == [CONTINUES]

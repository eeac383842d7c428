"""Real clusters over TCP, in real time, under load and faults: what the simulation checks holds for them too."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from raftoral_nb.simulation.mutants import without
from tests.soak.soaking import Soak

LONGEST = 60.0
"""Seconds that one cluster lives: longer soaks are several, so that the records of all runs are still held at the end."""


@pytest.mark.parametrize("nodes", [5, 3])
def test_a_cluster_under_load_keeps_its_promises_while_nodes_and_links_break(
    nodes: int, request: pytest.FixtureRequest, report_at_the_end: Callable[[object], None]
) -> None:
    left = request.config.getoption("--soak-seconds") / 2
    seed = request.config.getoption("--soak-seed")
    while left > 0:
        chosen = random.randrange(2**32) if seed is None else seed
        print(f"the dice: --soak-seed {chosen}")
        report = Soak(chosen, nodes, min(left, LONGEST)).run()
        report_at_the_end(report)
        assert not report.problems, f"--soak-seed {chosen}, {nodes} nodes:\n" + "\n".join(report.problems)
        assert report.acknowledged
        assert sum(report.faults.values())
        left -= LONGEST


def test_a_cluster_whose_leaders_act_too_early_does_not_pass() -> None:
    with without("takeover before acting"):
        report = Soak(1, 3, 2.0).run()
    assert any(problem.startswith("acting needs its takeover applied") for problem in report.problems)

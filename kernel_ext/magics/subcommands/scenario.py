"""`%raftoral scenario`: a sequence of faults, to be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

import raftoral_nb

from ...errors import MagicError
from ...shown import display as shows
from ...shown.display import Shown
from ..arguments import Parser
from ..subcommand import Notebook, Subcommand, Typed

if TYPE_CHECKING:
    from raftoral_nb import Cluster, Scenario

_FLAGS: Final = ("--wait", "--show", "--stop")


class Play(msgspec.Struct, frozen=True):
    """`name` None means: list them, or (with `stop`) the one that is played."""

    name: str | None
    how: Literal["play", "wait", "show", "stop"]


def _parse(rest: str, usage: str) -> Play:
    parser = Parser(usage)
    parser.add_argument("name", metavar="NAME", nargs="?")
    for flag in _FLAGS:
        parser.add_argument(flag, action="store_const", const=flag[2:], dest="how")
    found = parser.read(rest)
    if found.how == "stop" and found.name is not None:
        raise MagicError(f"--stop ends the one that is played, and takes no name.\nUsage: {usage}")
    if found.how in ("wait", "show") and found.name is None:
        raise MagicError(f"--{found.how} needs the name of a scenario.\nUsage: {usage}")
    return Play(found.name, found.how or "play")


def _do(asked: Play, notebook: Notebook) -> Shown:
    session = notebook.session
    if asked.how == "stop":
        return _stop(session.cluster)
    if asked.name is None:
        return shows.scenarios({**raftoral_nb.SCENARIOS, **_described(session.own_scenarios())})
    cluster = session.cluster
    scenario = session.scenario(asked.name, tuple(cluster.nodes))
    if asked.how == "show":
        return shows.page(str(scenario))
    return _play(cluster, scenario, wait=asked.how == "wait")


def _stop(cluster: Cluster) -> Shown:
    play = cluster.play
    if play is None or play.status != "running":
        raise MagicError("no scenario is being played. All of them: %raftoral scenario")
    play.stop()
    return shows.notice(f"scenario {play.scenario.name}: {play.status}; what it broke stays so: %raftoral heal")


def _play(cluster: Cluster, scenario: Scenario, *, wait: bool) -> Shown:
    play = cluster.scenario(scenario)
    if not wait:
        idle = scenario.needs_run and not any(run.status == "running" for run in cluster.runs())
        hint = "\nit waits for a run: start one now" if idle else ""
        return shows.notice(
            f"scenario {scenario.name} is played beside the notebook; what it does: %raftoral events; "
            f"to end it: %raftoral scenario --stop{hint}"
        )
    try:
        for line in play:
            print(line, flush=True)  # noqa: T201 - the lines are what was asked for
    except KeyboardInterrupt:
        play.stop()
        raise
    play.wait()
    return shows.notice(f"scenario {scenario.name}: {play.status}")


def _described(scenarios: dict[str, Scenario]) -> dict[str, str]:
    return {name: scenario.description or "(of this notebook)" for name, scenario in scenarios.items()}


def _offers(typed: Typed) -> list[str]:
    return list(typed.flags) if typed.given else [*typed.known.scenarios, *typed.flags]


SUBCOMMAND = Subcommand(
    name="scenario",
    group="Break it",
    usage="scenario [NAME] [--wait|--show|--stop]",
    does="a sequence of faults, to be repeated; all of them, without a NAME",
    examples=(
        """\
  %raftoral scenario                    sequences of faults that can be repeated, and what each shows
  %raftoral scenario late-follower      play one beside the notebook; --wait waits and prints what it does, --show prints
                                        the lines that do the same, and `scenario --stop` ends the one that is played
  mine = raftoral_nb.Scenario("mine", [("step started", "isolate leader"), ("leader changed", "heal")])
                                        one of your own; then: %raftoral scenario mine""",
    ),
    parse=_parse,
    do=_do,
    offers=_offers,
    flags=dict.fromkeys(_FLAGS),
)

"""The subcommand `raftoral-nb simulate`."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ClusterError

if TYPE_CHECKING:
    from ..simulation.result import Result

DEFAULT_SEEDS: Final = 100

INTERRUPTED: Final = 130
"""The exit code when not all seeds were run, and nothing was violated so far; as of every interrupted command."""


def add_parser(subparsers: Any) -> None:
    """Add `simulate` to the subcommands (those of `ArgumentParser.add_subparsers`); `run` is its default function."""
    parser = subparsers.add_parser(
        "simulate",
        help="run the engine on a virtual clock with simulated networks, disks and faults, and check what it promises",
        description="Runs the real engine on a virtual clock, with faults and clients that a seed decides, and checks at "
        "every step what it promises. The same seed gives the same history everywhere. Exits with 1 if anything was violated.",
    )
    _add_arguments(parser)
    parser.set_defaults(run=run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds", type=_count, default=None, metavar="N", help=f"how many seeds (default: {DEFAULT_SEEDS})"
    )
    parser.add_argument("--start", type=int, default=0, metavar="S", help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="this one seed")
    parser.add_argument(
        "--nodes", type=int, choices=(2, 3, 4, 5), default=None, help="how many nodes (default: all, mixed)"
    )
    parser.add_argument(
        "--schedule", default=None, metavar="NAME", help="one kind of faults (default: all by turns); `list` shows them"
    )
    parser.add_argument(
        "--without-guard",
        nargs="?",
        const="all",
        default=None,
        metavar="RULE",
        help="let PySyncObj's hazards through, to see that they would be found: all of them, or what one rule of the guard "
        "mends; `list` shows the rules",
    )
    parser.add_argument(
        "--mutant", default=None, metavar="NAME", help="take one safeguard out of the engine; `list` shows them"
    )
    parser.add_argument(
        "--paths",
        choices=("fast", "guarded", "mixed"),
        default=None,
        help="the way that messages take through a node: past PySyncObj where they can, never, or by chance (default: the seed decides)",
    )
    parser.add_argument(
        "--jobs",
        type=_count,
        default=1,
        metavar="N",
        help="worker processes (default: 1); the seeds' results are the same, and come in the same order",
    )
    parser.add_argument("--trace", action="store_true", help="print the history of the one seed given with --seed")
    parser.add_argument(
        "--script",
        default=None,
        metavar="FILE",
        help="run no seed, but the commands of a transcript, and print what happens in the words of the Raft paper "
        "(examples are in tests/transcripts)",
    )
    parser.add_argument("--shrink", action="store_true", help="leave out faults of a failing seed while it still fails")


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return count


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say; returns the exit code."""
    from ..simulation import faults, hazards, mutants

    for chosen, known, what in (
        (arguments.schedule, faults.SCHEDULES, "schedule"),
        (arguments.mutant, mutants.MUTANTS, "mutant"),
        (arguments.without_guard, (hazards.ALL, *hazards.RULES), "rule"),
    ):
        if chosen is not None and chosen not in known:
            if chosen != "list":
                print(f"there is no {what} {chosen!r}; there are: {', '.join(known)}", file=sys.stderr)
                return 2
            print("\n".join(known))
            return 0
    if arguments.script is not None:
        return _script(arguments.script)
    if arguments.trace and arguments.seed is None:
        print("--trace shows one seed: give it with --seed", file=sys.stderr)
        return 2
    if arguments.seed is None:
        return _many(arguments)
    with contextlib.nullcontext() if arguments.mutant is None else mutants.without(arguments.mutant):
        return _one(arguments)


def _script(path: str) -> int:
    from ..simulation.transcript import play

    try:
        print(play(Path(path).read_text(encoding="utf-8")), end="")
    except (ClusterError, OSError, UnicodeDecodeError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    return 0


def _one(arguments: argparse.Namespace) -> int:
    from ..simulation import report
    from ..simulation.shrink import shrink
    from ..simulation.simulation import simulate

    result = simulate(
        arguments.seed,
        nodes=arguments.nodes,
        schedule=arguments.schedule,
        without=arguments.without_guard,
        paths=arguments.paths,
    )
    if arguments.shrink and result.violations:
        result = shrink(result)
    if arguments.trace:
        print(report.trace(result))
    else:
        tally = report.Tally()
        tally.add(result)
        print(tally)
    if result.violations:
        print(report.violations(result, arguments.mutant))
        if arguments.shrink and not arguments.trace:
            print(_shrunk(result))
    return 1 if result.violations else 0


def _many(arguments: argparse.Namespace) -> int:
    from ..simulation import many, mutants, report
    from ..simulation.shrink import shrink

    tally = report.Tally()
    interrupted = False
    began = time.monotonic()
    count = arguments.seeds or DEFAULT_SEEDS
    choice = many.Choice(
        arguments.nodes, arguments.schedule, arguments.without_guard, arguments.mutant, arguments.paths
    )
    seeds = range(arguments.start, arguments.start + count)
    with contextlib.closing(many.results(seeds, choice, jobs=arguments.jobs)) as found:
        try:
            for result in found:
                tally.add(result)
                if result.violations:
                    print(report.violations(result, choice.mutant), flush=True)
                    if arguments.shrink:
                        with contextlib.nullcontext() if choice.mutant is None else mutants.without(choice.mutant):
                            print(_shrunk(shrink(result)), flush=True)
        except KeyboardInterrupt:
            interrupted = True
            print(f"interrupted after {tally.seeds} of {count} seeds")
    took = time.monotonic() - began
    print(tally)
    print(f"{took:.0f} s of real time, {tally.seeds / max(took, 0.001):.1f} seeds a second")
    if tally.failed:
        return 1
    return INTERRUPTED if interrupted else 0


def _shrunk(result: Result) -> str:
    from ..simulation.faults import described

    left = result.plan.faults
    return f"    {len(left)} faults are enough:\n{described(left)}" if left else "    no fault is needed for that"

"""The suite: this build beside the one before, and beside what people would pick instead.

    python benchmarks/run.py --cases step,one,batch --sides own,before,peers --rounds 3 --json speed.json --svg docs

The sides of a case take turns (A B A B), each round in a process of its own; each does the same work and must compute the same result.
Compare figures only within one run: what else the machine does hits all sides of it, and ratios are taken round by round. What a side needs
is set up when it is asked for, and stays in a folder; a side that cannot be had is absent, and says why.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a script, from wherever
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import report
from benchmarks.cases import BY_NAME, CASES
from benchmarks.environments import Environments
from benchmarks.rounds import Measured, Results, Rounds
from benchmarks.sides import BEFORE, SIDES, Side, chosen
from benchmarks.targets import verdicts


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if one of our own sides failed or any side computed another result, else 0."""
    parser = _options()
    options = parser.parse_args(argv)
    if options.list:
        print(listing())
        return 0
    try:
        sides = chosen(options.sides.split(","))
        cases = [BY_NAME[name] for name in options.cases.split(",")] if options.cases else list(CASES)
    except ValueError as error:
        parser.error(str(error))
    except KeyError as error:
        parser.error(f"there is no case {error}; there are {', '.join(BY_NAME)}")
    if options.rounds < 1:
        parser.error("at least one round")
    environments = Environments(options.peers_dir.expanduser(), options.before)
    rounds = Rounds(environments, options.rounds, options.smoke, options.scratch)
    print(f"{report.machine()}; {options.rounds} round{'s' * (options.rounds > 1)}\n{report.busy()}", flush=True)
    results: Results = {}
    for case, found in rounds.measure(cases, sides):
        results[case.name] = found
        print(f"{report.table(case, rounds.numbers(case), found)}\n", flush=True)
    print(f"Sides:\n{report.sides_of(results)}\n")
    said = [] if options.smoke else verdicts(results)
    if any(one.met is not None for one in said):
        print("Targets:")
        print("\n".join(str(one) for one in said))
    if options.json is not None:
        data = report.as_data(results, said, options.rounds)
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if options.svg is not None:
        options.svg.mkdir(parents=True, exist_ok=True)
        print("Drawn:", ", ".join(report.write_pictures(results, options.svg)) or "nothing")
    return (
        1
        if any(_spoils(side, found[side.name]) for found in results.values() for side in sides if side.name in found)
        else 0
    )


def _spoils(side: Side, measured: Measured) -> bool:
    """Tell whether the run is no good: ours must not fail, and nobody may compute something else."""
    ours = side.place in {"here", "before"}
    return bool(measured.failed) and (ours or measured.failed.startswith("it computed"))


def listing() -> str:
    """Return the cases and the sides, a line for each."""
    cases = "\n".join(f"  {case.name:10} {case.title}" for case in CASES)
    sides = "\n".join(f"  {side.name:18} syncs {side.syncs}" for side in SIDES)
    return f"Cases:\n{cases}\n\nSides:\n{sides}"


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="This build beside the one before, and beside others.")
    parser.add_argument("--list", action="store_true", help="list cases and sides")
    parser.add_argument("--cases", help="names of cases, with commas between (default: all)")
    parser.add_argument(
        "--sides",
        default="own,before,peers",
        help="names or patterns of sides, or own, before, peers, all, with commas between (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each case (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="do little of everything: only to see that it works")
    parser.add_argument(
        "--before",
        default=BEFORE,
        metavar="REVISION",
        help="what git calls the build to compare with (default: %(default)s)",
    )
    parser.add_argument(
        "--peers-dir",
        type=Path,
        default=Path("~/.cache/raftoral-nb-benchmarks"),
        help="where the environments of builds and peers are made and kept (default: %(default)s)",
    )
    parser.add_argument(
        "--scratch", type=Path, help="where the data of the sides is written (default: the system's temporary folder)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write everything as JSON")
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="where to draw the pictures")
    return parser


if __name__ == "__main__":
    # The side that is under way, and what it has started, is ended with the runner.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())

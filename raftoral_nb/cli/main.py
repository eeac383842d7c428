"""The console script `raftoral-nb`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from .. import __version__
from ..limits import MAX_NODES
from . import nodes as processes
from . import simulate as simulation

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

BAD_USAGE: Final = 2
"""The exit code for arguments that make no sense; 1 says that the demonstration failed."""

_INTERRUPTED: Final = 130

_MIN_DEMO_NODES: Final = 3


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, in two lines."""
        print(f"{self.prog}: {message}\nTo see what there is: {self.prog} --help", file=sys.stderr)
        raise SystemExit(BAD_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments (those of the process if None) and return its exit code."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has printed help, the version, or an error
        return end.code if isinstance(end.code, int) else 0
    try:
        if arguments.command == "simulate":
            return simulation.run(arguments)
        if arguments.command == "inspect":
            from . import inspect as inspection

            return inspection.run(arguments)
        if arguments.command in ("ps", "stop", "node"):
            return processes.run(arguments)
        from . import demo  # loads the engine, which --help and --version do without

        return demo.run_demo(arguments.nodes, arguments.log_level)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="raftoral-nb",
        description="Durable workflows replicated by Raft, inside a notebook's kernel.",
        epilog="In a notebook: %load_ext raftoral_nb, then %raftoral? for help.",
    )
    parser.add_argument("--version", action="version", version=f"raftoral-nb {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="run workflows on a cluster in this process, kill its leader, and check that nothing is lost",
        description="Runs workflows on a cluster in this process, over TCP on 127.0.0.1: a computation, an order during which "
        "the leader is killed, and a follower that comes late. Exits with 0 only if everything claimed held.",
    )
    demo.add_argument(
        "--nodes",
        type=_nodes,
        default=_MIN_DEMO_NODES,
        metavar="N",
        help=f"how many nodes, {_MIN_DEMO_NODES} to {MAX_NODES} (default: %(default)s)",
    )
    demo.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        metavar="LEVEL",
        help=f"what the engine logs to standard error: {', '.join(LOG_LEVELS)} (default: nothing)",
    )
    inspect = commands.add_parser(
        "inspect",
        help="show what a data directory holds: nodes, terms, runs, steps",
        description="Shows what a data directory holds, without starting anything and without changing a file. Exits with 1 if "
        "something in it cannot be read.",
    )
    inspect.add_argument("directory", type=Path, metavar="DIR", help="the data directory")
    inspect.add_argument("--steps", action="store_true", help="name every recorded step")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.add_argument(
        "--encryption-key",
        type=Path,
        metavar="FILE",
        help="the key of a directory that is encrypted: a file of 32 bytes, or of 64 hexadecimal digits",
    )
    processes.add_parsers(commands)
    simulation.add_parser(commands)
    return parser


def _nodes(text: str) -> int:
    try:
        nodes = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of nodes; try 3") from None
    if nodes < _MIN_DEMO_NODES:
        raise argparse.ArgumentTypeError(
            f"the demonstration kills a node and continues with the majority of the others, so it needs at least "
            f"{_MIN_DEMO_NODES} nodes, not {nodes}"
        )
    if nodes > MAX_NODES:
        raise argparse.ArgumentTypeError(f"a cluster has at most {MAX_NODES} nodes, not {nodes}")
    return nodes


if __name__ == "__main__":
    sys.exit(main())

"""What was typed after `%raftoral` and `%%workflow`, taken apart. Pure: nothing here touches a cluster or a shell."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from typing import Final, Literal, NoReturn, get_args

from raftoral_nb import FAULTS, Fault, FaultError, parse_fault
from raftoral_nb.statistics import RunStatus

from ..errors import MagicError, did_you_mean
from .run_lines import History as History
from .run_lines import OnRun as OnRun
from .run_lines import Runs as Runs
from .run_lines import Send as Send
from .run_lines import message
from .start_lines import DURABILITIES as DURABILITIES
from .start_lines import START_FLAGS, START_USAGE, metrics, start
from .start_lines import Attach as Attach
from .start_lines import Durability as Durability
from .start_lines import Metrics as Metrics
from .start_lines import Start as Start
from .times import ago

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LEADER: Final = "leader"
HELP: Final = ("help", "--help", "-h")

NodeWord = Literal["leader", "follower", "dead", "paused", "held"]
NodeName = int | NodeWord

NODE_COMMANDS: Final = {
    "kill": "end a node; only its journal (log, term, vote) stays",
    "restart": "start a killed node from its journal",
    "pause": "freeze a node, as a hung process",
    "resume": "end a pause",
    "hold": "stop only a node's execution; its catch-up queue grows",
    "release": "end a hold; the queue drains",
}
NODE_WORDS: Final[dict[str, tuple[NodeWord, ...]]] = {
    "kill": (LEADER, "follower"),
    "pause": (LEADER, "follower"),
    "hold": (LEADER, "follower"),
    "restart": ("dead",),
    "resume": ("paused",),
    "release": ("held",),
    "partition": (LEADER, "follower"),
    "isolate": (LEADER, "follower"),
    "cut": (LEADER, "follower"),
    "slow": (LEADER, "follower"),
    "heal": (),
    "transfer": ("follower",),
    "campaign": ("follower",),
    "add": (),
    "remove": (LEADER, "follower", "dead"),
}
"""What each takes in place of a number (the first node that is so). Those that undo something name what it was done to."""

LINK_COMMANDS: Final = {
    "partition": "cut all links between groups of nodes",
    "isolate": "cut all links of a node",
    "cut": "cut the link between two nodes",
    "slow": "have messages of a node, or over a link, take longer",
    "heal": "end what was done to links: to all, or to some",
    "transfer": "hand leadership to a node",
    "campaign": "have nodes campaign in the same moment",
    "add": "start a new node, and make it a member",
    "remove": "take a node out for good",
}
LINK_ARGUMENTS: Final = ("cut", "slow", "heal")
"""Those that take a link, `A-B`."""

RUN_COMMANDS: Final = {
    "cancel": "ask a run to end; it may clean up",
    "terminate": "end a run at once, without cleanup",
}
RUN_OR_NODE: Final = ("pause", "resume")
"""What can be done to a node can also be done to a run: nothing else is named by a number or by one of `NODE_WORDS`."""
MESSAGES: Final = {
    "signal": "send a run a signal",
    "update": "send a run a signal, and wait for its answer",
    "query": "ask a run something",
    "button": "a button that sends a run a signal",
    "progress": "a bar of how far a run is, by a variable of its",
}

SUBCOMMANDS: Final = {
    "start": "start a cluster",
    "attach": "drive a cluster that runs in processes of its own",
    "leave": "let go of such a cluster, which goes on",
    "stop": "stop it",
    "status": "nodes and runs, as a table",
    "register": "register a workflow of the notebook",
    "run": "start a run",
    "move": "move a run to another version of its workflow",
    "check": "run a workflow with a failover at every step",
    "runs": "all runs, or some",
    "history": "what is recorded of a run",
    "log": "what workflows printed and logged",
    "events": "what happened, in order",
    "entries": "the logs of the nodes, side by side",
    "metrics": "counters and gauges as OpenMetrics text; --serve: over HTTP, to this machine",
    "watch": "the live view",
    **NODE_COMMANDS,
    **LINK_COMMANDS,
    **MESSAGES,
    **RUN_COMMANDS,
    "scenario": "a sequence of faults, to be repeated; all of them, without a NAME",
}

USAGE: Final = {
    "start": START_USAGE,
    "attach": "attach NAME",
    "leave": "leave",
    "stop": "stop",
    "status": "status",
    "register": "register NAME [--version N] [--strict]",
    "run": "run NAME [INPUT-EXPRESSION] [--version N] [--id ID]",
    "move": "move RUN VERSION",
    "check": "check NAME [INPUT-EXPRESSION]",
    "runs": "runs [--status STATUS] [--workflow NAME] [--since TIME]",
    "history": "history RUN [--times]",
    "log": "log [RUN] [--node N] [--last N] [--times]",
    "events": "events [--last N] [--times]",
    "entries": "entries [--last N]",
    "metrics": "metrics [--serve [--port N]|--stop]",
    "watch": "watch",
    **{name: "|".join((f"{name} NODE", *NODE_WORDS[name], *["RUN"] * (name in RUN_OR_NODE))) for name in NODE_COMMANDS},
    "signal": "signal RUN NAME [VALUE-EXPRESSION]",
    "update": "update RUN NAME [VALUE-EXPRESSION]",
    "query": "query RUN NAME [ARGUMENT-EXPRESSION]",
    "button": "button RUN NAME [VALUE-EXPRESSION]",
    "progress": "progress RUN VARIABLE [TOTAL-EXPRESSION]",
    **{name: f"{name} RUN [REASON]" for name in RUN_COMMANDS},
    **{name: FAULTS[name] for name in LINK_COMMANDS},
    "scenario": "scenario [NAME] [--wait|--show|--stop]",
}

FLAGS: Final = {
    "start": START_FLAGS,
    "register": ("--version", "--strict"),
    "run": ("--version", "--id"),
    "runs": ("--status", "--workflow", "--since"),
    "history": ("--times",),
    "log": ("--node", "--last", "--times"),
    "events": ("--last", "--times"),
    "entries": ("--last",),
    "metrics": ("--serve", "--port", "--stop"),
    "cut": ("--one-way",),
    "slow": ("--delay", "--jitter"),
    "scenario": ("--wait", "--show", "--stop"),
}

_FLAG_FIRST: Final = re.compile(r"\s*--(?P<flag>version|id)(?:\s+|\s*=\s*)(?P<value>[\w.:/@+-]+)(?=\s|$)")
_FLAG_LAST: Final = re.compile(r"(?:^|(?<=\s))--(?P<flag>version|id)(?:\s+|\s*=\s*)(?P<value>[\w.:/@+-]+)\s*$")
_NAME: Final = re.compile(r"\s*(?P<name>[^\s-]\S*)")


@dataclass(frozen=True)
class Simple:
    """A subcommand without arguments (`stop`, `status`, `watch`)."""

    name: str


@dataclass(frozen=True)
class Register:
    """`register NAME`; `version` None means: the workflow's own, or the next one. `strict` refuses what is not deterministic."""

    workflow: str
    version: int | None
    strict: bool = False


@dataclass(frozen=True)
class Run:
    """`run NAME`; `expression` is Python source, "" for no input."""

    workflow: str
    expression: str
    version: int | None
    run_id: str | None


@dataclass(frozen=True)
class Move:
    """`move RUN VERSION`."""

    run_id: str
    version: int


@dataclass(frozen=True)
class Check:
    """`check NAME`; `expression` is Python source, "" for no input."""

    workflow: str
    expression: str


@dataclass(frozen=True)
class Log:
    """`log`; None means: of every run, of every node, as many lines as are shown by default."""

    run_id: str | None
    node: int | None
    last: int | None
    times: bool


@dataclass(frozen=True)
class Events:
    """`events`; `last` None means: as many as are shown by default."""

    last: int | None
    times: bool


@dataclass(frozen=True)
class Entries:
    """`entries`; `last` None means: as many of each log as are shown by default."""

    last: int | None


@dataclass(frozen=True)
class OnNode:
    """One of `NODE_COMMANDS`, and the node it is for."""

    name: str
    node: NodeName


@dataclass(frozen=True)
class Break:
    """One of `LINK_COMMANDS`, taken apart by the engine."""

    fault: Fault


@dataclass(frozen=True)
class Play:
    """`scenario`; `name` None means: list them, or (with `stop`) the one that is played."""

    name: str | None
    how: Literal["play", "wait", "show", "stop"]


Parsed = (
    Simple
    | Start
    | Attach
    | Register
    | Run
    | Move
    | Check
    | Runs
    | History
    | Send
    | OnRun
    | Log
    | Events
    | Entries
    | Metrics
    | OnNode
    | Break
    | Play
)


@dataclass(frozen=True)
class WorkflowCell:
    """What stands after `%%workflow`."""

    name: str | None
    version: int | None
    strict: bool = False


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises our error, in place of printing to stderr and leaving Python."""

    def __init__(self, usage: str) -> None:
        super().__init__(prog="", usage=usage, add_help=False, allow_abbrev=False)
        self._line = usage

    def error(self, message: str) -> NoReturn:
        """Raises `MagicError` with how the line should look."""
        message = re.sub(r"^argument (\S+):", r"\1:", message)
        raise MagicError(f"{message}.\nUsage: {self._line}")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, not {text!r}")
    return int(text)


def _words(text: str, usage: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise MagicError(f"{str(problem).lower()} in {text!r}.\nUsage: {usage}") from None


def parse(line: str) -> Parsed | None:
    """Takes apart what follows `%raftoral`; None for an empty line or a plea for help. Raises `MagicError`."""
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if not name or name in HELP or rest in HELP[1:]:
        return None
    if name not in SUBCOMMANDS:
        raise MagicError(
            f"%raftoral has no subcommand {name!r}.{did_you_mean(name, SUBCOMMANDS)}\n"
            f"It has: {', '.join(SUBCOMMANDS)}. Help and examples: %raftoral?"
        )
    usage = f"%raftoral {USAGE[name]}"
    if name == "run":
        return _parse_run(rest, usage)
    if name == "check":
        return _parse_check(rest, usage)
    if name in LINK_COMMANDS:
        try:
            return Break(parse_fault(f"{name} {rest}", "%raftoral "))
        except FaultError as problem:
            raise MagicError(str(problem)) from None
    if name in MESSAGES:
        return message(name, rest, usage)
    parser = _Parser(usage)
    words = _words(rest, usage)
    match name:
        case "runs":
            parser.add_argument("--status", choices=get_args(RunStatus))
            parser.add_argument("--workflow")
            parser.add_argument("--since", type=ago)
            found = parser.parse_args(words)
            return Runs(found.status, found.workflow, found.since)
        case "history":
            parser.add_argument("run", metavar="RUN")
            parser.add_argument("--times", action="store_true")
            found = parser.parse_args(words)
            return History(found.run, found.times)
        case _ if name in RUN_COMMANDS:
            parser.add_argument("run", metavar="RUN")
            parser.add_argument("reason", metavar="REASON", nargs="*")
            found = parser.parse_args(words)
            return OnRun(name, found.run, " ".join(found.reason))
        case "start":
            parser.add_argument("--nodes", type=_count)
            parser.add_argument("--log-level", type=str.lower, choices=LOG_LEVELS)
            return start(parser, words, usage)
        case "attach":
            parser.add_argument("name", metavar="NAME")
            return Attach(parser.parse_args(words).name)
        case "register":
            parser.add_argument("name", metavar="NAME")
            parser.add_argument("--version", type=_count)
            parser.add_argument("--strict", action="store_true")
            found = parser.parse_args(words)
            return Register(found.name, found.version, found.strict)
        case "move":
            parser.add_argument("run", metavar="RUN")
            parser.add_argument("version", metavar="VERSION", type=_count)
            found = parser.parse_args(words)
            return Move(found.run, found.version)
        case "log":
            parser.add_argument("run", metavar="RUN", nargs="?")
            parser.add_argument("--node", type=_count)
            parser.add_argument("--last", type=_count)
            parser.add_argument("--times", action="store_true")
            found = parser.parse_args(words)
            return Log(found.run, found.node, found.last, found.times)
        case "events":
            parser.add_argument("--last", type=_count)
            parser.add_argument("--times", action="store_true")
            found = parser.parse_args(words)
            return Events(found.last, found.times)
        case "entries":
            parser.add_argument("--last", type=_count)
            return Entries(parser.parse_args(words).last)
        case "metrics":
            return metrics(parser, words, usage)
        case "scenario":
            return _scenario(parser, words, usage)
        case _ if name in NODE_COMMANDS:
            parser.add_argument("node", metavar="NODE")
            given = parser.parse_args(words).node
            if name in RUN_OR_NODE and given != LEADER and given not in NODE_WORDS[name] and not given.isdigit():
                return OnRun(name, given, "")
            return OnNode(name, _node(name, given))
    parser.parse_args(words)
    return Simple(name)


def _scenario(parser: _Parser, words: list[str], usage: str) -> Play:
    parser.add_argument("name", metavar="NAME", nargs="?")
    for flag in FLAGS["scenario"]:
        parser.add_argument(flag, action="store_const", const=flag[2:], dest="how")
    found = parser.parse_args(words)
    if found.how == "stop" and found.name is not None:
        raise MagicError(f"--stop ends the one that is played, and takes no name.\nUsage: {usage}")
    if found.how in ("wait", "show") and found.name is None:
        raise MagicError(f"--{found.how} needs the name of a scenario.\nUsage: {usage}")
    return Play(found.name, found.how or "play")


def _node(command: str, text: str) -> NodeName:
    words = NODE_WORDS[command]
    for word in words:
        if text == word:
            return word
    either = f" or {' or '.join(map(repr, words))}"
    if text == LEADER:
        raise MagicError(f"{command} takes a node's number{either}: %raftoral {command} 1. Which one: %raftoral status")
    if not text.isascii() or not text.isdigit():
        raise MagicError(f"{command} takes a node's number{either}, not {text!r}. Example: %raftoral {command} 1")
    return int(text)


def _parse_run(rest: str, usage: str) -> Run:
    match = _NAME.match(rest)
    if not match:
        raise MagicError(f"run needs the name of a workflow.\nUsage: {usage}")
    text = rest[match.end() :]
    flags: dict[str, str] = {}

    def take(found: re.Match[str]) -> None:
        if found["flag"] in flags:
            raise MagicError(f"--{found['flag']} is given twice.\nUsage: {usage}")
        flags[found["flag"]] = found["value"]

    while first := _FLAG_FIRST.match(text):
        take(first)
        text = text[first.end() :]
    while last := _FLAG_LAST.search(text):
        take(last)
        text = text[: last.start()].rstrip()
    expression = text.strip()
    if expression.startswith("--"):
        flag = expression.split()[0].partition("=")[0]
        known = ("--version", "--id")
        why = f"{flag} needs a value" if flag in known else f"run has no flag {flag}.{did_you_mean(flag, known)}"
        raise MagicError(f"{why.rstrip('.')}{'' if why.endswith('?') else '.'}\nUsage: {usage}")
    version = flags.get("version")
    return Run(match["name"], expression, None if version is None else _version(version, usage), flags.get("id"))


def _parse_check(rest: str, usage: str) -> Check:
    match = _NAME.match(rest)
    if not match:
        raise MagicError(f"check needs the name of a workflow.\nUsage: {usage}")
    return Check(match["name"], rest[match.end() :].strip())


def _version(text: str, usage: str) -> int:
    try:
        return _count(text)
    except argparse.ArgumentTypeError as problem:
        raise MagicError(f"--version: {problem}.\nUsage: {usage}") from None


def parse_workflow_line(line: str) -> WorkflowCell:
    """Takes apart what follows `%%workflow`. Raises `MagicError`."""
    usage = "%%workflow [NAME] [--version N] [--strict]"
    parser = _Parser(usage)
    parser.add_argument("name", metavar="NAME", nargs="?")
    parser.add_argument("--version", type=_count)
    parser.add_argument("--strict", action="store_true")
    found = parser.parse_args(_words(line, usage))
    return WorkflowCell(found.name, found.version, found.strict)

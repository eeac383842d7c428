"""What may stand after `%raftoral`."""

from __future__ import annotations

import pytest

from kernel_ext.errors import MagicError
from kernel_ext.magics.help import RAFTORAL_HELP, short_help_text
from kernel_ext.magics.message_commands import Send
from kernel_ext.magics.node_commands import OnNode
from kernel_ext.magics.parsing import parse
from kernel_ext.magics.run_commands import OnRun
from kernel_ext.magics.subcommands.check import Check
from kernel_ext.magics.subcommands.entries import ENTRIES_SHOWN
from kernel_ext.magics.subcommands.events import Events
from kernel_ext.magics.subcommands.history import History
from kernel_ext.magics.subcommands.log import Log
from kernel_ext.magics.subcommands.move import Move
from kernel_ext.magics.subcommands.register import Register
from kernel_ext.magics.subcommands.run import Run
from kernel_ext.magics.subcommands.runs import Runs
from kernel_ext.magics.subcommands.scenario import Play
from kernel_ext.magics.subcommands.start import Start
from kernel_ext.magics.table import TABLE
from kernel_ext.magics.workflow_line import WorkflowCell, parse_workflow_line
from raftoral_nb import Fault


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("start", Start(None, None)),
        ("start --nodes 5", Start(5, None)),
        ("start --nodes=5 --log-level INFO", Start(5, "info")),
        ("start --data-dir 'my lab'", Start(None, None, "my lab")),
        ("start --data-dir lab --durability DISK", Start(None, None, "lab", "disk")),
        ("start --processes", Start(None, None, processes=True)),
        ("start --processes --data-dir lab --detach", Start(None, None, "lab", processes=True, detach=True)),
        ("attach lab", "lab"),
        ("leave", None),
        ("stop", None),
        ("  status  ", None),
        ("register order", Register("order", None)),
        ("register order --version 2", Register("order", 2)),
        ("move order-1 2", Move("order-1", 2)),
        ("check order", Check("order", "")),
        ("check order {'a': 1}", Check("order", "{'a': 1}")),
        ("register order --strict", Register("order", None, strict=True)),
        ("log", Log(None, None, None, times=False)),
        ("log order-1 --node 2 --last 5 --times", Log("order-1", 2, 5, times=True)),
        ("runs", Runs(None, None, None)),
        ("runs --status failed --workflow order --since 5m", Runs("failed", "order", 300.0)),
        ("runs --since 1.5h", Runs(None, None, 5400.0)),
        ("runs --since 1500ms", Runs(None, None, 1.5)),
        ("runs --since 2d", Runs(None, None, 172_800.0)),
        ("history order-1 --times", History("order-1", times=True)),
        ("signal order-1 approve", Send("order-1", "approve", "")),
        ('signal order-1 approve {"by": "ann"}', Send("order-1", "approve", '{"by": "ann"}')),
        ("update order-1 'set limit' 2 * 50", Send("order-1", "set limit", "2 * 50")),
        ("query order-1 progress", Send("order-1", "progress", "")),
        ("cancel order-1", OnRun("order-1", "")),
        ("cancel order-1 not wanted any more", OnRun("order-1", "not wanted any more")),
        ("terminate order-1", OnRun("order-1", "")),
        ("pause order-1", OnRun("order-1", "")),
        ("pause 1", OnNode("pause", 1)),
        ("resume order-1", OnRun("order-1", "")),
        ("resume paused", OnNode("resume", "paused")),
        ("events --last 3", Events(3, times=False)),
        ("entries", ENTRIES_SHOWN),
        ("entries --last 5", 5),
        ("kill leader", OnNode("kill", "leader")),
        ("kill follower", OnNode("kill", "follower")),
        ("release 3", OnNode("release", 3)),
        ("restart dead", OnNode("restart", "dead")),
        ("partition 1 / 2 3", Fault(name="partition", groups=((1,), (2, 3)))),
        ("partition leader", Fault(name="partition", groups=(("leader",),))),
        ("partition 1/2 3", Fault(name="partition", groups=((1,), (2, 3)))),
        ("isolate leader", Fault(name="isolate", places=("leader",))),
        ("cut 1-2", Fault(name="cut", places=((1, 2),))),
        ("cut 1-2 --one-way", Fault(name="cut", places=((1, 2),), one_way=True)),
        ("cut leader-follower", Fault(name="cut", places=(("leader", "follower"),))),
        ("slow 2 --delay 200ms --jitter 50ms", Fault(name="slow", places=(2,), delay=0.2, jitter=0.05)),
        ("slow --delay=1.5s 1-3", Fault(name="slow", places=((1, 3),), delay=1.5)),
        ("heal", Fault(name="heal")),
        ("heal 1 2-3", Fault(name="heal", places=(1, (2, 3)))),
        ("transfer 2", Fault(name="transfer", places=(2,))),
        ("campaign", Fault(name="campaign")),
        ("scenario", Play(None, "play")),
        ("scenario late-follower", Play("late-follower", "play")),
        ("scenario late-follower --wait", Play("late-follower", "wait")),
        ("scenario --show late-follower", Play("late-follower", "show")),
        ("scenario --stop", Play(None, "stop")),
    ],
)
def test_a_line_is_understood(line: str, expected: object) -> None:
    asked = parse(line)
    assert asked is not None
    assert asked.subcommand.name == line.split(maxsplit=1)[0]
    assert asked.arguments == expected


@pytest.mark.parametrize("line", ["", "  ", "help", "--help", "-h", "kill --help", "run -h"])
def test_a_line_that_asks_for_help_gets_what_the_magic_alone_shows(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("order", Run("order", "", None, None)),
        ('order {"item": "A1"}', Run("order", '{"item": "A1"}', None, None)),
        ("order --version 2 --id a-1 x + 1", Run("order", "x + 1", 2, "a-1")),
        ("order x + 1 --id a-1 --version 2", Run("order", "x + 1", 2, "a-1")),
        ("order --version 2 x --id=a-1", Run("order", "x", 2, "a-1")),
        ("order --id a-1", Run("order", "", None, "a-1")),
        ("order x --y", Run("order", "x --y", None, None)),
        ("order -x", Run("order", "-x", None, None)),
        ('order "say --id 3"', Run("order", '"say --id 3"', None, None)),
        ('order {"a": "$HOME {x} # no"}  ', Run("order", '{"a": "$HOME {x} # no"}', None, None)),
        ("order (1,   2)", Run("order", "(1,   2)", None, None)),
    ],
)
def test_run_takes_flags_first_or_last_and_leaves_the_expression_as_typed(rest: str, expected: Run) -> None:
    asked = parse(f"run {rest}")
    assert asked is not None
    assert asked.arguments == expected


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("strat", "Did you mean 'start'?"),
        ("start 3", "Usage: %raftoral start [--nodes N]"),
        ("start --nodes many", "--nodes: expected a whole number from 1, not 'many'"),
        ("start --nodes 0", "from 1"),
        ("start --log-level loud", "invalid choice"),
        ("start --data-dir lab --durability tape", "invalid choice"),
        ("start --durability disk", "needs a --data-dir"),
        ("run", "run needs the name of a workflow"),
        ("run order --version x", "--version: expected a whole number"),
        ("run order --id", "--id needs a value"),
        ("run order --verson 2", "Did you mean '--version'?"),
        ("run order --id a --id b", "--id is given twice"),
        ("kill", "Usage: %raftoral kill NODE|leader"),
        ("kill two", "not 'two'"),
        ("restart leader", "restart takes a node's number or 'dead'"),
        (
            "partition",
            "no node in it.\nUsage: %raftoral partition NODE ... [/ NODE ...]. Example: %raftoral partition 1 / 2 3",
        ),
        ("partition 1 / / 2", "no node in it"),
        ("isolate", "isolate takes one argument, not 0.\nUsage: %raftoral isolate NODE"),
        ("isolate boss", "'boss' is not a node: a node is a number or one of leader, follower"),
        ("cut 1 2", "cut takes one argument, not 2"),
        ("cut 12", "'12' is not a link: a link is two nodes with a - between them"),
        ("cut 1-1", "1-1 is not a link"),
        ("cut 1-2 --both", "cut has no flag --both.\nUsage: %raftoral cut A-B [--one-way]"),
        ("slow 2", "slow needs --delay"),
        ("slow 2 --delay", "--delay needs a value"),
        ("slow 2 --delay 200", "'200' is not a time: write it with its unit, as in 200ms or 1.5s"),
        ("slow 2 --delay 0ms", "more than 0"),
        ("slow 2 --delay 2s --delay 1s", "--delay is given twice"),
        ("slow 2 --delay 1s --jitter 2s", "no larger than the delay"),
        ("slow 2 --delay 61s", "at most 60s"),
        ("scenario a b", "unrecognized arguments: b"),
        ("scenario late --stop", "--stop ends the one that is played"),
        ("scenario --show", "--show needs the name of a scenario"),
        ("log 'open", "no closing quotation"),
        ("stop now", "unrecognized arguments: now"),
    ],
)
def test_what_is_not_understood_is_answered_with_how_to_write_it(line: str, says: str) -> None:
    with pytest.raises(MagicError) as raised:
        parse(line)
    assert says in str(raised.value)


def test_the_workflow_line_has_a_name_and_a_version_both_optional() -> None:
    assert parse_workflow_line("") == WorkflowCell(None, None)
    assert parse_workflow_line("order --version 3") == WorkflowCell("order", 3)
    assert parse_workflow_line("--strict") == WorkflowCell(None, None, strict=True)
    with pytest.raises(MagicError, match="Usage: %%workflow"):
        parse_workflow_line("one two")


def test_every_subcommand_has_usage_flags_and_an_example_in_the_help() -> None:
    for name, one in TABLE.items():
        assert f"%raftoral {name}" in RAFTORAL_HELP or f"%raftoral {name} " in RAFTORAL_HELP
        assert one.usage in short_help_text()
        assert all(flag in one.usage for flag in one.flags)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("start --detach --data-dir lab", "add --processes"),
        ("start --detach --processes", "--detach needs a --data-dir"),
        ("attach", "NAME"),
        ("signal", "signal needs a run and a name"),
        ("signal order-1", "signal needs a run and a name"),
        ("update order-1 'open", "update needs a run and a name"),
        ("cancel", "RUN"),
        ("runs --status gone", "--status"),
        ("runs --since yesterday", "such as 30s, 5m, 2h or 1d, not 'yesterday'"),
        ("resume leader", "resume takes a node's number"),
    ],
)
def test_what_is_asked_of_runs_says_what_is_missing(line: str, said: str) -> None:
    with pytest.raises(MagicError, match=said):
        parse(line)

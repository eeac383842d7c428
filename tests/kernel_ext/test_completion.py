"""What Tab offers."""

from __future__ import annotations

import pytest

from kernel_ext.magics.completion import offers
from kernel_ext.magics.known import Known
from kernel_ext.magics.table import TABLE
from kernel_ext.magics.workflow_line import workflow_offers
from tests.kernel_ext.conftest import Complete, Notebook

KNOWN = Known(
    nodes=(1, 2, 3),
    workflows=("order",),
    run_ids=("order-1", "order-2"),
    functions=("order", "other"),
    scenarios=("late-follower", "mine"),
    clusters=("lab",),
)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("kill ", ["1", "2", "3", "leader", "follower"]),
        ("restart ", ["1", "2", "3", "dead"]),
        ("partition ", ["1", "2", "3", "leader", "follower"]),
        ("partition 1 ", ["2", "3", "leader", "follower", "/"]),
        ("partition 1 / ", ["2", "3", "leader", "follower"]),
        ("isolate 1 ", []),
        ("cut ", ["1-2", "1-3", "2-3", "--one-way"]),
        ("cut 1-2 ", ["--one-way"]),
        ("slow ", ["1", "2", "3", "leader", "follower", "1-2", "1-3", "2-3", "--delay", "--jitter"]),
        ("slow 1 --delay ", ["50ms", "200ms", "1s"]),
        ("slow 1 --delay 200ms ", ["--jitter"]),
        ("heal 1-2 ", ["1", "2", "3", "1-3", "2-3"]),
        ("transfer ", ["1", "2", "3", "follower"]),
        ("campaign 1 ", ["2", "3", "follower"]),
        ("scenario ", ["late-follower", "mine", "--wait", "--show", "--stop"]),
        ("scenario mine ", ["--wait", "--show", "--stop"]),
        ("kill 1 ", []),
        ("run ", ["order"]),
        ("run order ", None),
        ("run order --", ["--version", "--id"]),
        ("run order --id ", []),
        ("register ", ["order", "other"]),
        ("register order ", ["--version", "--strict"]),
        ("move ", ["order-1", "order-2"]),
        ("move order-1 ", []),
        ("check ", ["order", "other"]),
        ("check order ", None),
        ("log ", ["order-1", "order-2", "--node", "--last", "--times"]),
        ("log order-1 ", ["--node", "--last", "--times"]),
        ("log --node ", ["1", "2", "3"]),
        ("log --node 1 --", ["--last", "--times"]),
        ("signal ", ["order-1", "order-2"]),
        ("signal order-1 ", []),
        ("signal order-1 approve ", None),
        ("cancel ", ["order-1", "order-2"]),
        ("cancel order-1 ", []),
        ("history ", ["order-1", "order-2", "--times"]),
        ("pause ", ["1", "2", "3", "leader", "follower", "order-1", "order-2"]),
        ("runs ", ["--status", "--workflow", "--since"]),
        ("runs --status ", ["running", "paused", "completed", "failed", "cancelled", "terminated"]),
        ("runs --workflow ", ["order"]),
        ("runs --since ", ["5m", "1h", "1d"]),
        ("events ", ["--last", "--times"]),
        ("start --log-level ", ["debug", "info", "warning", "error"]),
        ("start --nodes ", []),
        ("attach ", ["lab"]),
        ("attach lab ", []),
        ("stop ", []),
    ],
)
def test_offers_fit_what_stands_before(rest: str, expected: list[str] | None) -> None:
    assert offers(rest, KNOWN) == expected


def test_the_first_word_is_a_subcommand() -> None:
    assert offers("", KNOWN) == offers("st", KNOWN) == list(TABLE)


def test_a_workflow_cell_offers_names_and_its_flag() -> None:
    assert workflow_offers("", KNOWN) == ["order", "--version", "--strict"]
    assert workflow_offers("order ", KNOWN) == ["--version", "--strict"]
    assert workflow_offers("order --version 2 ", KNOWN) == ["--strict"]
    assert workflow_offers("order --version ", KNOWN) == []


def test_the_shell_offers_subcommands_and_nothing_else(complete: Complete) -> None:
    assert complete("%raftoral st") == ["%raftoral start", "%raftoral status", "%raftoral stop"]
    assert complete("run = %raftoral sto") == ["run = %raftoral stop"]


def test_the_shell_completes_flags_nodes_and_run_ids(with_order: Notebook, complete: Complete) -> None:
    with_order.ok("run = %raftoral run order 1 --id first-run")
    assert complete("%raftoral start --no") == ["%raftoral start --nodes"]
    assert complete("%raftoral start --log-l") == ["%raftoral start --log-level"]
    assert complete("%raftoral kill l") == ["%raftoral kill leader"]
    assert complete("%raftoral kill ") == [f"%raftoral kill {name}" for name in ("1", "2", "3", "follower", "leader")]
    assert complete("%raftoral log first-r") == ["%raftoral log first-run"]
    assert complete("%raftoral run o") == ["%raftoral run order"]
    assert complete("%%workflow o") == ["%%workflow order"]


def test_behind_the_workflows_name_python_is_completed(with_order: Notebook, complete: Complete) -> None:
    with_order.ok("an_item_of_mine = 1")
    assert complete("%raftoral run order an_item_of") == ["%raftoral run order an_item_of_mine"]
    assert complete('%raftoral run order {"item": an_item_of') == ['%raftoral run order {"item": an_item_of_mine']
    assert complete("%raftoral run order an_item_of_mine.bit_c") == ["%raftoral run order an_item_of_mine.bit_count"]


def test_python_that_only_looks_alike_is_left_alone(complete: Complete) -> None:
    assert not any("status" in one for one in complete("raftoral st"))

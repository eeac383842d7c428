"""The comment at the end of a magic's line."""

from __future__ import annotations

import sys

import pytest

from kernel_ext.magics.comments import without_comment
from kernel_ext.magics.durable_line import given_name
from kernel_ext.magics.workflow_line import WorkflowCell, parse_workflow_line
from tests.kernel_ext.conftest import Notebook


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("kill 2  # the leader", "kill 2"),
        ("kill 2\t#", "kill 2"),
        ("# nothing else", ""),
        ("kill 2  # it's dead", "kill 2"),
        ("kill 2 # a # b", "kill 2"),
        ("partition 1 / 2 3  # a minority", "partition 1 / 2 3"),
        ('run order {"item": "A # 1"} --id a-1  # with an id', 'run order {"item": "A # 1"} --id a-1'),
        ("signal order note '''a # b'''  # two", "signal order note '''a # b'''"),
        ('signal order note f"{1} # b" # three', 'signal order note f"{1} # b"'),
        ('signal order note "a \\" # b" # four', 'signal order note "a \\" # b"'),
        # Python refuses these before it is at the comment, as from 3.12 on.
        ("runs --since 5m  # of late", "runs --since 5m"),
        ("log run-007 --last 3 # 'quoted'", "log run-007 --last 3"),
        ("cancel run-007 'no # 3'  # so", "cancel run-007 'no # 3'"),
    ],
)
def test_a_comment_at_the_end_of_a_line_is_left_out(line: str, left: str) -> None:
    assert without_comment(line) == left


@pytest.mark.parametrize(
    "line",
    [
        "kill 2",
        'signal order note "a # b"',
        "signal order note 'a # b'",
        'signal order note "a # b" + """ # """',
        "start --data-dir 'my # lab'",
        "cancel order-1 see #5",
        "cancel order-1 C# it is",
        "runs --workflow a#b",
        "cancel run-007 'no # 3'",
        'run order {"a": 1,  # the first\n "b": 2}',
        pytest.param(
            'run order f"{x["a # b"]}"',
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="such quotes are of Python 3.12"),
        ),
    ],
)
def test_what_is_quoted_or_does_not_stand_by_itself_is_no_comment(line: str) -> None:
    assert without_comment(line) == line


def test_the_lines_of_cell_magics_may_end_with_one_too() -> None:
    assert parse_workflow_line("order --version 2  # with a price") == WorkflowCell("order", 2)
    assert given_name(" features  # an hour") == "features"
    assert given_name("  # an hour") is None


def test_magics_in_a_cell_take_a_comment_and_keep_what_is_quoted(with_order: Notebook) -> None:
    shell = with_order.shell
    with_order.ok('run = %raftoral run order {"item": "a # b"} --id a-1  # a run of its own')
    assert shell.user_ns["run"].run_id == "a-1"
    assert with_order.ok("%raftoral status;  # as it is").bundles == []
    assert with_order.ok("%raftoral kill 2  # a follower; or the leader?").text == "node 2 killed"
    assert "no run" in with_order.fails('%raftoral signal nobody "a # b" "c # d"  # refused')

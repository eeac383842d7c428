"""The text and HTML forms, held word for word: nbval compares them in every notebook."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec import structs

from kernel_ext.magics.help import GROUPS, short_help
from kernel_ext.magics.table import TABLE
from kernel_ext.shown import display, html, tables, text, waiting
from kernel_ext.shown.events import event_words
from raftoral_nb import LogEntry
from raftoral_nb.core.cluster_events import (
    CampaignAsked,
    ClusterRecovered,
    EffectStarted,
    ExecutionStopped,
    LinkDelay,
    MessageTaken,
    NetworkChanged,
    NodeBlocked,
    NodeChanged,
    OutputLine,
    RecoveryProgress,
    RoleChanged,
    RunHeld,
    ScenarioChanged,
    SnapshotInstalled,
    StepProgress,
    StepRetrying,
    StorageFailed,
    TransferAsked,
    UnauthenticatedConnectionsRefused,
    ValueHeld,
)
from raftoral_nb.core.events import (
    BlobsDropped,
    CacheCleared,
    CancelRequested,
    CheckpointSet,
    ClusterEvent,
    CommandRefused,
    EpochChanged,
    MembersChanged,
    MessageSent,
    NodeOffered,
    NodeWithdrawn,
    NumberReserved,
    RetentionSet,
    RunAssigned,
    RunDeleted,
    RunEvicted,
    RunMoved,
    RunPaused,
    RunResumed,
    StepBound,
    StepStateSaved,
    TimerFired,
    ValueLimitSet,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowDropped,
    WorkflowFailed,
    WorkflowRegistered,
    WorkflowStarted,
    WorkflowTerminated,
)
from raftoral_nb.core.records import Difference, Failure, Message, Step, StepSource, TimersFired
from raftoral_nb.core.statistics import BranchWait, StepActivity
from tests.kernel_ext.samples import busy_cluster, cluster, execution, node, quiet_cluster, run

QUIET = """\
cluster cluster-1: running, 3 nodes; node 2 leads, term 3, epoch 3

node  role      state    term  epoch  commit  applied  behind  effects run
   1  follower  running     3      3      42       42       0            0
   2  leader    running     3      3      42       42       0           12
   3  follower  running     3      3      42       42       0            0

no workflows registered
commands 40, entries 38, checkpoints 31, effects run 33, leader changes 1, refused frames 0"""

BUSY = """\
cluster cluster-1: running, 5 nodes; node 2 leads, term 3, epoch 3

node  role       state                      term  epoch  commit  applied  behind  effects run
   1  follower   held                          3      3      42       42       0            0
   2  leader     running                       3      3      42       42       0           12
   3  follower   paused                        3      3      42       37       5            0
   4  dead       -                             2      0       0        0       0            0
   5  candidate  blocked at In[4]:7 in fit     3      3      42       42       0            0

run      workflow  version  status                                         steps  node 1         node 2  node 3          node 4  node 5
order-1  order           1  completed                                          6  6              6       6               -       3 (diverged)
bad-1    order           1  failed: ValueError: the card <1234> was refused      1  -              1       1               -       1
order-2  order           1  running                                           12  2 (10 in queue)  12      9 (3 in queue)  -       12
sweep-1  sweep           1  running                                          150  60 (90 in queue)  150     149 (1 in queue)  -       150

workflows: order (versions 1, 2), sweep (version 1)
commands 40, entries 38, checkpoints 31, effects run 33, leader changes 1, refused frames 0"""


def squeezed(lines: str) -> list[list[str]]:
    """The words of each line: for tables whose widths are tested elsewhere."""
    return [line.split() for line in lines.splitlines()]


def test_two_entries_of_one_index_are_two_rows_and_a_snapshot_is_no_gap() -> None:
    def entry(index: int, term: int, *commands: str, committed: bool = True) -> LogEntry:
        return LogEntry(index=index, term=term, committed=committed, commands=commands)

    logs = {
        1: (entry(7, 1), entry(8, 1, "a: step 0/x", committed=False)),
        2: (entry(8, 2, "takeover by node 2", "start <b>"),),
    }
    shown = display.entries(logs, {2: 7})
    assert (
        shown.plain
        == """\
index  term  entry                          node 1      node 2
    7     1  (empty)                        committed   in its snapshot
    8     1  a: step 0/x                    in its log  -
    8     2  takeover by node 2, start <b>  -           committed"""
    )
    assert "start &lt;b&gt;" in shown.html


def test_a_quiet_cluster_as_text() -> None:
    assert text.cluster_text(quiet_cluster()) == QUIET


def test_a_busy_cluster_as_text() -> None:
    assert squeezed(text.cluster_text(busy_cluster())) == squeezed(BUSY)


def test_columns_are_aligned() -> None:
    table = text.cluster_text(busy_cluster()).split("\n\n")[2].splitlines()
    assert len({line.index(word) for line, word in zip(table[1:3], ("completed", "failed"), strict=True)}) == 1


def test_a_cluster_without_a_leader_and_a_stopped_one_say_so() -> None:
    assert text.cluster_text(cluster([node(1), node(2, "dead")])).startswith(
        "cluster cluster-1: running, 2 nodes; no leader"
    )
    assert text.cluster_text(cluster([node(1, "dead")], running=False)).startswith("cluster cluster-1: stopped")


class Structure(HTMLParser):
    """Checks that tags are closed in order, and collects the text and the tags."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def test_the_html_says_what_the_text_says() -> None:
    statistics = busy_cluster()
    shown = Structure(html.cluster_html(statistics))
    for word in text.cluster_text(statistics).split():
        assert word in shown.words or word.rstrip(",;:") in " ".join(shown.words)
    assert shown.tags <= {"div", "p", "b", "br", "table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_names_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>"
    statistics = cluster(
        [node(1, "leader", blocked=evil)], [run(evil, evil, 1, "failed", evil)], name=evil, workflows={evil: (1,)}
    )
    assert "<script" not in html.cluster_html(statistics)
    assert "<script" not in display.notice(evil).html
    assert "<script" not in display.page(evil).html


def test_all_forms_go_out_together() -> None:
    shown: Any = display.Shown("plain", "<p>rich</p>", "0123")
    assert shown._repr_mimebundle_() == {
        "text/plain": "plain",
        "text/html": "<p>rich</p>",
        display.WIDGET_VIEW: {"version_major": 2, "version_minor": 0, "model_id": "0123"},
    }
    assert repr(shown) == "plain"
    with pytest.raises(AttributeError):
        shown.plain = "other"


STEP = Step("0/charge", "compute", b"", None, 2, 3)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (EpochChanged(2, 3), "node 2 took over in term 3: it may act now"),
        (WorkflowRegistered("order", 1, replaced=True), "workflow order, version 1, was replaced"),
        (WorkflowStarted("r", "order", 1), "run r of order, version 1, started"),
        (CheckpointSet("r", STEP), "run r: step 0/charge was recorded by node 2"),
        (
            CheckpointSet("r", structs.replace(STEP, cached_from=StepSource("r7", "0/fit"))),
            "run r: step 0/charge was recorded by node 2, cached from run r7, step 0/fit",
        ),
        (CacheCleared(None, 2), "the cache of steps was cleared: 2 results"),
        (CacheCleared("fit", 1), "the cache of steps was cleared: 1 result of fit"),
        (StepStateSaved("r", "0/fit", 3, 1200), "run r: step 0/fit saved its state, number 3 (1,200 bytes)"),
        (WorkflowCompleted("r", b""), "run r completed"),
        (WorkflowFailed("r", Failure("ValueError", "no")), "run r failed with ValueError: no"),
        (RunMoved("r", 2, 1), "run r was moved to version 2, with 1 record"),
        (
            WorkflowDropped("order", 1),
            "workflow order, version 1, was dropped: it is old and not in use",
        ),
        (WorkflowCancelled("r", Failure("C", "why")), "run r was cancelled: why"),
        (WorkflowTerminated("r", Failure("T", "")), "run r was terminated"),
        (WorkflowContinued("r", 2, b""), "run r began anew, as generation 2"),
        (MessageSent("r", Message("s", "signal", "approve", b"")), "run r was sent the signal approve"),
        (TimerFired("r", TimersFired(3.0, 4.0, 1, 1)), "run r: timers fired that were due"),
        (CancelRequested("r", "why"), "run r was asked to end: why"),
        (RunPaused("r"), "run r was paused"),
        (RunResumed("r"), "run r was resumed"),
        (RunEvicted("r"), "run r was evicted: its records were dropped, by keep_runs"),
        (RunDeleted("r"), "run r was deleted: its records were dropped"),
        (NodeOffered(2, True, ("gpu", "big"), "t"), "node 2 offers to do runs and steps for gpu and steps for big"),
        (NodeWithdrawn(2), "node 2 does no steps any more: what it owned goes to others"),
        (RunAssigned("r", 2, -3, "t"), "run r is owned by node 2"),
        (RunAssigned("r", 0, -3, ""), "run r has no owner: the leader does its steps"),
        (StepBound("r", "0/fit", "gpu", 3, -4, "t"), "run r: step 0/fit is bound to node 3, with label gpu"),
        (StepBound("r", "0/fit", "gpu", 0, -4, ""), "run r: step 0/fit waits for a node, with label gpu"),
        (BlobsDropped(("d1", "d2")), "no run refers to 2 blobs any more"),
        (ValueLimitSet(3_000_000_000), "values of up to max_value_bytes='3.0 GB' are kept"),
        (ValueHeld(1, "r", "a value takes too much"), "run r is held: a value takes too much"),
        (RetentionSet(10, 500_000_000), "finished runs are kept up to keep_runs=10, keep_bytes='500 MB'"),
        (CommandRefused("old_epoch", "too late"), "a command was refused (old_epoch): too late"),
        (NodeChanged(1, "killed"), "node 1 was killed"),
        (
            NetworkChanged("partitioned", ((1, 2), (1, 3)), groups=((1,), (2, 3))),
            "the network was partitioned: 1 / 2 3",
        ),
        (
            NetworkChanged("slowed", ((1, 2), (2, 3)), node=2, delay=LinkDelay(12.0)),
            "links 1-2, 2-3 slowed: 12 s each way",
        ),
        (TransferAsked(1, 3), "node 1 was asked to hand leadership to node 3"),
        (CampaignAsked((1, 2)), "nodes 1, 2 were told to campaign"),
        (ScenarioChanged("mine", "acted", "kill 1"), "scenario mine did: kill 1"),
        (ScenarioChanged("mine", "completed"), "scenario mine is over"),
        (RoleChanged(1, "candidate", 4), "node 1 became candidate in term 4"),
        (MembersChanged((1, 2, 4)), "the members are now the nodes 1, 2, 4"),
        (NumberReserved(4), "number 4 is reserved for a node that is to join"),
        (
            ClusterRecovered(3, 1, 20, 2, 0.4),
            "recovered 3 runs (1 unfinished) with 20 recorded steps and 2 workflows in 0.4 s",
        ),
        (
            SnapshotInstalled(3, 512),
            "node 3 was too far behind for the log and took over the state as of entry 512",
        ),
        (StorageFailed(2, "no space left"), "node 2 stepped aside, as its disk failed: no space left"),
        (
            RecoveryProgress(0.42, "reading and checking the log of node 2"),
            "recovering from the data directory, 42%: reading and checking the log of node 2",
        ),
        (
            UnauthenticatedConnectionsRefused(2, 1, "from an unauthenticated peer: no hello"),
            "node 2 refused a connection from an unauthenticated peer: no hello",
        ),
        (
            UnauthenticatedConnectionsRefused(3, 40, "from node 1: frame 7 is not authentic"),
            "40 connections were refused, the last by node 3 from node 1: frame 7 is not authentic",
        ),
        (
            ClusterRecovered(2, 1, 30, 1, 0.25),
            "recovered 2 runs (1 unfinished) with 30 recorded steps and 1 workflow in 0.2 s",
        ),
        (EffectStarted(1, "r", "0/charge"), "run r: node 1 began to run step 0/charge"),
        (MessageTaken(1, "r", "m-1"), "run r: node 1 took the message m-1"),
        (
            StepRetrying(1, "r", "0/charge", 2, "OSError: down", 0.25),
            "run r: attempt 2 at step 0/charge failed with OSError: down; node 1 tries again in 0.2 s",
        ),
        (StepProgress(1, "r", "0/fit", 0.4, "epoch 4"), "run r: step 0/fit is at 40%: epoch 4"),
        (StepProgress(1, "r", "0/fit", 1.0, ""), "run r: step 0/fit is at 100%"),
        (
            NodeBlocked(1, "r", "In[2]:3 in fit"),
            "run r blocks the thread of node 1 at In[2]:3 in fit; ctx.compute would run that beside it",
        ),
        (
            RunHeld("r", Difference("other step")),
            "run r is held, because its code does not match its record on any node: other step",
        ),
        (
            ExecutionStopped(1, "r", "diverged", "other step"),
            "run r: node 1 stopped executing it (diverged): other step",
        ),
    ],
)
def test_every_event_has_its_sentence(event: ClusterEvent, words: str) -> None:
    assert event_words(event) == words


def test_every_kind_of_event_is_covered() -> None:
    covered = {type(parameter[0]) for parameter in test_every_event_has_its_sentence.pytestmark[0].args[1]}  # type: ignore[attr-defined]
    assert covered == set(ClusterEvent.__args__)


def test_what_branches_wait_for_is_a_table_with_the_time_left_and_what_failed() -> None:
    waits = (
        BranchWait(branch="", name="", kind="tasks", what=""),
        BranchWait(branch="t1.", name="poller", kind="time", what="", until=1090.0),
        BranchWait(branch="t2.", name="", kind="signal", what="'yes' or 'no'", until=1003.5),
        BranchWait(branch="t3.", name="", kind="step", what="t3.0/fetch", operation="compute"),
        BranchWait(branch="c1.", name="", kind="other", what="Lock.acquire"),
    )
    tried = StepActivity(
        step_id="t3.0/fetch", attempt=2, fraction=None, text="", failure="OSError: away", again_at=1002.0
    )
    waiting_run = structs.replace(execution(3), waits=waits, more_waits=2, activities=(tried,))
    behind = structs.replace(execution(1), waits=waits[:1])
    nodes = [node(1, "leader", runs={"a": waiting_run}), node(2, runs={"a": behind})]
    table = waiting.waits_table(cluster(nodes, [run("a", "order", 3)]), 1000.0)
    assert [row[1:] for row in table.rows] == [
        ("workflow", "its branches"),
        ("t1 poller", "a time, 1 min 30 s left"),
        ("t2", "signal 'yes' or 'no', times out in 4 s"),
        ("t3", "step t3.0/fetch, attempt 2 failed with OSError: away, again in 2 s"),
        ("c1", "Lock.acquire"),
        ("...", "and 2 more"),
    ]
    assert "run a: node 1 tries step t3.0/fetch again: attempt 2 failed with OSError: away" in tables.notes(
        cluster(nodes, [run("a", "order", 3)])
    )


def test_a_run_that_nothing_can_wake_is_said_to_be_so_unless_records_are_on_their_way_to_it() -> None:
    stuck = structs.replace(execution(3), stuck=True)

    def said(records: int) -> bool:
        found = cluster([node(1, "leader", runs={"a": stuck})], [run("a", "order", records)])
        return any("nothing can wake it" in note for note in tables.notes(found))

    assert said(3)
    assert not said(4)


def line(node_: int, words: str, time: float, stream: Any = "stdout") -> OutputLine:
    return OutputLine(time, node_, "r", stream, words)


def test_output_is_the_same_text_whichever_node_was_first() -> None:
    first, second = [line(1, "a", 1.0), line(1, "b", 3.0)], [line(2, "a", 2.0), line(2, "b", 4.0, "log")]
    expected = "r, node 1\n  a\n  b\nr, node 2\n  a\n  [log] b"
    assert text.log_text([*first, *second]) == text.log_text([*second, *first]) == expected


def test_what_fits_into_no_table_is_said_below_in_both_forms() -> None:
    fitting = structs.replace(
        execution(3),
        activities=(
            StepActivity(step_id="3/fit", attempt=2, fraction=0.4, text="epoch <4>"),
            StepActivity(step_id="4/send", attempt=1, fraction=None, text=""),
        ),
    )
    stopped = structs.replace(execution(1, status="diverged"), problem="it asked for 1/b")
    nodes = [
        node(1, "leader", runs={"a/2": fitting}),
        node(2, runs={"a/2": stopped}, problem="not a NodeChanged"),
        node(3, "dead", storage_error="no space left", runs={"a/2": stopped}),
    ]
    child = structs.replace(run("a/2", "order", 3), parent="a", waiting=1)
    busy = cluster(nodes, [run("a", "order", 1), child])
    said = [
        "node 2 is not followed from here: not a NodeChanged",
        "node 3: its disk accepts no writes: no space left",
        "run a/2 is a child of run a",
        "run a/2: 1 message not received yet",
        "run a/2: node 1 runs step 3/fit, attempt 2, 40%: epoch <4>",
        "run a/2: node 1 runs step 4/send",
        "run a/2: node 2 diverged: it asked for 1/b",
    ]
    assert "\n".join(said) in text.cluster_text(busy)
    assert "<br>".join(map(escape, said)) in html.cluster_html(busy)


def test_what_there_is_is_listed_in_groups_each_subcommand_once_as_text_and_as_a_table() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(TABLE)
    said = short_help()
    for group, names in GROUPS.items():
        assert f"\n{group}\n" in said.plain
        assert f">{group}</th>" in said.html
        for name in names:
            assert re.search(rf"^  {name}\b", said.plain, re.MULTILINE)
            assert f">%raftoral {name}</code>" in said.html
            assert escape(TABLE[name].does) in said.html
    columns = {
        said.plain.splitlines()[-1].index("a sequence"),
        said.plain.index("stop it") - said.plain.index("  stop  "),
    }
    assert len(columns) == 1, "what they do begins in one column, also below a long usage"

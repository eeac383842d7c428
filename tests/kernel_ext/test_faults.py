"""The magics that break the network, and those that play scenarios, in a real shell with a real cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kernel_ext.shown import tables
from kernel_ext.shown.words import link_state
from kernel_ext.widgets import snapshot
from raftoral_nb import LinkDelay, LinkStatistics, current_cluster
from tests.kernel_ext.conftest import Complete, Notebook
from tests.kernel_ext.samples import cluster, look, node


def links(notebook: Notebook) -> list[str]:
    """The state of each node, as the status says it."""
    table = notebook.ok("%raftoral status").text.split("\n\n")[1].splitlines()
    start, end = table[0].index("state"), table[0].index("term")
    return [line[start:end].strip() for line in table[1:]]


def test_a_partition_is_made_shown_and_healed(started: Notebook) -> None:
    ran = started.ok("%raftoral partition 1 / 2 3")
    assert ran.text == "partitioned: 1 / 2 3"
    assert ran.bundles[-1]["text/html"] == "<p>partitioned: 1 / 2 3</p>"
    assert links(started) == ["isolated", "cut from 1", "cut from 1"]
    assert "cut from 1" in started.ok("%raftoral status").bundles[-1]["text/html"]
    assert started.ok("%raftoral partition 1 2").text == "partitioned: 1 2 / 3"
    assert started.ok("%raftoral heal 1-3").text == "link 1-3 healed"
    assert started.ok("%raftoral heal").text == "link 2-3 healed"
    assert started.ok("%raftoral heal").text == "nothing to heal: no link is cut or slow there"
    assert links(started) == ["running"] * 3


def test_links_are_cut_slowed_and_healed_in_words_that_name_them(started: Notebook) -> None:
    assert started.ok("%raftoral cut 2-1").text == "link 2-1 cut"
    assert started.ok("%raftoral cut 3-1 --one-way").text == (
        "link 3-1 cut one way: what node 3 says does not reach node 1"
    )
    assert started.ok("%raftoral slow 2-3 --delay 20ms --jitter 5ms").text == ("link 2-3 slowed: 20 ms ± 5 ms each way")
    assert links(started) == ["cut from 2, cannot hear 3", "cut from 1, slow to 3", "cannot reach 1, slow to 2"]
    assert started.ok("%raftoral slow 1 --delay 10ms").text == "links of node 1 slowed: 10 ms each way"
    assert started.ok("%raftoral heal").text == "links 1-2, 1-3, 2-3 healed"
    assert started.ok("%raftoral isolate 2").text == (
        "node 2 isolated: nothing passes to or from it until it is healed"
    )
    events = started.ok("%raftoral events --last 100").text.splitlines()
    for line in (
        "link 1-2 cut",
        "link 3-1 was cut one way: nothing passes from node 3 to node 1",
        "link 2-3 slowed: 20 ms ± 5 ms each way",
        "links 1-2, 1-3 slowed: 10 ms each way",
        "links 1-2, 1-3, 2-3 healed",
        "node 2 was isolated: no message passes to or from it",
    ):
        assert line in events


def test_leadership_is_handed_over(started: Notebook) -> None:
    for number in (2, 3, 1):
        assert started.ok(f"%raftoral transfer {number}").text == f"node {number} leads"
        assert started.ok("cluster.leader").value == number
    assert "node 3 was asked to hand leadership to node 1" in started.ok("%raftoral events --last 100").text
    assert started.ok("%raftoral campaign 1").text == "told to campaign: node 1"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("cut 1-7", "there is no node 7: the nodes are 1, 2, 3"),
        ("partition 1 2 3", "two groups"),
        ("partition 1 2 / 2 3", "node 2 is in two groups"),
        ("restart dead", "no node is dead"),
        ("scenario earthquak", "there is no scenario 'earthquak'; there are: leader-dies"),
        ("scenario late-folower", "Did you mean 'late-follower'?"),
        ("scenario --stop", "no scenario is being played"),
    ],
)
def test_what_cannot_be_done_is_said_shortly(started: Notebook, line: str, says: str) -> None:
    said = started.fails(f"%raftoral {line}")
    assert says in said
    assert len(said.splitlines()) <= 2


def test_without_a_cluster_every_fault_says_how_to_get_one(notebook: Notebook) -> None:
    for line in ("partition 1", "isolate 1", "cut 1-2", "heal", "transfer 1", "campaign", "scenario split-vote"):
        assert "%raftoral start" in notebook.fails(f"%raftoral {line}")


def test_the_scenarios_are_listed_and_shown_as_the_lines_that_do_the_same(started: Notebook) -> None:
    started.ok("import raftoral_nb\nmine = raftoral_nb.Scenario('my-own', [(0, 'heal')])")
    listed = started.ok("%raftoral scenario").text.splitlines()
    assert listed[0].split() == ["scenario", "what", "it", "shows"]
    assert {line.split()[0] for line in listed[1:]} >= {"leader-dies", "split-vote", "late-follower", "mine"}
    shown = started.ok("%raftoral scenario split-vote --show").text
    assert shown.splitlines()[:3] == ["# when: leader", "%raftoral kill leader", "%raftoral campaign"]


def test_a_scenario_is_waited_for_with_its_lines(started: Notebook) -> None:
    ran = started.ok("%raftoral scenario rolling-restart --wait")
    assert [line for line in ran.stdout.splitlines() if line.startswith("%")] == [
        f"%raftoral {act} {number}" for number in (1, 2, 3) for act in ("kill", "restart")
    ]
    assert ran.text == "scenario rolling-restart: completed"


def test_the_notebooks_own_scenario_is_played_beside_it_and_stopped(started: Notebook) -> None:
    started.ok("import raftoral_nb\nmine = raftoral_nb.Scenario('my-own', [(0, 'cut 1-2'), ('run ended', 'heal')])")
    said = started.ok("%raftoral scenario mine").text
    assert "scenario my-own is played beside the notebook" in said
    assert "start one now" in said
    assert "is being played" in started.fails("%raftoral scenario my-own")
    assert "scenario my-own: stopped" in started.ok("%raftoral scenario --stop").text


def test_a_scenario_that_fails_fails_the_cell_that_waits_for_it(started: Notebook) -> None:
    started.ok("import raftoral_nb\nmine = raftoral_nb.Scenario('mine', [(0, 'resume 1')])")
    assert "step 1 (resume 1) failed: node 1 is not paused" in started.fails("%raftoral scenario mine --wait")


def test_tab_offers_links_and_scenarios(started: Notebook, complete: Complete) -> None:
    assert complete("%raftoral cut 1-") == ["%raftoral cut 1-2", "%raftoral cut 1-3"]
    assert complete("%raftoral scenario late") == ["%raftoral scenario late-follower"]
    assert complete("%raftoral slow 2 --d") == ["%raftoral slow 2 --delay"]


def link(*, cut: bool = False, cut_back: bool = False, delay: LinkDelay | None = None) -> LinkStatistics:
    return LinkStatistics(up=True, cut=cut, cut_back=cut_back, delay=delay)


WELL = link()
CUT = link(cut=True, cut_back=True)
SLOW = link(delay=LinkDelay(0.2, 0.05))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, ()),
        ({2: WELL, 3: WELL}, ()),
        ({2: CUT, 3: CUT}, ("isolated",)),
        ({2: CUT, 3: SLOW}, ("cut from 2", "slow to 3")),
        ({2: link(cut=True), 3: link(cut_back=True)}, ("cannot reach 2", "cannot hear 3")),
    ],
)
def test_the_state_of_a_nodes_links_is_said_in_words(found: dict[int, LinkStatistics], words: tuple[str, ...]) -> None:
    assert link_state(node(1, links=found)) == words
    assert tables.node_state(node(1, links=found)) == (", ".join(words) or "running")
    drawn = snapshot.snapshot(look(cluster([node(1, links=found), node(2, "leader")])), 1)
    assert drawn["nodes"][0]["links"] == list(words)


def test_a_dead_node_shows_the_faults_it_will_come_back_to() -> None:
    assert tables.node_state(node(1, "dead", links={2: CUT, 3: CUT})) == "-, isolated"


def test_a_picture_with_an_isolated_node_that_is_behind_is_at_rest() -> None:
    behind: dict[str, Any] = {"entries_behind": 5}
    assert snapshot.unsettled(cluster([node(1, **behind), node(2, "leader")]))
    assert not snapshot.unsettled(cluster([node(1, links={2: CUT}, **behind), node(2, "leader")]))


def test_nodes_join_and_leave(started: Notebook) -> None:
    assert started.ok("%raftoral add").text == "node 4 joined: the cluster has 4 nodes"
    assert links(started) == ["running"] * 4
    started.ok("%raftoral kill 2")
    assert (
        started.ok("%raftoral remove dead").text == "node 2 removed: it is no longer a member, and its log is deleted"
    )
    assert "there is no node 2: the nodes are 1, 3, 4" in started.fails("%raftoral kill 2")
    assert "add takes no argument" in started.fails("%raftoral add 7")
    assert "the members are now the nodes 1, 3, 4" in started.ok("%raftoral events --last 20").text


def test_a_stop_that_is_interrupted_has_stopped_and_a_new_cluster_can_be_started(
    started: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = started.shell.user_ns["cluster"]
    stop = cluster.stop

    def interrupted() -> None:
        stop()
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "stop", interrupted)
    started.run("%raftoral stop")
    assert current_cluster() is None
    assert started.ok("%raftoral stop").text == "no cluster is running"
    assert "running" in started.ok("%raftoral start --nodes 1").text


def test_a_cluster_that_could_have_no_key_file_says_so_where_it_is_started(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "raftoral").mkdir(mode=0o755)
    (tmp_path / "raftoral").chmod(0o755)
    text = notebook.ok("%raftoral start --nodes 1").text
    assert "raftoral-nb ps does not show this cluster" in text
    assert "open to others (mode 755)" in text

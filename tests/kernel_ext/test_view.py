"""The live view's Python side, without a browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import comm
import pytest
from msgspec import structs

from kernel_ext.magics import session as session_module
from kernel_ext.magics.page_lines import carry_out
from kernel_ext.widgets.coalescer import MAX_LOOKS, Coalescer
from kernel_ext.widgets.snapshot import MAX_RUNS_SHOWN, snapshot, unsettled
from kernel_ext.widgets.view import ClusterView
from raftoral_nb import Cluster, Retry, current_step, step
from raftoral_nb.core.events import ClusterEvent, EpochChanged
from raftoral_nb.core.records import CancelRecord, Failure, Message, MoveRecord, Step, TimersFired
from raftoral_nb.core.statistics import (
    MAX_QUEUE_TOLD,
    MAX_WAITS_TOLD,
    BranchWait,
    ClusterLook,
    ClusterStatistics,
    LinkStatistics,
    RecordMark,
    RecordTail,
    StepActivity,
)
from tests.kernel_ext.conftest import Notebook
from tests.kernel_ext.samples import busy_cluster, cluster, execution, links, look, node, quiet_cluster, run


class Page:
    """The other end of the widgets' comms: keeps every snapshot that arrives."""

    def __init__(self) -> None:
        self.snapshots: list[dict[str, Any]] = []
        self.closed = 0
        self.details: dict[str, Any] = {}
        self.answers: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def open(self, **opening: Any) -> Any:
        page = self

        class Comm(comm.base_comm.BaseComm):
            def publish_msg(
                self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
            ) -> None:
                page.take(msg_type, data or {})

        return Comm(**opening)

    def take(self, kind: str, data: dict[str, Any]) -> None:
        with self._changed:
            self.closed += kind == "comm_close"
            found = data.get("state", {}).get("snapshot")
            if found:
                self.snapshots.append(found)
            self.details = data.get("state", {}).get("details", self.details)
            if data.get("method") == "custom":
                self.answers.append(data["content"])
            self._changed.notify_all()

    def wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first latest snapshot for which it holds."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.snapshots and condition(self.snapshots[-1]), timeout=20)
            return self.snapshots[-1]

    def wait_details(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Until it holds for the details that came last."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.details), timeout=20)

    def answer(self, task: str) -> dict[str, Any]:
        """How that task ended."""

        def ended() -> list[dict[str, Any]]:
            return [one for one in self.answers if one["task"] == task and one["state"] != "taken"]

        with self._changed:
            assert self._changed.wait_for(ended, timeout=20)
            return ended()[0]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    made = Page()
    monkeypatch.setattr(comm, "create_comm", made.open)
    return made


@pytest.fixture
def live() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as started:
        yield started


class Still:
    """A cluster that only shows what it is given."""

    def __init__(self, statistics: ClusterStatistics) -> None:
        self.now = statistics
        self.name = statistics.name
        self.callbacks: list[Callable[[ClusterEvent], None]] = []

    @property
    def running(self) -> bool:
        return self.now.running

    def statistics(self) -> ClusterStatistics:
        return self.now

    def look(self, **_: int) -> ClusterLook:
        return look(self.now)

    def history(self) -> tuple[tuple[float, ClusterEvent], ...]:
        return ()

    def subscribe(self, callback: Callable[[ClusterEvent], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback) if callback in self.callbacks else None

    def tell(self, event: ClusterEvent) -> None:
        for callback in tuple(self.callbacks):
            callback(event)


def still(statistics: ClusterStatistics) -> Any:
    return Still(statistics)


# --- the coalescer


def test_pokes_at_once_are_painted_together_and_no_thread_is_left() -> None:
    painted = threading.Semaphore(0)
    hold = threading.Event()

    def paint() -> bool:
        painted.release()
        hold.wait(10)
        return False

    before = set(threading.enumerate())
    coalescer = Coalescer(paint, rate=1000)
    coalescer.poke()
    assert painted.acquire(timeout=10)
    for _ in range(500):
        coalescer.poke()
    hold.set()
    assert painted.acquire(timeout=10), "what was poked during a paint is painted after it"
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert not painted.acquire(blocking=False), "500 pokes were one paint"
    assert set(threading.enumerate()) <= before, "with nothing to paint there is no thread"
    coalescer.poke()
    assert painted.acquire(timeout=10), "and it starts again"
    coalescer.close()
    coalescer.poke()
    assert set(threading.enumerate()) <= before


def test_what_is_not_settled_is_looked_at_again_but_not_for_ever() -> None:
    paints = 0

    def paint() -> bool:
        nonlocal paints
        paints += 1
        return True

    before = set(threading.enumerate())
    coalescer = Coalescer(paint, rate=10_000)
    coalescer.poke()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert paints == MAX_LOOKS + 1
    coalescer.close()


def test_a_paint_that_raises_is_logged_and_does_not_end_the_painting(caplog: pytest.LogCaptureFixture) -> None:
    painted = threading.Semaphore(0)

    def paint() -> bool:
        painted.release()
        raise ValueError("no")

    coalescer = Coalescer(paint, rate=1000)
    coalescer.poke()
    assert painted.acquire(timeout=10)
    coalescer.poke()
    assert painted.acquire(timeout=10)
    coalescer.close()
    assert "could not be painted" in caplog.text


# --- snapshots


def test_a_snapshot_is_plain_json_with_a_lane_per_node() -> None:
    made = snapshot(look(busy_cluster()), 7)
    assert json.loads(json.dumps(made)) == made
    assert made["seq"] == 7
    lanes = {(one["run"], lane["node"]): lane for one in made["runs"] for lane in one["lanes"]}
    assert lanes["order-2", 1] == {
        "node": 1,
        "status": "running",
        "step": 2,
        "had": 2,
        "queue": 10,
        "next": [],
        "turn": None,
        "effects": 0,
        "problem": None,
        "doing": [],
        "more": 0,
    }
    assert lanes["order-2", 4]["status"] == "none"


def test_a_snapshot_tells_records_of_every_kind_and_what_branches_wait_for_on_the_node_that_acts() -> None:
    records: tuple[Any, ...] = (
        Step("0/a", "compute", b"", None, 2, 3),
        Message("m", "signal", "approve", b""),
        Message("n", "child", "order-1/1", None, Failure("E", "no")),
        TimersFired(1.0, 2.0, 2, 3),
        CancelRecord("late", 3.0),
        MoveRecord(4, 4.0),
    )
    waits = (
        BranchWait(branch="t1.", name="poller", kind="time", what="", until=1_700_000_009.25),
        BranchWait(branch="t2.", name="", kind="step", what="t2.0/fetch", operation="compute"),
    )
    tried = StepActivity(step_id="t2.0/fetch", attempt=2, fraction=None, text="", failure="E: no", again_at=5.0)
    turn = RecordMark("signal arrived", "approve")
    acting = structs.replace(execution(6), waits=waits, more_waits=3, activities=(tried,), turn=turn)
    behind = structs.replace(execution(2, 4), queue=(turn,), waits=waits[:1])
    one = structs.replace(run("r", "order", 1), records=6)
    found = cluster([node(1, runs={"r": behind}), node(2, "leader", runs={"r": acting})], [one])
    told = snapshot(look(found, records={"r": RecordTail(first=0, records=records)}), 1)["runs"][0]
    assert [(record["op"], record["id"], record.get("name"), record["failed"]) for record in told["tail"]] == [
        ("compute", "0/a", None, False),
        ("signal arrived", None, "approve", False),
        ("child ended", None, "order-1/1", True),
        ("timers fired", None, "", False),
        ("cancel requested", None, "late", False),
        ("moved", None, "version 4", False),
    ]
    assert (told["waits"]["node"], told["waits"]["had"], told["waits"]["more"]) == (2, 6, 3)
    sleeper, fetcher = told["waits"]["branches"]
    assert (sleeper["branch"], sleeper["name"], sleeper["kind"], sleeper["until"]) == (
        "t1",
        "poller",
        "time",
        1_700_000_009.25,
    )
    assert (fetcher["what"], fetcher["attempt"], fetcher["failure"], fetcher["again"]) == (
        "t2.0/fetch",
        2,
        "E: no",
        5.0,
    )
    assert [(lane["had"], lane["queue"], lane["next"], lane["turn"]) for lane in told["lanes"]] == [
        (2, 4, [{"op": "signal arrived", "name": "approve"}], None),
        (6, 0, [], {"op": "signal arrived", "name": "approve"}),
    ]
    done = snapshot(look(cluster(list(found.nodes.values()), [structs.replace(one, status="completed")])), 1)
    assert done["runs"][0]["waits"] is None


def test_a_stopped_cluster_has_no_leader() -> None:
    made = snapshot(look(quiet_cluster()), 1, stopped=True)
    assert (made["state"], made["leader"]) == ("stopped", None)


def test_runs_that_are_not_shown_are_counted() -> None:
    made = snapshot(look(quiet_cluster(), omitted={"completed": 28}), 1)
    assert {status: count for status, count in made["omitted"].items() if count} == {"completed": 28}


def test_links_tell_what_was_sent_each_way_and_runs_whose_children_they_are() -> None:
    there = LinkStatistics(up=True, cut=False, cut_back=False, delay=None, sent={"append": 3})
    back = LinkStatistics(up=True, cut=False, cut_back=False, delay=None, sent={"acknowledge": 2})
    child = structs.replace(run("order-1/2", "ship", 3), parent="order-1", waiting=4)
    made = snapshot(
        look(cluster([node(1, "leader", links={2: there}), node(2, links={1: back})], [child])),
        1,
        attempts={("order-1/2", "1/step_1"): 3},
    )
    assert [(one["out"], one["back"]) for one in made["links"]] == [({"append": 3}, {"acknowledge": 2})]
    told = made["runs"][0]
    assert (told["parent"], told["waiting"]) == ("order-1", 4)
    assert [step.get("attempts") for step in told["tail"]] == [None, 3, None]


def test_a_snapshot_is_no_larger_however_much_there_is() -> None:
    """All that a cluster can have many of: runs are chosen by `look`, and the rest is cut here."""

    def of(steps: int, activities: int) -> int:
        doing = tuple(
            StepActivity(step_id=f"{n}/fit", attempt=2, fraction=None, text="x" * 500, failure="y" * 900)
            for n in range(activities)
        )
        waits = tuple(
            BranchWait(branch=f"t{n}.", name="z" * 300, kind="step", what=f"{n}/fit") for n in range(MAX_WAITS_TOLD)
        )
        queue = (RecordMark("signal arrived", "q" * 256),) * MAX_QUEUE_TOLD
        lane = structs.replace(
            execution(steps, MAX_QUEUE_TOLD), activities=doing, waits=waits, queue=queue, turn=queue[0]
        )
        runs = {f"sweep-{number}": run(f"sweep-{number}", "sweep", steps) for number in range(MAX_RUNS_SHOWN)}
        nodes = [
            node(
                number, "leader" if number == 1 else "follower", links=links(number, 9), runs=dict.fromkeys(runs, lane)
            )
            for number in range(1, 10)
        ]
        return len(json.dumps(snapshot(look(cluster(nodes, list(runs.values()))), 1)))

    assert of(100_000, 1000) < 1.1 * of(1000, 20)
    assert of(100_000, 1000) < 512 * 1024, (
        "nine nodes, each with eight steps at once and as long a queue in twelve runs"
    )


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (False, {"runs": {"r": execution(5)}}),
        (True, {"runs": {"r": execution(2, 3)}}),
        (True, {"runs": {}}),
        (False, {"runs": {"r": execution(2, 3)}, "held": True}),
        (False, {"runs": {"r": execution(2, 3)}, "paused": True}),
        (False, {"runs": {"r": execution(2, 3, "diverged")}}),
        (True, {"runs": {"r": structs.replace(execution(5), in_turn=True)}}),
        (True, {"runs": {"r": execution(5)}, "entries_behind": 2}),
        (True, {"runs": {"r": execution(5)}, "blocked": "In[1]:2"}),
    ],
)
def test_only_what_changes_by_itself_is_unsettled(expected: bool, changes: dict[str, Any]) -> None:
    nodes = [node(1, "leader", runs={"r": execution(5)}), node(2, **changes)]
    assert unsettled(cluster(nodes, [run("r", "order", 5)])) is expected


# --- the widget


def test_the_view_follows_events_while_nothing_else_runs(page: Page, live: Cluster) -> None:
    view = ClusterView(live, partial(carry_out, live), refresh=100)
    first = page.wait(lambda one: one["leader"] is not None)
    killed = live.kill("leader")
    new = live.wait_for_leader()
    seen = page.wait(lambda one: one["leader"] == new)
    assert seen["seq"] > first["seq"]
    assert {one["node"]: one["role"] for one in seen["nodes"]}[killed] == "dead"
    view.close()


def test_a_held_nodes_queue_grows_in_the_view_and_drains_after_release(page: Page, live: Cluster) -> None:
    async def steps(ctx: Any, count: int) -> int:
        for number in range(count):
            await ctx.compute(f"step_{number}", int, number)
        return count

    held = next(number for number in live.nodes if number != live.leader)
    view = ClusterView(live, partial(carry_out, live), refresh=100)
    live.hold(held)
    live.start_workflow(steps, 20, run_id="late").wait_for_completion(10)

    def queue(one: dict[str, Any]) -> int:
        lanes = [lane for run_ in one["runs"] for lane in run_["lanes"] if lane["node"] == held]
        return lanes[0]["queue"] if lanes else 0

    page.wait(lambda one: queue(one) == 20)
    live.release(held)
    page.wait(lambda one: queue(one) == 0)
    view.close()


def test_a_step_that_was_tried_again_says_how_often_also_in_a_view_that_was_opened_later(
    page: Page, live: Cluster
) -> None:
    async def stubborn(ctx: Any, _: None) -> int:
        def ask() -> int:
            if current_step().attempt < 3:
                raise ConnectionError("away")
            return 1

        return int(await ctx.compute("ask", step(ask, retry=Retry(attempts=5, first_wait=0.01))))

    def attempts(one: dict[str, Any]) -> list[Any]:
        return [found.get("attempts") for one_run in one["runs"] for found in one_run["tail"]]

    view = ClusterView(live, partial(carry_out, live), refresh=100)
    live.start_workflow(stubborn, None, run_id="r").wait_for_completion(10)
    page.wait(lambda one: attempts(one) == [3])
    view.close()
    later = ClusterView(live, partial(carry_out, live), refresh=100)
    assert attempts(later.snapshot) == [3]
    later.close()


def test_a_page_that_watches_messages_gets_a_picture_though_nothing_happened(page: Page) -> None:
    view = ClusterView(still(quiet_cluster()), str, refresh=100)
    first = page.wait(lambda one: one["seq"] >= 1)
    view._handle_msg({"content": {"data": {"method": "custom", "content": {"look": True}}}, "buffers": []})
    page.wait(lambda one: one["seq"] > first["seq"])
    view.close()


def test_the_last_picture_of_a_stopped_cluster_says_so_and_keeps_its_lanes(page: Page, live: Cluster) -> None:
    async def one(ctx: Any, x: int) -> int:
        return int(await ctx.compute("one", int, x))

    view = ClusterView(live, partial(carry_out, live), refresh=100)
    live.start_workflow(one, 1, run_id="r").wait_for_completion(10)
    page.wait(lambda seen: bool(seen["runs"]) and all(lane["step"] == 1 for lane in seen["runs"][0]["lanes"]))
    live.stop()
    last = page.wait(lambda seen: seen["state"] == "stopped")
    assert [lane["step"] for lane in last["runs"][0]["lanes"]] == [1, 1, 1]
    view.close()


def test_closing_ends_its_threads_and_its_subscription_and_twice_is_once(page: Page) -> None:
    before = set(threading.enumerate())
    one = still(quiet_cluster())
    view = ClusterView(one, partial(carry_out, one))
    assert len(one.callbacks) == 1
    view.close()
    view.close()
    assert (one.callbacks, page.closed, view.closed) == ([], 1, True)
    assert page.snapshots[-1]["state"] == "stopped"
    assert set(threading.enumerate()) <= before


def test_what_it_shows_has_no_address_in_it(page: Page) -> None:
    view = ClusterView(still(quiet_cluster()), str)
    data, metadata = view._repr_mimebundle_()
    assert repr(view) == "ClusterView(cluster-1)"
    assert data["text/plain"].startswith("cluster cluster-1: running")
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == view.model_id
    assert not metadata
    view.close()
    assert view.still().model_id is None


def test_snapshots_from_threads_and_messages_from_the_page_do_not_lose_each_other(page: Page) -> None:
    one = still(quiet_cluster())
    view = ClusterView(one, partial(carry_out, one), refresh=100)
    ask = {"content": {"data": {"method": "request_state"}}, "buffers": []}

    def press() -> None:
        for _ in range(50):
            view._handle_msg(ask)

    asking = [threading.Thread(target=press) for _ in range(4)]
    for thread in asking:
        thread.start()
    for _ in range(200):
        one.tell(EpochChanged(1, 4))
    for thread in asking:
        thread.join()
    view.end()
    numbers = [seen["seq"] for seen in page.snapshots]
    assert numbers == sorted(numbers)
    assert page.snapshots[-1] == view.snapshot
    view.close()


# --- from the magics


def test_start_and_watch_show_one_live_view(notebook: Notebook, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module.Session, "can_show_widgets", lambda self: True)
    kind = "application/vnd.jupyter.widget-view+json"
    first = notebook.ok("%raftoral start --nodes 3").bundles[-1]
    second = notebook.ok("%raftoral watch").bundles[-1]
    assert first[kind] == second[kind]
    assert first["text/plain"] == "cluster of 3 nodes (1, 2, 3): running, with a leader"
    assert "text/html" in second
    notebook.ok("%raftoral stop")
    assert page.wait(lambda one: one["state"] == "stopped")
    assert page.closed == 0, "the last picture stays"
    notebook.ok("%unload_ext raftoral_nb")
    assert page.closed == 1


def test_in_a_terminal_watch_is_text(started: Notebook) -> None:
    assert set(started.ok("%raftoral watch").bundles[-1]) == {"text/plain", "text/html"}


def test_without_the_widget_packages_everything_but_the_live_view_works(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook.shell, "kernel", object(), raising=False)
    monkeypatch.setattr(session_module, "have_widgets", lambda: False)
    said = notebook.ok("%raftoral start --nodes 1")
    assert "pip install ipywidgets anywidget" in said.text
    assert "running, 1 node" in notebook.ok("%raftoral watch").text


# --- messages of the page


def ask(view: ClusterView, content: Any) -> None:
    """What ipywidgets does when the page sends something."""
    view._handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})


def test_a_fault_that_is_asked_for_in_the_page_is_done_and_answered(page: Page, live: Cluster) -> None:
    view = ClusterView(live, partial(carry_out, live), refresh=100)
    ask(view, {"do": "kill 3", "task": "t1"})
    assert page.answer("t1") == {"task": "t1", "state": "done", "words": "node 3 killed"}
    page.wait(lambda one: one["nodes"][2]["role"] == "dead")
    ask(view, {"do": ["kill", 2]})
    ask(view, "nonsense")
    assert live.nodes[2].alive
    view.close()


def test_a_run_that_is_opened_in_the_page_gets_its_details_also_after_the_end(page: Page, live: Cluster) -> None:
    async def one(ctx: Any, x: int) -> int:
        return int(await ctx.compute("one", int, x))

    view = ClusterView(live, partial(carry_out, live), refresh=100)
    live.start_workflow(one, 7, run_id="r").wait_for_completion(10)
    ask(view, {"open": ["r", 5]})
    page.wait_details(lambda details: details.get("r", {}).get("records", [{}])[0].get("value") == "7")
    ask(view, {"open": []})
    page.wait_details(lambda details: details == {})
    live.stop()
    view.end()
    ask(view, {"open": ["r"]})
    assert view.details["r"]["records"][0]["id"] == "0/one"
    view.close()

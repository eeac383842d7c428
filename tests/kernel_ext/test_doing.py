"""What the page asks for: faults, and the details of runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from kernel_ext.magics.page_lines import carry_out, caused_words
from kernel_ext.widgets.details import Details
from kernel_ext.widgets.doer import MAX_WAITING, Doer
from raftoral_nb import Cluster, parse_fault, step
from raftoral_nb.errors import NodeStateError, WorkflowCancelledError


class Answers:
    """Keeps what the page is told."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, answer: dict[str, Any]) -> None:
        with self._changed:
            self.all.append(answer)
            self._changed.notify_all()

    def end(self, task: str) -> dict[str, Any]:
        def ended() -> list[dict[str, Any]]:
            return [one for one in self.all if one["task"] == task and one["state"] != "taken"]

        with self._changed:
            assert self._changed.wait_for(ended, timeout=20)
            return ended()[0]


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def live() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as started:
        yield started


def test_lines_are_carried_out_in_their_order_and_answered_in_words(live: Cluster, answers: Answers) -> None:
    before = set(threading.enumerate())
    doer = Doer(partial(carry_out, live), answers)
    doer.ask("a", "hold 2")
    doer.ask("b", "release 2")
    doer.ask("c", "slow 1-2 --delay 20ms")
    doer.ask("d", "heal")
    assert answers.end("d") == {"task": "d", "state": "done", "words": "everything healed"}
    assert answers.end("a")["words"] == "node 2 held; its catch-up queues grow until it is released"
    assert answers.end("b")["words"] == "node 2 released; its catch-up queues drain"
    assert [one["task"] for one in answers.all if one["state"] == "done"] == ["a", "b", "c", "d"]
    assert [one["state"] for one in answers.all if one["task"] == "a"] == ["taken", "done"]
    for thread in set(threading.enumerate()) - before:
        if thread.name == "raftoral-view-doing":
            thread.join(20)
    assert not [thread for thread in threading.enumerate() if thread.name == "raftoral-view-doing"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("kill 9", "there is no node 9"),
        ("explode 1", "there is no fault 'explode'"),
        ("restart 1", "node 1 is alive"),
        ("cut 1-" + "1" * 900, "is not a node"),
        ("kill " + "1" * 1000, "too long"),
        ("cancel nobody", "nobody"),
        ("signal", "signal needs a run and a name"),
        ("signal r go open('x')", "is not a Python literal"),
        ("signal nobody go 1", "nobody"),
        ("", "there is no fault"),
    ],
)
def test_what_cannot_be_done_is_answered_with_the_reason(live: Cluster, answers: Answers, line: str, says: str) -> None:
    Doer(partial(carry_out, live), answers).ask("a", line)
    answer = answers.end("a")
    assert answer["state"] == "failed"
    assert says in answer["words"]


class Slow:
    """A cluster whose faults take until they are let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def cause(self, line: str) -> Any:
        self.begun.set()
        self.go.wait(20)
        if line == "bug":
            raise ZeroDivisionError("no")
        if line == "dead":
            raise NodeStateError("node 1 is dead")
        return parse_fault(line)


def test_more_than_may_wait_is_refused_and_a_bug_ends_nothing(
    answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    slow: Any = Slow()
    doer = Doer(partial(carry_out, slow), answers)
    doer.ask("first", "bug")
    assert slow.begun.wait(20)
    for number in range(MAX_WAITING):
        doer.ask(f"{number}", "kill 1")
    doer.ask("too much", "kill 1")
    assert answers.end("too much")["state"] == "failed"
    slow.go.set()
    assert answers.end("first")["words"] == "ZeroDivisionError: no"
    assert answers.end(f"{MAX_WAITING - 1}")["words"] == "node 1 killed"
    assert "could not be done" in caplog.text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kill 1", "node 1 killed"),
        ("heal 1-2 3", "link 1-2, node 3 healed"),
        ("add", "a node joined"),
        ("cut 1-2 --one-way", "link 1-2 cut one way: what node 1 says does not reach node 2"),
    ],
)
def test_every_fault_has_words_for_having_been_done(line: str, words: str) -> None:
    assert caused_words(parse_fault(line)) == words


async def order(ctx: Any, item: str) -> str:
    price = await ctx.compute("price", lambda: {"item": item, "cost": 3})
    await ctx.compute("large", lambda: "x" * 100_000)
    await ctx.compute("odd", Odd)
    await ctx.receive("paid")
    return str(price)


class Odd:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_the_details_of_an_opened_run_are_its_records_with_times_nodes_and_shortened_values(live: Cluster) -> None:
    run = live.start_workflow(order, "tea", run_id="r")
    run.signal("paid", {"by": "Ada"})
    run.wait_for_completion(20)
    details = Details(live)
    assert details.now() == {}
    details.open(["r", "no such run"])
    told = details.now()
    assert set(told) == {"r"}
    records = told["r"]["records"]
    steps = [record for record in records if record["id"] is not None]
    (signal,) = (record for record in records if record["id"] is None)
    assert (signal["op"], signal["name"], signal["value"]) == ("signal arrived", "paid", "{'by': 'Ada'}")
    assert [record["at"] for record in records] == sorted(record["at"] for record in records)
    assert [step["id"] for step in steps] == ["0/price", "1/large", "2/odd"]
    assert steps[0]["value"] == "{'cost': 3, 'item': 'tea'}"
    assert steps[1]["value"].endswith("bytes)")
    assert steps[2]["value"] == "<tests.kernel_ext.test_doing.Odd>"
    assert told["r"]["start"] is not None
    assert all(step["from"] <= step["at"] for step in steps)
    assert {step["node"] for step in steps} == {live.leader}
    details.open([])
    assert details.now() == {}
    assert details.code == {}


async def doubles(ctx: Any, number: int) -> Any:
    return await ctx.compute("double", step(twice, cache="inputs"), number)


def twice(number: int) -> int:
    return 2 * number


def test_a_step_whose_value_was_cached_says_where_that_comes_from(live: Cluster) -> None:
    for name in ("first", "second"):
        live.start_workflow(doubles, 21, run_id=name).wait_for_completion(20)
    details = Details(live)
    details.open(["first", "second"])
    shown = {name: run["records"][0]["value"] for name, run in details.now().items()}
    assert shown == {"first": "42", "second": "42 (cached from run first, step 0/double)"}


async def waits(ctx: Any, _: None) -> Any:
    ctx.on_query("here", lambda: True)
    return await ctx.receive("go")


def test_a_run_is_paused_signalled_and_cancelled_by_lines_of_the_page(live: Cluster, answers: Answers) -> None:
    doer = Doer(partial(carry_out, live), answers)
    run = live.start_workflow(waits, None, run_id="r")
    other = live.start_workflow(waits, None, run_id="other")
    doer.ask("a", "pause r")
    assert answers.end("a") == {"task": "a", "state": "done", "words": "run r is paused: no new step of it begins"}
    assert run.status == "paused"
    doer.ask("b", "resume r")
    doer.ask("c", "signal r go {'ok': [1, 2]}")
    assert answers.end("c")["words"] == "run r was sent the signal go"
    assert run.wait_for_completion(20) == {"ok": [1, 2]}
    doer.ask("d", "cancel other nobody paid")
    assert answers.end("d")["words"] == "run other is asked to end"
    with pytest.raises(WorkflowCancelledError, match="nobody paid"):
        other.wait_for_completion(20)
    doer.ask("e", "cancel r")
    assert answers.end("e")["state"] == "failed"


def test_the_details_of_an_opened_run_say_at_which_line_of_its_code_each_node_is(live: Cluster) -> None:
    run = live.start_workflow(waits, None, run_id="r")
    assert all(run.query("here", node=number) for number in live.nodes), "what answers has come to its next operation"
    details = Details(live)
    details.open(["r"])
    places = details.now()["r"]["places"]
    code = details.code["r"]
    assert code["lines"][0] == "async def waits(ctx: Any, _: None) -> Any:"
    at = {code["lines"][place["line"] - code["first"]].strip() for found in places.values() for place in found}
    assert (set(places), at) == ({"1", "2", "3"}, {'return await ctx.receive("go")'})
    assert all(place["where"].startswith("test_doing.py:") for found in places.values() for place in found)

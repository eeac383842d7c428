"""The stories of notebook 01 without a notebook: `raftoral-nb demo`.

Three of them, on one cluster over TCP on 127.0.0.1: a computation whose every step is recorded; an order during which the
leader is killed while a step runs; a follower that comes late. Whatever is claimed is checked, and the demonstration fails if a
check does.

The workflows below are functions of an importable module, so they are shipped as references to it. Those that are defined
in a notebook are shipped by value, with all that they need.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from .. import Cluster, ClusterStatistics, Step, WorkflowContext, WorkflowRun, __version__, workflow
from ..errors import RaftoralError

MIN_NODES: Final = 3
"""The fewest nodes: fewer cannot lose a node and continue, as a majority must remain."""

Output = TypeVar("Output")

WAIT_SECONDS: Final = 30.0
"""The time anything here may take before the demonstration gives up. Normally all of it takes about a second."""


class DemoError(Exception):
    """An event that did not happen within `WAIT_SECONDS`, so that the story cannot continue."""


# --- the outside world: what no cluster can undo -------------------------------------------------------------------


class OutsideWorld:
    """The world outside of the cluster. It counts every effect that really happens, recorded or not.

    Its bank takes the money of the first order at once and is slow to answer; by then the leader, which waits for the
    answer, is to be dead. Like any good payment service it recognizes a repeated request by its idempotency key.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.effects: Counter[str] = Counter()
        self.payments: dict[str, int] = {}
        self.bank_asked = threading.Event()
        self.bank_may_answer = threading.Event()

    def happened(self, effect: str) -> None:
        """Count an effect."""
        with self._lock:
            self.effects[effect] += 1

    def pay(self, key: str, cents: int) -> None:
        """Take `cents`, once per key."""
        with self._lock:
            known = key in self.payments
            self.payments.setdefault(key, cents)
        if not known:
            self.bank_asked.set()
            self.bank_may_answer.wait(WAIT_SECONDS)


_world = OutsideWorld()


# --- the workflows -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComputationInput:
    """The input of `computation`."""

    base_value: int
    multiplier: int
    iterations: int


@dataclass(frozen=True)
class ComputationOutput:
    """The result of `computation`."""

    final_result: int
    intermediate_values: list[int]


@workflow(version=1)
async def computation(ctx: WorkflowContext, task: ComputationInput) -> ComputationOutput:
    """Raftoral's own example: multiply again and again, and record every value."""
    progress = await ctx.create_replicated_var("progress", 0)
    value = task.base_value
    values = []
    for i in range(task.iterations):
        await progress.update(lambda done: done + 1)
        value *= task.multiplier
        values.append(value)
        await ctx.create_replicated_var(f"step_{i}", value)
    return ComputationOutput(final_result=value, intermediate_values=values)


@dataclass(frozen=True)
class Order:
    """An order of a customer."""

    item: str
    cents: int


@dataclass(frozen=True)
class Receipt:
    """The receipt that the customer gets."""

    item: str
    paid: int
    parcel: str


def reserve(item: str) -> str:
    """Take the item from the shelf."""
    _world.happened("reserve")
    return f"shelf 7: {item}"


def charge(cents: int, key: str) -> int:
    """Have the bank take the money."""
    _world.happened("charge")
    _world.pay(key, cents)
    return cents


def ship(item: str) -> str:
    """Send the parcel."""
    _world.happened("ship")
    return f"parcel with {item}"


@workflow(version=1)
async def order(ctx: WorkflowContext, wanted: Order) -> Receipt:
    """Three steps with effects in the outside world."""
    await ctx.compute("reserve", reserve, wanted.item)
    paid = await ctx.compute("charge", charge, wanted.cents, ctx.idempotency_key("charge"))
    parcel = await ctx.compute("ship", ship, wanted.item)
    return Receipt(item=wanted.item, paid=paid, parcel=parcel)


def count(number: int) -> int:
    """A small effect."""
    _world.happened("count")
    return number


@workflow(version=1)
async def tally(ctx: WorkflowContext, steps: int) -> int:
    """Add up 1 to `steps`, a step each."""
    total = 0
    for number in range(1, steps + 1):
        total += await ctx.compute("count", count, number)
    return total


# --- the telling ---------------------------------------------------------------------------------------------------


class Checks:
    """The claims made, and whether they held."""

    def __init__(self) -> None:
        self.held = 0
        self.failed: list[str] = []

    def expect(self, claim: str, true: bool) -> None:
        """Say a claim, and whether it is true."""
        print(f"  {'ok    ' if true else 'FAILED'}  {claim}")
        if true:
            self.held += 1
        else:
            self.failed.append(claim)


def run_demo(nodes: int = MIN_NODES, log_level: str | None = None) -> int:
    """Tell the stories on standard output; 0 if everything claimed held, else 1. Blocks, normally for about a second.

    Raises `ValueError` for fewer than `MIN_NODES` nodes. One at a time: the outside world is one per process.
    """
    global _world
    if nodes < MIN_NODES:
        raise ValueError(f"the demonstration kills a node and continues, which needs at least {MIN_NODES} nodes")
    _world = OutsideWorld()
    checks = Checks()
    print(f"raftoral-nb {__version__}: durable workflows on {nodes} nodes, over TCP on 127.0.0.1")
    cluster = Cluster(nodes, log_level=log_level)
    try:
        cluster.start()
        _tell_computation(cluster, checks)
        _tell_kill(cluster, checks)
        _tell_late_follower(cluster, checks)
    except (RaftoralError, DemoError) as error:
        print()
        checks.expect(f"the story can be told to its end ({type(error).__name__}: {error})", true=False)
    finally:
        _world.bank_may_answer.set()
        report = cluster.stop()
    print()
    checks.expect("the cluster stopped, and nothing of it still runs", not report.stuck)
    print()
    if checks.failed:
        print(f"{len(checks.failed)} of {len(checks.failed) + checks.held} claims did not hold:")
        for claim in checks.failed:
            print(f"  {claim}")
        return 1
    print(f"All {checks.held} claims held.")
    return 0


def _tell_computation(cluster: Cluster, checks: Checks) -> None:
    _title("1. A computation, every step of it recorded")
    run = cluster.start_workflow(computation, ComputationInput(base_value=2, multiplier=3, iterations=4))
    output = run.wait_for_completion(WAIT_SECONDS)
    print(f"result: {output.final_result}")
    print(f"intermediate values: {output.intermediate_values}")
    print()
    _table(
        ("recorded step", "value"),
        ((step.step_id, str(run.value(step))) for step in run.steps),
    )
    print()
    progress = [run.value(step) for step in run.steps if step.key == "progress"]
    recorded = [run.value(f"step_{i}") for i in range(4)]
    checks.expect("2 * 3 * 3 * 3 * 3 is 162", output.final_result == 162)
    checks.expect(
        "step_0 to step_3 recorded 6, 18, 54, 162", recorded == output.intermediate_values == [6, 18, 54, 162]
    )
    checks.expect("the replicated variable `progress` went from 0 to 4", progress == [0, 1, 2, 3, 4])
    _expect_same_everywhere(cluster, run, output, checks)


def _tell_kill(cluster: Cluster, checks: Checks) -> None:
    _title("2. An order, and the leader killed in the middle of a step")
    run = cluster.start_workflow(order, Order(item="teapot", cents=2500))
    if not _world.bank_asked.wait(WAIT_SECONDS):
        raise DemoError(f"the bank was not asked within {WAIT_SECONDS:.0f} s")
    # The leader now waits for the bank, and does so until we let the bank answer: the step runs for certain.
    print("The bank has taken the money and is slow to answer. While the leader waits for it, the leader is killed.")
    print()
    before = run.steps
    killed = cluster.kill("leader")
    at_kill = run.steps
    _world.bank_may_answer.set()
    receipt = run.wait_for_completion(WAIT_SECONDS)
    leader = cluster.wait_for_leader(WAIT_SECONDS)
    print(f"leader before the kill: node {killed}")
    print(f"leader after the kill:  node {leader}")
    print(f"the order's result:     {receipt}")
    print()
    _table(
        ("step", "effect ran", "recorded by", "recorded"),
        (
            (
                step.step_id,
                _times(_world.effects[step.key]),
                f"node {step.node}",
                "before the kill" if step in at_kill else "after the kill",
            )
            for step in run.steps
        ),
    )
    print()
    checks.expect(
        "the step `charge` ran, and was not recorded, when its leader was killed", _keys(at_kill) == ["reserve"]
    )
    checks.expect("another node leads", leader != killed)
    checks.expect("the run completed all the same", receipt == Receipt("teapot", 2500, "parcel with teapot"))
    checks.expect("every step recorded before the kill kept its record", run.steps[: len(before)] == before == at_kill)
    checks.expect("a recorded step was not done again: `reserve` ran once", _world.effects["reserve"] == 1)
    checks.expect("the interrupted step was done again, once: `charge` ran twice", _world.effects["charge"] == 2)
    checks.expect("what came after the kill ran once: `ship`", _world.effects["ship"] == 1)
    payments = list(_world.payments.items())
    key = f"{run.run_id}/1/charge"
    checks.expect("the bank knew the repeated request by its key and took the money once", payments == [(key, 2500)])
    cluster.restart(killed)
    cluster.nodes[killed].wait_until_applied(WAIT_SECONDS)
    _expect_same_everywhere(cluster, run, receipt, checks)
    restarted = cluster.nodes[killed].statistics().runs[run.run_id]
    checks.expect(
        f"node {killed}, restarted, took every step from its record and ran no effect",
        restarted.step == 3 and restarted.effects_run == 0,
    )


def _tell_late_follower(cluster: Cluster, checks: Checks) -> None:
    _title("3. A follower that comes late")
    steps = 20
    leader = cluster.wait_for_leader(WAIT_SECONDS)
    late = next(number for number in cluster.nodes if number != leader)
    cluster.hold(late)
    print(f"Node {late} is held: it receives every record, and executes nothing.")
    print()
    run = cluster.start_workflow(tally, steps)
    total = run.wait_for_completion(WAIT_SECONDS)
    for number, node in cluster.nodes.items():
        node.wait_until_applied(WAIT_SECONDS)
        if number != late:
            node.result(run.run_id, WAIT_SECONDS)
    held = cluster.statistics()
    _print_lanes(held, run)
    cluster.release(late)
    result = cluster.nodes[late].result(run.run_id, WAIT_SECONDS)
    released = cluster.statistics()
    print()
    print(f"Node {late} is released.")
    print()
    _print_lanes(released, run)
    print()
    checks.expect(f"the run completed without node {late}", total == sum(range(1, steps + 1)))
    checks.expect(f"while it was held, its catch-up queue grew to {steps}", _queue(held, late, run) == steps)
    checks.expect("the leader's queue was 0", _queue(held, leader, run) == 0)
    checks.expect("released, it drained its queue to 0", _queue(released, late, run) == 0)
    checks.expect(f"and came to the same result, {total}", result == total)
    checks.expect(f"no effect ran on node {late}", released.nodes[late].runs[run.run_id].effects_run == 0)
    checks.expect(f"each of the {steps} effects ran once", _world.effects["count"] == steps)


def _expect_same_everywhere(cluster: Cluster, run: WorkflowRun[Output], output: Output, checks: Checks) -> None:
    results = [node.result(run.run_id, WAIT_SECONDS) for node in cluster.nodes.values() if node.alive]
    checks.expect(
        f"each of the {len(cluster.nodes)} nodes executed it and came to the same result",
        results == [output] * len(cluster.nodes),
    )


def _keys(steps: Sequence[Step]) -> list[str]:
    return [step.key for step in steps]


def _queue(statistics: ClusterStatistics, node: int, run: WorkflowRun[int]) -> int:
    return statistics.nodes[node].runs[run.run_id].catch_up_queue


def _print_lanes(statistics: ClusterStatistics, run: WorkflowRun[int]) -> None:
    lanes = ((number, node, node.runs[run.run_id]) for number, node in sorted(statistics.nodes.items()))
    _table(
        ("node", "role", "", "steps taken", "catch-up queue", "effects run"),
        (
            (
                f"node {number}",
                node.role,
                "held" if node.held else "",
                str(lane.step),
                str(lane.catch_up_queue),
                str(lane.effects_run),
            )
            for number, node, lane in lanes
        ),
    )


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _title(title: str) -> None:
    print()
    print(title)
    print("-" * len(title))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns; one of numbers is aligned to the right."""
    body = [tuple(row) for row in rows]
    columns = list(zip(header, *body, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numbers = [bool(body) and all(cell.isdecimal() for cell in column[1:]) for column in columns]
    aligns: list[Callable[[str, int], str]] = [str.rjust if number else str.ljust for number in numbers]
    for row in (header, *body):
        cells = (align(cell, width) for align, cell, width in zip(aligns, row, widths, strict=True))
        print("  " + "  ".join(cells).rstrip())

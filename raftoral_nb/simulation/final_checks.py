"""The checks of what must hold when everything is healed and the simulation ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from ..core.records import NodeId
from ..core.state import summary
from .invariants import Checker
from .linearizability import list_problem, register_problem
from .watched import WatchedNode
from .workload import Clients

HUNG: Final = "steps that hung"
FAILED: Final = "steps that failed"
ASKED_AGAIN: Final = "commands asked for again"
REASSIGNED: Final = "runs given to others"
INSTALLED: Final = "snapshots installed"
COMPARED: Final = "turns compared"
RECEIVED: Final = "messages received"
CARRIED: Final = "messages carried on"
RECORDED: Final = "recorded: "
"""The prefix of the name of a kind of step."""


def unwell(nodes: Mapping[NodeId, WatchedNode], count: int) -> str | None:
    """Return what is not as it should be when all is healed; None if nothing."""
    if len(nodes) < count:
        return "a node is down"
    acting = [number for number, node in nodes.items() if node.member.acting_term is not None]
    if len(acting) != 1:
        return f"nodes {acting} act"
    leader = nodes[acting[0]]
    index = leader.member.replica.raft.commit_index
    if leader.journal.last_index != index:
        return "the leader's log is not committed"
    for number, node in nodes.items():
        raft = node.member.replica.raft
        if raft.applied_index != index or node.journal.last_index != index:
            return f"node {number} applied {raft.applied_index} of {index} entries"
        if (raft.leader, raft.term) != (acting[0], leader.member.acting_term):
            return f"node {number} is in term {raft.term}, led by node {raft.leader}, where node {acting[0]} acts"
        for run_id, run in node.member.state.runs.items():
            if run.unfinished:
                return f"run {run_id!r} is not finished"
            execution = node.executor.execution(run_id)
            if execution is None or execution.status != run.status:
                status = "not begun" if execution is None else f"{execution.status} ({execution.reason})"
                return f"node {number}'s execution of run {run_id!r} is {status}, the run {run.status}"
            if execution.queue_length:
                return f"node {number}'s catch-up queue of run {run_id!r} holds {execution.queue_length}"
    return None


def check(nodes: Mapping[NodeId, WatchedNode], checker: Checker, clients: Clients) -> None:
    """Return what can be told only when all is over: equal states, equal results, histories that make sense."""
    for number, node in nodes.items():
        if node.main is not None and node.main.done():
            checker.violated("executors live", f"the executor of node {number} ended: {node.main!r}")
    summaries = {number: summary(node.member.state) for number, node in nodes.items()}
    first = next(iter(summaries.values()), None)
    if any(other != first for other in summaries.values()) and not checker.violations:
        checker.violated("all nodes have the same state", f"those of nodes {list(summaries)} differ")
    for number, node in nodes.items():
        for run_id, run in node.member.state.runs.items():
            execution = node.executor.execution(run_id)
            if execution is not None and run.status == "completed" and execution.result != run.result:
                checker.violated("runs end alike on all nodes", f"run {run_id!r} on node {number}", run_id)
    checker.messages.check(nodes)
    problem = list_problem(clients.appends)
    if problem is not None:
        checker.violated("client histories are linearizable", problem, "list")
    for register, accesses in clients.accesses.items():
        problem = register_problem(accesses)
        if problem is not None:
            checker.violated("client histories are linearizable", f"{register}: {problem}", register)


def done(checker: Checker, clients: Clients, noted: Mapping[str, int]) -> dict[str, int]:
    """Return how often things took place that are no faults: what was `noted`, and steps by kind, behind `RECORDED`."""
    found = Counter({HUNG: 0, INSTALLED: 0} | dict(noted))
    for _, step in checker.records.values():
        found[RECORDED + step.operation] += 1
        found[FAILED] += step.failure is not None
    found[ASKED_AGAIN] = clients.asked_again
    found[REASSIGNED] = clients.reassigned
    found[COMPARED] = checker.observations.compared
    found[RECEIVED] = checker.messages.received
    found[CARRIED] = checker.messages.carried
    return dict(found)

"""The rules of who does the steps of a run: nodes that offer themselves, owners of runs, steps that are bound to a label. As pure as `apply`.

As long as no node has offered itself, the leader does the steps of all runs, by its epoch. A run that starts while nodes offer themselves gets an
*owner*, the one that owns the fewest: it does the run's steps, fires its timers and records its end. All others execute the run as ever.

**Why no two nodes record for a run at a time.** Assignments are numbered, and a record is
accepted only if its author is the owner and names the number of its assignment. So what an owner still says that has lost the run, or has been restarted
since, is refused, as a deposed leader's records are. Numbers are negative, -1, -2 ..., and so can never be taken for terms.

**When an owner acts.** It offers itself anew each time it starts, under a new token, and that gives all of its runs new numbers. A node that replays its log
meets assignments of before; their tokens are not its own, and so it does not act on them. Once it meets its own offer, it has replayed all that
was recorded before.

A node that is gone is withdrawn by the leader, one that is held by itself. Its runs go to those that are left; when there is none, to the leader.
A run stays with its owner otherwise: to move it would interrupt its steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from . import retention
from .commands import AssignRun, BindStep, OfferNode, WithdrawNode
from .events import CommandRefused, NodeOffered, NodeWithdrawn, RunAssigned, StateEvent, StepBound
from .run_record import Binding
from .state import Offer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .records import NodeId, StepId
    from .run_record import Run
    from .state import State

Events = tuple[StateEvent, ...]

_PRIME: Final = 1_000_003


def _refused(code: str, reason: str) -> Events:
    return (CommandRefused(code, reason),)


# --- who may record


def author_problem(state: State, run: Run, node: NodeId, number: int, step_id: StepId | None) -> CommandRefused | None:
    """Return why `node` may not record for a run under `number`, its assignment's or its term; None if it may.

    `step_id` names the step that it records, or saves the state of.
    """
    binding = run.bound.get(step_id) if run.bound and step_id is not None else None
    if binding is not None:
        if (node, number) == (binding.node, binding.number):
            return None
        reason = f"step {step_id!r} of run {run.run_id!r} is not node {node}'s: it is bound to {_named(binding.node)}"
        return CommandRefused("stale_assignment", reason)
    if run.owner:
        if (node, number) == (run.owner, run.assigned):
            return None
        reason = f"node {node} does not own run {run.run_id!r} by assignment {number}: node {run.owner} does, by {run.assigned}"
        return CommandRefused("stale_assignment", reason)
    epoch = state.epoch
    if number == epoch.term and node == epoch.node:
        return None
    holder = f"node {epoch.node} does, since term {epoch.term}"
    return CommandRefused("stale_epoch", f"node {node} does not act in term {number}: {holder}")


def _named(node: NodeId) -> str:
    return f"node {node}" if node else "a label that no node has"


# --- nodes


def offer(state: State, command: OfferNode, _index: int) -> Events:
    """Note that a node does the steps of runs that it owns (`runs`), and of steps that are bound to its labels."""
    node = command.node
    if state.members and node not in state.members:
        return _refused("not_a_member", f"node {node} is no member, and so cannot own runs")
    known, given = state.offers.get(node), Offer(command.token, command.runs, command.labels)
    if known == given:
        return ()
    state.offers[node] = given
    events: list[StateEvent] = [NodeOffered(node, command.runs, command.labels, command.token)]
    for run in _unfinished(state):
        if run.owner == node:
            events.append(_assign(state, run, node if given.runs else None))
        able = {
            id_: it for id_, it in run.bound.items() if it.node == node or (not it.node and it.where in given.labels)
        }
        events += _bind_again(state, run, able)
    return tuple(events)


def withdraw(state: State, command: WithdrawNode, _index: int) -> Events:
    """Give what a node does to others: it is gone, held or about to stop. Says nothing of a later offer of that node."""
    known = state.offers.get(command.node)
    if known is None or known.token != command.token:
        return ()
    return _withdrawn(state, command.node)


def removed(state: State, node: NodeId) -> Events:
    """Give what a node does to others, as it is no member any more."""
    return _withdrawn(state, node) if node in state.offers else ()


def _withdrawn(state: State, node: NodeId) -> Events:
    del state.offers[node]
    events: list[StateEvent] = [NodeWithdrawn(node)]
    for run in _unfinished(state):
        if run.owner == node:
            events.append(_assign(state, run, None))
        events += _bind_again(state, run, {step_id: it for step_id, it in run.bound.items() if it.node == node})
    return tuple(events)


def _unfinished(state: State) -> list[Run]:
    return [run for run in state.runs.values() if run.unfinished]


# --- runs


def started(state: State, run: Run) -> Events:
    """Give a run that has just started an owner, if any node offers itself."""
    return (_assign(state, run, None),) if state.offers and run.format > 1 else ()


def assign(state: State, command: AssignRun, _index: int) -> Events:
    """Give a run to another owner: the one that is named, or any other than the present one."""
    run = state.runs.get(command.run_id)
    if run is None:
        return _refused("unknown_run", retention.gone(state, command.run_id))
    if not run.unfinished:
        return _refused("run_ended", f"run {run.run_id!r} has ended ({run.status})")
    if command.number not in (0, run.assigned):
        return ()  # it was given to another meanwhile
    node = command.node or _next(state, run)
    known = state.offers.get(node)
    if known is None or not known.runs:
        others = ", ".join(map(str, sorted(state.takers))) or "none do"
        whom = f"node {command.node} does" if command.node else "other nodes do"
        return _refused("no_such_owner", f"{whom} not take runs (of those that do: {others})")
    return () if node == run.owner else (_assign(state, run, node),)


def ended(state: State, run: Run) -> None:
    """Note that a run has ended: it is no work for its owner any more, and none of its steps is bound."""
    _count(state, run.owner, -1)
    run.bound.clear()


def loaded(state: State, run: Run) -> None:
    """Count a run that is read from a snapshot."""
    if run.unfinished:
        _count(state, run.owner, 1)


def _assign(state: State, run: Run, node: NodeId | None) -> StateEvent:
    """Give a run to a node; None: to the one that owns the fewest."""
    if node is None:
        # It is not counted itself, or one that comes back to where it was would seem to have more to do.
        _count(state, run.owner, -1)
        run.owner = 0
        node = _choose(state, 0)
    _count(state, run.owner, -1)
    run.owner, run.assigned = node, _number(state)
    _count(state, node, 1)
    known = state.offers.get(node)
    return RunAssigned(run.run_id, node, run.assigned, "" if known is None else known.token)


def _number(state: State) -> int:
    state.assignments += 1
    return -state.assignments


def _choose(state: State, but: NodeId) -> NodeId:
    """Return the node that owns the fewest runs of those that take any; 0 if there is none."""
    takers = [node for node, known in state.offers.items() if known.runs and node != but]
    return min(takers, key=lambda node: (state.owned.get(node, 0), node), default=0)


def _next(state: State, run: Run) -> NodeId:
    """Return the node that is to own a run after its present owner; 0 if no other takes runs.

    In a circle of the run's own: if one after the other cannot go on with it, it comes to all of them.
    """
    if not run.owner:
        return _choose(state, 0)

    def place(node: NodeId) -> tuple[int, NodeId]:
        # Any number that differs from run to run, so that runs which leave a node do not all go to the same one.
        return pow(int.from_bytes(f"{run.run_id}\n{node}".encode()), 5, _PRIME), node

    circle = sorted({*state.takers, run.owner}, key=place)
    node = circle[(circle.index(run.owner) + 1) % len(circle)]
    return 0 if node == run.owner else node


def _count(state: State, node: NodeId, by: int) -> None:
    if node:
        state.owned[node] = state.owned.get(node, 0) + by
        if not state.owned[node]:
            del state.owned[node]


# --- steps


def bind(state: State, run: Run, command: BindStep) -> Events:
    """Bind a step to a node that has a label; to none, as long as none has it. `run` is the command's, whose author may record for it."""
    group = command.step_ids[-1]
    asked = [step_id for step_id in command.step_ids if step_id not in run.bound and step_id not in run.by_id]
    return tuple(_bind(state, run, asked, command.where, group))


def _bind_again(state: State, run: Run, bound: dict[StepId, Binding]) -> list[StateEvent]:
    groups: dict[StepId, list[StepId]] = {}
    for step_id, binding in bound.items():
        groups.setdefault(binding.group, []).append(step_id)
    return [
        event
        for group, step_ids in groups.items()
        for event in _bind(state, run, step_ids, bound[step_ids[0]].where, group)
    ]


def _bind(state: State, run: Run, step_ids: list[StepId], where: str, group: StepId) -> list[StateEvent]:
    """Bind steps of one group, under one number: whoever records the intent of a step is to know it for its own."""
    if not step_ids:
        return []
    able = sorted(node for node, known in state.offers.items() if where in known.labels)
    # By a number that says nothing: to count what each has to do would take longer the more there is.
    node = able[int.from_bytes(f"{run.run_id}\n{group}".encode()) % _PRIME % len(able)] if able else 0
    number, token = _number(state), state.offers[node].token if node else ""
    for step_id in step_ids:
        run.bound[step_id] = Binding(where, node, number, group)
    return [StepBound(run.run_id, step_id, where, node, number, token) for step_id in step_ids]


OWNER_HANDLERS: Final[dict[type[Any], Callable[[State, Any, int], Events]]] = {
    OfferNode: offer,
    WithdrawNode: withdraw,
    AssignRun: assign,
}
"""The rule for each command about who does the steps, except that which binds one."""

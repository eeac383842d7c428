"""The one function that changes the replicated state: `apply(state, command, index) -> events`.

Every node applies the same entries in the same order and must arrive at the same state, so nothing here looks at a
clock, a random number, another thread, or the order of a hash table. Read it from the bottom up: `apply_entry` decides
whether a proposal is new, `apply` carries one command out, and the handlers above it are the rules; those about runs are in
`run_rules`.

**Why no proposal is ever applied twice.** A proposal may reach the log several times (its sender retries under the same
id when it does not know what happened). The answer to each is kept in its client's session, and a repeat gets that
answer. Memory is bounded, so answers are forgotten in two ways, and each leaves behind a mark that refuses whatever might
have been forgotten:

* a session forgets its lowest number, which becomes its `horizon`: that number and all below it are refused (`too_old`);
* a whole session is forgotten, and `evicted_birth` rises to at least its client's birth: an unknown client born at or
  before that index is refused (`session_expired`). A forgotten client keeps its birth for ever, so it never comes back.

Both marks only rise. They may refuse a proposal that never was applied (a slow client; one born early that first speaks
late), never the reverse. A client refused as expired continues under a new id, born at a newer index. `too_old` and
`session_expired` say that this *arrival* was not applied: a proposer that had sent the same id before must take it for
"unknown", because the earlier copy may have been carried out and forgotten.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

import msgspec

from . import ownership
from .commands import (
    ChangeMembers,
    Command,
    Committed,
    Entry,
    Proposal,
    RegisterWorkflow,
    Rejected,
    ReserveNumber,
    SetValueLimit,
    Takeover,
    WithBlobs,
)
from .events import (
    CommandRefused,
    EpochChanged,
    MembersChanged,
    NumberReserved,
    StateEvent,
    ValueLimitSet,
    WorkflowDropped,
    WorkflowRegistered,
)
from .records import NodeId, ProposalId
from .run_rules import HANDLERS, Events
from .state import ClientSession, Epoch, State
from .step_rules import STEP_HANDLERS
from .validation import birth_problem, command_problem, proposal_problem

if TYPE_CHECKING:
    from collections.abc import Callable


class Applied(msgspec.Struct, frozen=True):
    """The outcome of one proposal of an entry. `events` is empty if a repeated proposal was only answered."""

    proposal: Proposal
    answer: Committed | Rejected
    events: tuple[StateEvent, ...]


def _refused(code: str, reason: str) -> Events:
    return (CommandRefused(code, reason),)


def _take_over(state: State, command: Takeover, _index: int) -> Events:
    node, term = command.node, command.term
    if term <= state.epoch.term:
        holder = f"node {state.epoch.node} did in term {state.epoch.term}"
        return _refused("stale_takeover", f"node {node} may not take over in term {term}: {holder}")
    state.epoch = Epoch(node, term)
    return (EpochChanged(node, term),)


def _change_members(state: State, command: ChangeMembers, _index: int) -> Events:
    # Decided by the leader that appended the entry: `apply_entry` has taken the members over before this.
    if (command.node in state.members) == (command.change == "add"):
        gone = () if command.node in state.members else ownership.removed(state, command.node)
        return (MembersChanged(state.members), *gone)
    if command.change == "add" and command.node <= state.highest_member:
        why = "its number, or a higher one, was a member's before, and numbers of former members are never reused"
        return _refused("number_taken", f"cannot add node {command.node}: {why}")
    why = "another change was under way, or large values were, or it leads; ask again"
    return _refused("members_unchanged", f"cannot {command.change} node {command.node} now: {why}")


def _reserve_number(state: State, command: ReserveNumber, _index: int) -> Events:
    if command.node < state.next_number:
        reason = f"node {command.node} cannot join: its number, or a higher one, is taken; {state.next_number} is free"
        return _refused("number_taken", reason)
    state.highest_reserved = command.node
    return (NumberReserved(command.node),)


def _register(state: State, command: RegisterWorkflow, _index: int) -> Events:
    definition = command.definition
    name = (definition.workflow, definition.version)
    known = state.definitions.get(name)
    if known is not None:
        if known.fingerprint == definition.fingerprint:
            return ()
        for run in state.runs.values():
            if run.unfinished and (run.definition.workflow, run.definition.version) == name:
                reason = f"{name[0]!r} version {name[1]} has changed, and the unfinished run {run.run_id!r} uses it"
                return _refused("version_in_use", reason)
    dropped: Events = ()
    if known is None and len(state.definitions) >= state.limits.definitions:
        victim = _definition_to_drop(state, *name)
        if victim is None:
            reason = f"{len(state.definitions)} workflows are registered, each the latest of its name or in use: no room for {name!r}"
            return _refused("too_many_workflows", reason)
        del state.definitions[victim]
        dropped = (WorkflowDropped(*victim),)
    state.definitions[name] = definition
    return (*dropped, WorkflowRegistered(*name, replaced=known is not None))


def _definition_to_drop(state: State, workflow: str, version: int) -> tuple[str, int] | None:
    """Return the first registered version that is neither the latest, once `version` exists, nor used by a run.

    Runs that have ended do not count.
    """
    latest = {workflow: version}
    for name, number in state.definitions:
        latest[name] = max(number, latest.get(name, number))
    used = {(run.definition.workflow, run.definition.version) for run in state.runs.values() if run.unfinished}
    return next((name for name in state.definitions if latest[name[0]] != name[1] and name not in used), None)


def _set_value_limit(state: State, command: SetValueLimit, _index: int) -> Events:
    if command.max_value_bytes == state.value_limit:
        return ()
    state.value_limit = command.max_value_bytes
    return (ValueLimitSet(command.max_value_bytes),)


_HANDLERS: Final[dict[type[Any], Callable[[State, Any, int], Events]]] = {
    Takeover: _take_over,
    ChangeMembers: _change_members,
    ReserveNumber: _reserve_number,
    RegisterWorkflow: _register,
    SetValueLimit: _set_value_limit,
    **HANDLERS,
    **STEP_HANDLERS,
}


def apply(state: State, command: Command, index: int) -> tuple[StateEvent, ...]:
    """Carry `command`, of the entry at log index `index`, out on `state`, and say what happened.

    A command that may not be carried out changes nothing and yields one `CommandRefused`; one that asks for what is
    already so yields no event. Never raises, whatever the command holds (`MemoryError` aside: a replica that cannot
    hold the state must stop, not differ). Does not look at who proposed it, nor whether it was applied before: see
    `apply_entry`. Leaves `index`, `commands` and `entries` of the state alone.
    """
    try:
        problem = command_problem(command, state.limits)
        return _HANDLERS[type(command)](state, command, index) if problem is None else _refused("bad_command", problem)
    except MemoryError:
        raise
    except Exception as error:  # the log cannot be unwritten: every node must get past this entry
        return _refused("bad_command", f"malformed {type(command).__name__} ({type(error).__name__})")


def apply_entry(state: State, index: int, entry: Entry) -> list[Applied]:
    """Apply the entry at log index `index`: every proposal of it in order, each at most once in the log's life.

    Returns one `Applied` per proposal. Never raises (`MemoryError` aside).
    """
    state.index = index
    if entry.proposals:
        state.entries += 1
    if entry.members is not None:
        state.members = entry.members
        state.highest_member = max(state.highest_member, *entry.members, 0)
    committed = Committed(index)
    return [_apply_proposal(state, index, proposal, committed) for proposal in entry.proposals]


def recorded_answer(state: State, id: ProposalId) -> Committed | Rejected | None:  # noqa: A002 - the model's word
    """Return the answer to the proposal `id`, or None if it was not applied or its answer is forgotten.

    For a proposer that may have missed the answer, because its node's state was replaced.
    """
    session = state.sessions.get(id.client)
    return None if session is None else session.answers.get(id.number)


def _apply_proposal(state: State, index: int, proposal: Proposal, committed: Committed) -> Applied:
    problem = proposal_problem(proposal)
    if problem is not None:
        return Applied(proposal, Rejected(problem, "bad_command"), ())
    id_ = proposal.id
    carried = proposal.carried
    counted = None
    if type(carried) is WithBlobs:
        counted, proposal = carried.members, Proposal(id_, carried.command)
    if id_ is None:
        # A takeover is sent once and refuses itself if it came again: its term is not greater any more.
        return _carry_out(state, index, proposal, committed)
    found = _session(state, index, id_)
    if isinstance(found, Rejected):
        return Applied(proposal, found, ())
    answer = found.answers.get(id_.number)
    if answer is not None:
        return Applied(proposal, answer, ())
    if id_.number <= found.horizon:
        reason = f"proposal {id_.number} is older than what is remembered of its client (from {found.horizon + 1})"
        return Applied(proposal, Rejected(reason, "too_old"), ())
    applied = _carry_out(state, index, proposal, committed, counted)
    found.answers[id_.number] = applied.answer
    heapq.heappush(found.lowest, id_.number)
    if len(found.lowest) > state.limits.session_answers:
        found.horizon = heapq.heappop(found.lowest)
        del found.answers[found.horizon]
    return applied


def _carry_out(
    state: State, index: int, proposal: Proposal, committed: Committed, counted: tuple[NodeId, ...] | None = None
) -> Applied:
    """Carry a command out; if its large values were counted among other members than vote here, a majority of these may lack them."""
    if counted is None or counted == state.members:
        events = apply(state, proposal.carried, index)  # type: ignore[arg-type]  # what is no command is refused there
    else:
        voting = f"{state.members} are the voting members now"
        events = _refused("members_changed", f"its large values were counted among nodes {counted}, and {voting}")
    if events and isinstance(refused := events[0], CommandRefused):
        return Applied(proposal, Rejected(refused.reason, refused.code), events)
    state.commands += 1
    return Applied(proposal, committed, events)


def _session(state: State, index: int, id_: ProposalId) -> ClientSession | Rejected:
    """Return the session of the proposal's client, made if the client is new; or why it gets none."""
    session = state.sessions.get(id_.client)
    if session is not None:
        session.last_used = index
        return session
    problem = birth_problem(id_, index)
    if problem is not None:
        return Rejected(problem, "bad_command")
    if id_.birth <= state.evicted_birth:
        reason = (
            f"client {id_.client!r} is not known, and clients born up to index {state.evicted_birth} were forgotten"
        )
        return Rejected(reason, "session_expired")
    if len(state.sessions) >= state.limits.sessions:
        # Done before the new client is added, so that it cannot be the victim of its own arrival.
        victim = min(state.sessions, key=lambda client: (state.sessions[client].last_used, client))
        del state.sessions[victim]
        state.evicted_birth = max(state.evicted_birth, ProposalId(victim, 0).birth)
    session = state.sessions[id_.client] = ClientSession(index)
    return session

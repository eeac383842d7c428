"""The invariants of every step of a simulation, whatever goes wrong in it.

The checker is told of every appended, deleted and applied entry, every change of role and of the right to act, every
hand-over and every effect. It keeps its own small account of all that and does not ask the engine's rules whether the
engine keeps them. A violation is noted once per kind and place; the simulation continues, so that one seed may show several.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ..core.apply import Applied
from ..core.cluster_events import EffectStarted
from ..core.command_values import references
from ..core.commands import (
    CacheStep,
    Command,
    Committed,
    ContinueRun,
    EndRun,
    FireTimers,
    SetCheckpoint,
    StartChild,
    Takeover,
    TellRun,
)
from ..core.events import (
    CancelRequested,
    CheckpointSet,
    CommandRefused,
    EpochChanged,
    MessageSent,
    RunDeleted,
    RunEvicted,
    RunMoved,
    RunPaused,
    RunResumed,
    StateEvent,
    TimerFired,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from ..core.records import CancelRecord, NodeId, ProposalId, RunId, Step, StepId
from ..raft.blob_store import BlobStore
from ..raft.journal import MemoryJournal
from ..raft.pysyncobj_driver import LEADER
from ..transport.messages import Message, NextIndex, ResponseVote
from ..workflow.codec.blobs import Content, add_shelf
from ..workflow.execution.inbox import PauseChanged, RunDropped
from .conservation import Conservation
from .observations import Observations
from .owners import OWN_ASSIGNMENT, Owners
from .pausing import Pauses
from .run_logs import RunLogs

if TYPE_CHECKING:
    from ..workflow.execution.inbox import HandedOver
    from .watched import WatchedNode

DELETED: Final = "committed entries are not deleted"
"""The one invariant whose violation may go unnoticed: what was deleted is often sent again in time."""

COMMITTED_BY_LEADER: Final = "a leader commits only what a majority holds"
COMMITTED_BY_FOLLOWER: Final = "a follower commits only what its leader verified"
UNREPAIRED: Final = "a conflicting tail is repaired in a few round trips"
TORN_APART: Final = "entries arrive whole"
BLOB_OF_MAJORITY: Final = "a majority has the bytes of what the log refers to"
LATER_TERM: Final = "no log is ahead of its node's term"

MAX_VIOLATIONS: Final = 50
"""Violations noted per simulation; one is enough to fail."""


class Violation(msgspec.Struct, frozen=True):
    """A broken invariant. `time` is in virtual seconds since the beginning."""

    time: float
    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text} (at {self.time:.3f} s)"


class _Archive:
    """The blobs that the log ever referred to, for the checks: the nodes drop those of runs that are gone (a `Shelf`)."""

    def __init__(self) -> None:
        self._kept: dict[str, Content] = {}
        add_shelf(self)

    def keep(self, digest: str, store: BlobStore) -> None:
        """Keep a blob that a node has."""
        content = None if digest in self._kept else store.find(digest)
        if content is not None:
            self._kept[digest] = content

    def find(self, digest: str) -> Content | None:
        """See `Shelf`."""
        return self._kept.get(digest)


class Checker:
    """The checker of one simulation. `now()` gives the virtual time, or that of a real cluster (not `virtual`)."""

    def __init__(self, now: Callable[[], float], *, virtual: bool = True) -> None:
        self._now = now
        self.journals: dict[NodeId, MemoryJournal] = {}
        # Of members whose disks are gone: what they acknowledged counts until they are members no more.
        self._lost: dict[NodeId, MemoryJournal] = {}
        self.violations: list[Violation] = []
        self._seen: set[tuple[str, object]] = set()
        # The log as the first node that applied an entry saw it: index -> (term, data). PySyncObj's own entries are not in it.
        self.committed: dict[int, tuple[int, bytes]] = {}
        # In which term the node was that applied an entry first: that in which it was committed, or a later one.
        self._committed_in: dict[int, int] = {}
        self.last_committed = 0
        # Every entry that any journal ever held: (index, term) -> data and the term before it.
        self._appended: dict[tuple[int, int], bytes] = {}
        self._votes: dict[tuple[NodeId, int], str] = {}
        self._votes_answered: dict[tuple[NodeId, int], NodeId] = {}
        # Where a node's log was found not to match, by node, incarnation and term, and at how many places it may be.
        self._mismatches: dict[tuple[NodeId, int, int], tuple[set[int], int]] = {}
        self._leaders: dict[int, NodeId] = {}
        self._actors: dict[int, NodeId] = {}
        self._carried_out: dict[ProposalId, int] = {}
        # What the log says, told by its first applier.
        self._epoch: tuple[NodeId, int] = (0, 0)
        self._epochs_begin: dict[int, tuple[int, int]] = {}
        self.records: dict[tuple[RunId, StepId], tuple[int, Step]] = {}
        """The steps of each life of a run (`run_logs.life`), and at which index they were recorded."""
        self.logs = RunLogs(self.violated)
        self.observations = Observations(self.violated)
        self.messages = Conservation(self.violated, self.logs, self.observations)
        self._versions: dict[RunId, int] = {}
        self.ended: dict[RunId, int] = {}
        self.blobs = 0
        """References to blobs in what was applied."""
        self._archive = _Archive()
        self.starts: dict[RunId, int] = {}
        """The runs that were started, with their places in the order of the log."""
        self.owners = Owners(self.violated)
        self._pauses = Pauses(now, self.violated, virtual=virtual)

    def violated(self, invariant: str, text: str, place: object = None) -> None:
        """Note a violation, once per kind and place."""
        key = (invariant, place if place is not None else text)
        if key not in self._seen and len(self.violations) < MAX_VIOLATIONS:
            self._seen.add(key)
            self.violations.append(Violation(round(self._now(), 6), invariant, text))

    def disk_lost(self, node: NodeId) -> None:
        """Note that a member's disk is gone for good, and with it the copies that the leader may count: that is one failure, not a forbidden one."""
        self._lost[node] = self.journals.pop(node)

    def removed(self, node: NodeId) -> None:
        """Note that a node is no longer a member: its copies do not count any more."""
        self.journals.pop(node, None)
        self._lost.pop(node, None)

    # --- what journals do; see JournalWatch in disk

    def added(self, node: NodeId, data: bytes, index: int, term: int) -> None:
        """Check an entry added to a journal: two entries of one index and term are the same one, and its node is in that term, or past it."""
        known = self._appended.setdefault((index, term), data)
        if known is not data and known != data:
            self.violated("log matching", f"node {node} holds another entry {index} of term {term} than others")
        journal = self.journals.get(node)
        if journal is not None and term > journal.getCurrentTerm():
            self.violated(
                LATER_TERM, f"node {node} took entry {index} of term {term} in term {journal.getCurrentTerm()}", node
            )

    def deleted(self, node: NodeId, index: int, last: int) -> None:
        """Check the entries that a journal lost to a conflict: none of them may be committed."""
        if index > self.last_committed:
            return
        journal = self.journals.get(node)
        if journal is None:
            return
        for at in range(index, min(last, self.last_committed) + 1):
            known = self.committed.get(at)
            if known is not None and journal.term_at(at) == known[0]:
                self.violated(
                    DELETED,
                    f"node {node} deleted entry {at} of term {known[0]}, which is committed",
                    node,
                )
                return

    def voted(self, node: NodeId, term: int, vote: str) -> None:
        """Check a stored vote: there is no other in that term, whatever became of the node since."""
        known = self._votes.setdefault((node, term), vote)
        if known != vote:
            self.violated(
                "a node votes once in a term", f"node {node} voted for {known} and {vote} in term {term}", term
            )

    # --- what is sent; see SimulatedNetwork

    def sent(self, source: NodeId, target: NodeId, message: Message, incarnation: int) -> None:
        """Note that a node sent a message."""
        if isinstance(message, NextIndex):
            if message.reset:
                self._refused(source, message, incarnation)
        elif isinstance(message, ResponseVote):
            known = self._votes_answered.setdefault((source, message.term), target)
            if known is not target and known != target:
                self.violated(
                    "a node votes once in a term",
                    f"node {source} gave its vote to {known} and {target} in term {message.term}",
                    message.term,
                )

    def _refused(self, node: NodeId, message: NextIndex, incarnation: int) -> None:
        """Check a refusal, when a follower's log does not match the leader's: it takes a question for every term in its tail, not for every entry."""
        journal = self.journals.get(node)
        if journal is None or message.next_index > journal.last_index:
            return
        key = (node, incarnation, message.term)
        if key not in self._mismatches:
            committed = journal.getRaftCommitIndex()
            terms = {journal.term_at(index) for index in range(committed + 1, journal.last_index + 1)}
            self._mismatches[key] = (set(), len(terms) + 1)
        asked, most = self._mismatches[key]
        asked.add(message.next_index)
        if len(asked) > most:
            self.violated(
                UNREPAIRED,
                f"node {node} was asked about {len(asked)} entries in term {message.term}, and its tail has {most - 1} terms",
                key,
            )

    # --- consensus

    def role_changed(self, node: WatchedNode, role: str, term: int) -> None:
        """Check a new leader: it is the only one of its term, and with everything that was committed before."""
        if role != "leader":
            return
        other = self._leaders.setdefault(term, node.number)
        if other != node.number:
            self.violated("one leader per term", f"nodes {other} and {node.number} both led term {term}", term)
        # Votes may come late: then a leader of an older term begins beside a younger one, and need not have what was
        # committed in that one's term, old entries included.
        last = self.last_committed
        while last and self._committed_in.get(last, term) >= term:
            last -= 1
        if last and node.journal.term_at(last) != self.committed[last][0]:
            self.violated(
                "what was committed stays",
                f"node {node.number} leads term {term} without the committed entry {last} of term "
                f"{self.committed[last][0]}",
                term,
            )

    def acting_changed(self, node: WatchedNode, term: int | None) -> None:
        """Check a node that may act: alone in its term, and after its own takeover was applied to its own state."""
        if term is None:
            return
        other = self._actors.setdefault(term, node.number)
        if other != node.number:
            self.violated("one acting epoch", f"nodes {other} and {node.number} both act in term {term}", term)
        epoch = node.member.state.epoch
        if (epoch.node, epoch.term) != (node.number, term):
            self.violated(
                "acting needs its takeover applied",
                f"node {node.number} acts in term {term} while the epoch it applied is that of node {epoch.node} in "
                f"term {epoch.term}",
                (node.number, term),
            )

    def applied(self, node: WatchedNode, index: int, applied: Sequence[Applied]) -> None:
        """Check an applied entry: it is the one that others applied there."""
        position = index - node.journal.first_index
        data, _, term = node.journal[position]
        known = self.committed.get(index)
        if known is None:
            self.committed[index] = (term, data)
            self._committed_in[index] = node.member.replica.raft.term
            self.last_committed = max(self.last_committed, index)
            copies = {**self.journals, **self._lost}
            holders = [
                number
                for number, journal in copies.items()
                if (journal.term_at(index) == term and index <= journal.stored_index) or index < journal.first_index
            ]
            # Whom the majority is of, only the leader knew that committed it: any membership that a node has in its log.
            counted = {journal.members for journal in self.journals.values() if journal.members} or {tuple(copies)}
            if all(2 * len(set(holders).intersection(members)) <= len(members) for members in counted):
                leads = node.member.replica.raft.role == LEADER
                self.violated(
                    COMMITTED_BY_LEADER if leads else COMMITTED_BY_FOLLOWER,
                    f"node {node.number} applied entry {index} of term {term}, which only nodes {holders} hold",
                    index,
                )
            self._check_blobs(index, applied, copies, counted)
            self._account(node, index, applied)
        elif known[0] != term or (known[1] is not data and known[1] != data):
            self.violated(
                "applied sequences are prefixes of one another",
                f"node {node.number} applied at index {index} an entry of term {term}, others one of term {known[0]}",
                index,
            )
            return
        for one in applied:
            self._check_answer(node, index, one)

    def _check_blobs(
        self,
        index: int,
        applied: Sequence[Applied],
        copies: Mapping[NodeId, MemoryJournal],
        counted: Collection[tuple[NodeId, ...]],
    ) -> None:
        """Check that of the values that an entry refers to a majority has the bytes. What was refused refers to nothing."""
        for one in (one for one in applied if isinstance(one.answer, Committed)):
            for ref in references(one.proposal.command):
                holders = {number for number, journal in copies.items() if journal.blobs.holds(ref.digest)}
                self.blobs += 1
                for number in sorted(holders):
                    self._archive.keep(ref.digest, copies[number].blobs)
                if all(2 * len(holders.intersection(members)) <= len(members) for members in counted):
                    self.violated(
                        BLOB_OF_MAJORITY,
                        f"entry {index} refers to blob {ref.digest}, which only nodes {sorted(holders)} hold",
                        index,
                    )

    def _check_answer(self, node: WatchedNode, index: int, one: Applied) -> None:
        """Check that, on every node, a proposal is carried out at one index only."""
        id_ = one.proposal.id
        if id_ is None:
            return
        answer = one.answer
        if isinstance(answer, Committed):
            carried_out = answer.index == index
        else:
            carried_out = bool(one.events)
        if carried_out and self._carried_out.setdefault(id_, index) != index:
            self.violated(
                "nothing is applied twice",
                f"node {node.number} carried proposal {id_.client}/{id_.number} out at index {index}, and it was carried "
                f"out at {self._carried_out[id_]}",
                id_,
            )

    def _account(self, applier: WatchedNode, index: int, applied: Sequence[Applied]) -> None:
        """Check what an entry did against rules of our own, the first time it is applied anywhere."""
        for one in applied:
            if not one.events or isinstance(one.events[0], CommandRefused):
                continue
            self._account_command(index, one.proposal.command)
            for event in one.events:
                self.owners.happened(index, self.logs.total, event)
                self._account_event(applier, index, event)

    def _account_command(self, index: int, command: Command) -> None:
        """Check that who proposed what was carried out had the right to."""
        match command:
            case Takeover(node=node, term=term):
                self._took_over(index, node, term)
            case (
                SetCheckpoint(run_id=run_id, step=step, version=version)
                | CacheStep(run_id=run_id, step=step, version=version)
                | StartChild(run_id=run_id, step=step, parent_version=version)
                | TellRun(run_id=run_id, step=step, version=version)
            ):
                self._check_version(index, run_id, version)
                self._check_author(index, f"step {step.step_id!r}", run_id, step.node, step.epoch, step.step_id)
            case FireTimers(run_id=run_id, node=node, epoch=epoch, version=version):
                self._check_version(index, run_id, version)
                self._check_author(index, "timers", run_id, node, epoch)
            case (
                EndRun(run_id=run_id, node=node, epoch=epoch, version=version)
                | ContinueRun(run_id=run_id, node=node, epoch=epoch, version=version)
            ):
                self._check_version(index, run_id, version)
                self._check_author(index, "the end", run_id, node, epoch)

    def _account_event(self, applier: WatchedNode, index: int, event: StateEvent) -> None:
        """Take down what happened, and check it."""
        match event:
            case CheckpointSet(run_id=run_id, step=step):
                self._recorded(index, run_id, step)
            case MessageSent(run_id=run_id, message=message):
                self.logs.added(run_id, message)
            case TimerFired(run_id=run_id, timers=timers):
                self.logs.added(run_id, timers)
            case CancelRequested(run_id=run_id, reason=reason, at=at):
                self.logs.added(run_id, CancelRecord(reason, at))
            case WorkflowContinued(run_id=run_id, generation=generation, carried=carried):
                records = tuple(applier.member.state.runs[run_id].records[:carried])
                self.messages.continued(run_id, generation, records)
                self.logs.continued(run_id, generation, records)
            case WorkflowStarted(run_id=run_id, version=version):
                self._versions[run_id] = version
                self.starts.setdefault(run_id, len(self.starts))
                run = applier.member.state.runs.get(run_id)
                if run is not None:  # nothing is recorded of one that came and went in one entry
                    self.logs.started(run_id, run.generation)
            case RunEvicted(run_id=run_id) | RunDeleted(run_id=run_id):
                self.ended.pop(run_id, None)
                self.logs.dropped(run_id, index)
            case RunMoved(run_id=run_id, version=version):
                self._versions[run_id] = version
                self.logs.moved(run_id, version)
            case RunPaused(run_id=run_id):
                self._pauses.paused(run_id, index)
            case RunResumed(run_id=run_id):
                self._pauses.over(run_id)
            case (
                WorkflowCompleted(run_id=run_id)
                | WorkflowFailed(run_id=run_id)
                | WorkflowCancelled(run_id=run_id)
                | WorkflowTerminated(run_id=run_id)
            ):
                if run_id in self.ended:
                    self.violated("a run ends once", f"run {run_id!r} ended at {self.ended[run_id]} and {index}")
                self.ended[run_id] = index
                self._pauses.over(run_id)
            case EpochChanged(node=node, term=term) if (node, term) != self._epoch:
                self.violated("epochs come from takeovers", f"entry {index} made an epoch of node {node}")
            case _:
                pass

    def _took_over(self, index: int, node: NodeId, term: int) -> None:
        if term <= self._epoch[1]:
            self.violated("epochs rise", f"entry {index} made term {term} an epoch after term {self._epoch[1]}", index)
        leader = self._leaders.get(term)
        if leader is not None and leader != node:
            self.violated("one acting epoch", f"node {node} took over in term {term}, which node {leader} led", term)
        self._epoch = (node, term)
        self._epochs_begin[term] = (index, self.logs.total)

    def _check_version(self, index: int, run_id: RunId, version: int) -> None:
        known = self._versions.get(run_id)
        if known is not None and version != known:
            self.violated(
                "only the code of a run records",
                f"entry {index} is of run {run_id!r} by version {version}, and that run executes version {known}",
                index,
            )

    def _check_author(
        self, index: int, part: str, run_id: RunId, node: NodeId, number: int, step_id: StepId | None = None
    ) -> None:
        what = f"{part} of run {run_id!r}"
        self._pauses.recorded(index, what, run_id, self._began(number)[0])
        author = self.owners.author(run_id, step_id) or self._epoch
        if (node, number) != author:
            self.violated(
                "only the current epoch records",
                f"entry {index} recorded {what} by node {node} under {number}, while node {author[0]} did its steps "
                f"under {author[1]}",
                index,
            )

    def _began(self, number: int) -> tuple[int, int]:
        """Return at which index an epoch or an assignment began, and how many records were made before."""
        given = self.owners.given(number)
        return self._epochs_begin.get(number, (0, 0)) if given is None else (given.at, given.records)

    def _recorded(self, index: int, run_id: RunId, step: Step) -> None:
        place = (self.logs.life(run_id), step.step_id)
        known = self.records.get(place)
        if known is not None:
            self.violated(
                "a step has one record",
                f"step {step.step_id!r} of run {run_id!r} was recorded at index {known[0]} and again at {index}",
                place,
            )
            return
        self.records[place] = (index, step)
        self.logs.added(run_id, step)
        if run_id in self.ended:
            self.violated(
                "a run ends once", f"step {step.step_id!r} of run {run_id!r} was recorded after its end", place
            )

    def installed(self, node: WatchedNode) -> None:
        """Check a state that a snapshot replaced: it is made of committed entries, and of no other history."""
        self.logs.installed(node)
        snapshot = node.journal.snapshot
        index = node.member.state.index
        if snapshot is None or snapshot.index != index:
            self.violated("a snapshot is of its index", f"node {node.number} read a state of entry {index}")
            return
        known = self.committed.get(index)
        if known is None or known[0] != snapshot.term:
            self.violated(
                "applied sequences are prefixes of one another",
                f"node {node.number} read a snapshot of entry {index} of term {snapshot.term}, others applied there "
                f"{'nothing' if known is None else f'one of term {known[0]}'}",
                index,
            )

    # --- execution

    def handed_over(self, node: WatchedNode, items: Sequence[HandedOver]) -> None:
        """Check what is delivered to an executor."""
        self.logs.handed_over(node, items)
        for item in items:
            match item:
                case RunDropped(run_id=run_id):
                    self._pauses.handed_over(node.number, node.incarnation.number, run_id, paused=False)
                case PauseChanged(run_id=run_id, paused=paused):
                    self._pauses.handed_over(node.number, node.incarnation.number, run_id, paused)
                case _:
                    pass

    def effect_started(self, node: WatchedNode, event: EffectStarted) -> None:
        """Check an effect that a node began: it acts, was given all that precedes its epoch, and the step was not recorded by then."""
        execution = node.executor.execution(event.run_id)
        term = node.executor.acting if execution is None else execution.rights.now(event.step_id)
        what = f"step {event.step_id!r} of run {event.run_id!r}"
        given = None if term is None else self.owners.given(term)
        if term is None or (given is None and term not in self._epochs_begin):
            self.violated("effects need an epoch", f"node {node.number} began {what} in term {term}", event)
            return
        if given is not None and (given.node, given.token) != (node.number, node.incarnation.offering.token):
            token = node.incarnation.offering.token
            text = f"node {node.number} began {what} under assignment {term}, of node {given.node}, start {given.token}, not {token}"
            self.violated(OWN_ASSIGNMENT, text, event)
        index, records = self._began(term)
        if node.records_handed_over < records:
            self.violated(
                "who acts has consumed what precedes its epoch",
                f"node {node.number} began {what} in term {term} with {node.records_handed_over} of the {records} records "
                f"that precede its epoch",
                (node.number, term),
            )
        life = self.logs.life(event.run_id)
        self._pauses.effect_started(node.number, node.incarnation.number, term, event.run_id, life, event.step_id)
        known = self.records.get((life, event.step_id))
        if known is not None and known[0] < index:
            self.violated(
                "who acts has consumed what precedes its epoch",
                f"node {node.number} began {what} in term {term} (from index {index}), and it is recorded since index "
                f"{known[0]}",
                (event.run_id, event.step_id),
            )

    @property
    def leaders(self) -> int:
        """The number of terms that had a leader."""
        return len(self._leaders)

    def acknowledged(self, node: WatchedNode | None, what: str, index: int) -> None:
        """Check an answer that a command is committed at an index: it is, on that node and in the log of all."""
        if index not in self.committed or (node is not None and node.member.state.index < index):
            self.violated("what was acknowledged stays", f"{what} was acknowledged at {index}, which nobody applied")

"""Events as sentences. Pure, and free of what differs between two equal notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftoral_nb.core.cluster_events import (
    CampaignAsked,
    ClusterRecovered,
    EffectStarted,
    ExecutionStopped,
    MessageTaken,
    NetworkChanged,
    NodeBlocked,
    NodeChanged,
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
from raftoral_nb.core.labels import offer_words
from raftoral_nb.core.sizes import size_words

from .words import counted, delay_words, group_words, link_list, node_words, recovered_words

if TYPE_CHECKING:
    from raftoral_nb.core.events import ClusterEvent

_SCENARIO: Final = {"acted": "did", "noted": "says", "completed": "is over", "stopped": "was stopped"}

_BECAME: Final = {
    "started": "started",
    "stopped": "stopped",
    "killed": "was killed",
    "restarted": "was restarted",
    "paused": "was paused",
    "resumed": "was resumed",
    "held": "is held: it executes no workflows",
    "released": "was released",
    "removed": "was removed: it is no longer a member",
}


def event_words(event: ClusterEvent) -> str:
    """One line about the event."""
    for words in (_run_words, _execution_words, _node_words, _cluster_words):
        if (said := words(event)) is not None:
            return said
    # An event that was added to the engine and not here is still shown.
    return str(event)


def _run_words(event: ClusterEvent) -> str | None:
    match event:
        case WorkflowStarted(run_id=run_id, workflow=workflow, version=version, parent=parent):
            by = "" if parent is None else f" by run {parent}"
            return f"run {run_id} of {workflow}, version {version}, started{by}"
        case CheckpointSet(run_id=run_id, step=step):
            result = "" if step.failure is None else f" as failed with {step.failure}"
            if step.cached_from is not None:
                result = f", cached from {step.cached_from}"
            return f"run {run_id}: step {step.step_id} was recorded by node {step.node}{result}"
        case StepStateSaved(run_id=run_id, step_id=step_id, number=number, size=size):
            return f"run {run_id}: step {step_id} saved its state, number {number} ({size:,} bytes)"
        case WorkflowCompleted(run_id=run_id):
            return f"run {run_id} completed"
        case WorkflowFailed(run_id=run_id, failure=failure):
            return f"run {run_id} failed with {failure}"
        case RunMoved(run_id=run_id, version=version, steps=steps):
            return f"run {run_id} was moved to version {version}, with {counted(steps, 'record')}"
        case WorkflowCancelled(run_id=run_id, failure=failure):
            return f"run {run_id} was cancelled{_because(failure.message)}"
        case WorkflowTerminated(run_id=run_id, failure=failure):
            return f"run {run_id} was terminated{_because(failure.message)}"
        case WorkflowContinued(run_id=run_id, generation=generation):
            return f"run {run_id} began anew, as generation {generation}"
        case MessageSent(run_id=run_id, message=message):
            if message.kind == "child":
                return f"run {run_id} is told that its child {message.name} has ended"
            return f"run {run_id} was sent the {message.kind} {message.name}"
        case TimerFired(run_id=run_id):
            return f"run {run_id}: timers fired that were due"
        case CancelRequested(run_id=run_id, reason=reason):
            return f"run {run_id} was asked to end{_because(reason)}"
        case RunPaused(run_id=run_id):
            return f"run {run_id} was paused"
        case RunResumed(run_id=run_id):
            return f"run {run_id} was resumed"
        case RunEvicted(run_id=run_id):
            return f"run {run_id} was evicted: its records were dropped, by {event.option}"
        case RunDeleted(run_id=run_id):
            return f"run {run_id} was deleted: its records were dropped"
        case RunAssigned(run_id=run_id, node=node):
            return (
                f"run {run_id} is owned by node {node}"
                if node
                else f"run {run_id} has no owner: the leader does its steps"
            )
        case StepBound(run_id=run_id, step_id=step_id, where=where, node=node):
            whom = f"is bound to node {node}" if node else "waits for a node"
            return f"run {run_id}: step {step_id} {whom}, with label {where}"
        case RunHeld(run_id=run_id, difference=difference):
            return f"run {run_id} is held, because its code does not match its record on any node: {difference.reason}"
    return None


def _execution_words(event: ClusterEvent) -> str | None:
    match event:
        case EffectStarted(node=node, run_id=run_id, step_id=step_id):
            return f"run {run_id}: node {node} began to run step {step_id}"
        case MessageTaken(node=node, run_id=run_id, message_id=message_id):
            return f"run {run_id}: node {node} took the message {message_id}"
        case StepRetrying(node=node, run_id=run_id, step_id=step_id, attempt=attempt, failure=failure):
            again = f"node {node} tries again in {event.seconds:.1f} s"
            return f"run {run_id}: attempt {attempt} at step {step_id} failed with {failure}; {again}"
        case StepProgress(run_id=run_id, step_id=step_id, fraction=fraction, text=text):
            return f"run {run_id}: step {step_id} is at {fraction:.0%}{': ' if text else ''}{text}"
        case NodeBlocked(node=node, run_id=run_id, where=where):
            return f"run {run_id} blocks the thread of node {node} at {where}; ctx.compute would run that beside it"
        case ValueHeld(run_id=run_id, reason=reason):
            return f"run {run_id} is held: {reason}"
        case ExecutionStopped(node=node, run_id=run_id, status=status, reason=reason):
            return f"run {run_id}: node {node} stopped executing it ({status}): {reason}"
    return None


def _node_words(event: ClusterEvent) -> str | None:
    match event:
        case EpochChanged(node=node, term=term):
            return f"node {node} took over in term {term}: it may act now"
        case NodeChanged(node=node, change=change):
            return f"node {node} {_BECAME.get(change, change)}"
        case NetworkChanged():
            return network_words(event)
        case TransferAsked(source=source, target=target):
            return f"node {source} was asked to hand leadership to node {target}"
        case CampaignAsked(nodes=nodes):
            return f"{node_words(nodes)} {'was' if len(nodes) == 1 else 'were'} told to campaign"
        case RoleChanged(node=node, role=role, term=term):
            return f"node {node} became {role} in term {term}"
        case MembersChanged(members=members):
            return f"the members are now the nodes {', '.join(map(str, members))}"
        case NumberReserved(node=node):
            return f"number {node} is reserved for a node that is to join"
        case SnapshotInstalled(node=node, index=index):
            return f"node {node} was too far behind for the log and took over the state as of entry {index}"
        case StorageFailed(node=node, reason=reason):
            return f"node {node} stepped aside, as its disk failed: {reason}"
        case UnauthenticatedConnectionsRefused(node=node, count=count, reason=reason):
            what = (
                f"node {node} refused a connection"
                if count == 1
                else f"{count} connections were refused, the last by node {node}"
            )
            return f"{what} {reason}"
    return None


def _cluster_words(event: ClusterEvent) -> str | None:
    match event:
        case WorkflowRegistered(workflow=workflow, version=version, replaced=replaced):
            return f"workflow {workflow}, version {version}, was {'replaced' if replaced else 'registered'}"
        case RetentionSet(keep_runs=runs, keep_bytes=size):
            return f"finished runs are kept up to keep_runs={runs}, keep_bytes='{size_words(size)}'"
        case NodeOffered(node=node, runs=runs, labels=labels):
            return f"node {node} offers to do {offer_words(runs, labels)}"
        case NodeWithdrawn(node=node):
            return f"node {node} does no steps any more: what it owned goes to others"
        case ValueLimitSet(max_value_bytes=size):
            return f"values of up to max_value_bytes='{size_words(size)}' are kept"
        case BlobsDropped(digests=digests):
            return f"no run refers to {counted(len(digests), 'blob')} any more"
        case WorkflowDropped(workflow=workflow, version=version):
            return f"workflow {workflow}, version {version}, was dropped: it is old and not in use"
        case CacheCleared(name=name, dropped=dropped):
            of = "" if name is None else f" of {name}"
            return f"the cache of steps was cleared: {counted(dropped, 'result')}{of}"
        case CommandRefused(code=code, reason=reason):
            return f"a command was refused ({code}): {reason}"
        case ScenarioChanged(scenario=scenario, change=change, text=text):
            return f"scenario {scenario} {_SCENARIO.get(change, change)}{f': {text}' if text else ''}"
        case RecoveryProgress(fraction=fraction, text=text):
            return f"recovering from the data directory, {fraction:.0%}: {text}"
        case ClusterRecovered():
            return recovered_words(event)
    return None


def network_words(event: NetworkChanged) -> str:
    """One line about what was done to links."""
    links = link_list(event.links)
    match event.change:
        case "partitioned":
            return f"the network was partitioned: {group_words(event.groups)}"
        case "isolated":
            return f"node {event.node} was isolated: no message passes to or from it"
        case "slowed":
            return f"{links} slowed: {delay_words(event.delay)} each way"
        case "cut one way":
            source, target = event.links[0]
            return f"link {source}-{target} was cut one way: nothing passes from node {source} to node {target}"
        case "cut" | "healed":
            return f"{links} {event.change}"
    return str(event)  # type: ignore[unreachable]


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""

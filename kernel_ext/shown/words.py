"""Events, registrations and other happenings as sentences. Pure, and free of what differs between two equal notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftoral_nb import model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raftoral_nb import Fault, Registration
    from raftoral_nb.model import ClusterEvent, ClusterRecovered
    from raftoral_nb.statistics import NodeStatistics

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
    "removed": "was removed: it is no member any more",
}

DONE: Final = {
    "kill": "killed",
    "restart": "restarted",
    "pause": "paused",
    "resume": "resumed",
    "hold": "held; its catch-up queues grow until it is released",
    "release": "released; its catch-up queues drain",
}
"""What is said of a node after the subcommand of that name."""

DONE_TO_RUN: Final = {
    "cancel": "is asked to end",
    "terminate": "is terminated",
    "pause": "is paused: no new step of it begins",
    "resume": "goes on",
}
"""The same of a run."""


def signal_words(run_id: str, name: str) -> str:
    """What is said after a signal was sent."""
    return f"run {run_id} was sent the signal {name}"


def event_words(event: ClusterEvent) -> str:
    """One line about the event."""
    match event:
        case model.EpochChanged(node=node, term=term):
            return f"node {node} took over in term {term}: it may act now"
        case model.WorkflowRegistered(workflow=workflow, version=version, replaced=replaced):
            return f"workflow {workflow}, version {version}, was {'replaced' if replaced else 'registered'}"
        case model.WorkflowStarted(run_id=run_id, workflow=workflow, version=version, parent=parent):
            by = "" if parent is None else f" by run {parent}"
            return f"run {run_id} of {workflow}, version {version}, started{by}"
        case model.CheckpointSet(run_id=run_id, step=step):
            result = "" if step.failure is None else f" as failed with {step.failure}"
            return f"run {run_id}: step {step.step_id} was recorded by node {step.node}{result}"
        case model.WorkflowCompleted(run_id=run_id):
            return f"run {run_id} completed"
        case model.WorkflowFailed(run_id=run_id, failure=failure):
            return f"run {run_id} failed with {failure}"
        case model.RunMoved(run_id=run_id, version=version, steps=steps):
            return f"run {run_id} was moved to version {version}, with {counted(steps, 'recorded step')}"
        case model.WorkflowDropped(workflow=workflow, version=version):
            return f"workflow {workflow}, version {version}, was dropped: it is old and not in use"
        case model.WorkflowCancelled(run_id=run_id, failure=failure):
            return f"run {run_id} was cancelled{_because(failure.message)}"
        case model.WorkflowTerminated(run_id=run_id, failure=failure):
            return f"run {run_id} was terminated{_because(failure.message)}"
        case model.WorkflowContinued(run_id=run_id, generation=generation):
            return f"run {run_id} began anew, as generation {generation}"
        case model.MessageSent(run_id=run_id, message=message):
            if message.kind == "child":
                return f"run {run_id} is told that its child {message.name} has ended"
            return f"run {run_id} was sent the {message.kind} {message.name}"
        case model.CancelRequested(run_id=run_id, reason=reason):
            return f"run {run_id} was asked to end{_because(reason)}"
        case model.RunPaused(run_id=run_id):
            return f"run {run_id} was paused"
        case model.RunResumed(run_id=run_id):
            return f"run {run_id} was resumed"
        case model.RunEvicted(run_id=run_id):
            return f"run {run_id}: its records were dropped"
        case model.CommandRefused(code=code, reason=reason):
            return f"a command was refused ({code}): {reason}"
        case model.NodeChanged(node=node, change=change):
            return f"node {node} {_BECAME.get(change, change)}"
        case model.NetworkChanged():
            return network_words(event)
        case model.TransferAsked(source=source, target=target):
            return f"node {source} was asked to hand leadership to node {target}"
        case model.CampaignAsked(nodes=nodes):
            return f"{node_words(nodes)} {'was' if len(nodes) == 1 else 'were'} told to campaign"
        case model.ScenarioChanged(scenario=scenario, change=change, text=text):
            return f"scenario {scenario} {_SCENARIO.get(change, change)}{f': {text}' if text else ''}"
        case model.RoleChanged(node=node, role=role, term=term):
            return f"node {node} became {role} in term {term}"
        case model.MembersChanged(members=members):
            return f"the members are now the nodes {', '.join(map(str, members))}"
        case model.NumberReserved(node=node):
            return f"number {node} is reserved for a node that is to join"
        case model.SnapshotInstalled(node=node, index=index):
            return f"node {node} was too far behind for the log and took over the state as of entry {index}"
        case model.StorageFailed(node=node, reason=reason):
            return f"node {node} stepped aside, as its disk failed: {reason}"
        case model.StrangersRefused(node=node, count=count, reason=reason):
            what = (
                f"node {node} refused a connection"
                if count == 1
                else f"{count} connections were refused, the last by node {node}"
            )
            return f"{what} {reason}"
        case model.RecoveryProgress(fraction=fraction, text=text):
            return f"recovering from the data directory, {fraction:.0%}: {text}"
        case model.ClusterRecovered():
            return recovered_words(event)
        case model.EffectStarted(node=node, run_id=run_id, step_id=step_id):
            return f"run {run_id}: node {node} began to run step {step_id}"
        case model.StepRetrying(node=node, run_id=run_id, step_id=step_id, attempt=attempt, failure=failure):
            again = f"node {node} tries again in {event.seconds:.1f} s"
            return f"run {run_id}: attempt {attempt} at step {step_id} failed with {failure}; {again}"
        case model.StepProgress(run_id=run_id, step_id=step_id, fraction=fraction, text=text):
            return f"run {run_id}: step {step_id} is at {fraction:.0%}{': ' if text else ''}{text}"
        case model.NodeBlocked(node=node, run_id=run_id, where=where):
            return f"run {run_id} blocks the thread of node {node} at {where}; ctx.compute would run that beside it"
        case model.ExecutionStopped(node=node, run_id=run_id, status=status, reason=reason):
            return f"run {run_id}: node {node} stopped executing it ({status}): {reason}"
        case model.RunHeld(run_id=run_id, difference=difference):
            return f"run {run_id} is held, as its code fits the record on no node: {difference.reason}"
    # An event that was added to the engine and not here is still shown.
    return str(event)  # type: ignore[unreachable]


def fault_words(done: Fault) -> str:
    """What was done, said to whoever asked for it; `done` has numbers, not names."""
    places = ", ".join(
        "-".join(map(str, place)) if isinstance(place, tuple) else f"node {place}" for place in done.places
    )
    match done.name:
        case "partition":
            return f"partitioned: {group_words([[int(node) for node in group] for group in done.groups])}"
        case "isolate":
            return f"{places} isolated: nothing passes to or from it until it is healed"
        case "cut" if done.one_way:
            source, target = places.split("-")
            return f"link {places} cut one way: what node {source} says does not reach node {target}"
        case "cut":
            return f"link {places} cut"
        case "slow":
            delay = delay_words(model.LinkDelay(done.delay, done.jitter))
            what = f"link {places}" if "-" in places else f"links of {places}"
            return f"{what} slowed: {delay} each way"
        case "transfer":
            return f"{places} leads"
        case "remove":
            return f"{places} removed: it counts no more, and its log is gone"
        case "campaign":
            return f"told to campaign: {places}"
    return str(done)


def done_words(done: Fault) -> str:
    """What was done, whichever fault it was; `done` has numbers, not names."""
    if done.name in DONE:
        return f"node {done.places[0]} {DONE[done.name]}"
    if done.name == "heal":
        return f"{', '.join(_place_words(place) for place in done.places) or 'everything'} healed"
    if done.name == "add":
        return "a node joined"
    return fault_words(done)


def _place_words(place: object) -> str:
    return f"link {'-'.join(map(str, place))}" if isinstance(place, tuple) else f"node {place}"


def healed_words(links: Sequence[tuple[int, int]]) -> str:
    """What was healed."""
    return f"{link_list(links)} healed" if links else "nothing to heal: no link is cut or slow there"


def network_words(event: model.NetworkChanged) -> str:
    """What was done to links, in one line."""
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


def link_list(links: Sequence[tuple[int, int]]) -> str:
    """`link 1-2`, `links 1-2, 1-3`."""
    named = ", ".join(f"{a}-{b}" for a, b in links)
    return f"link{'' if len(links) == 1 else 's'} {named}"


def group_words(groups: Sequence[Sequence[int]]) -> str:
    """`1 / 2 3`, as it is typed."""
    return " / ".join(" ".join(map(str, group)) for group in groups)


def delay_words(delay: model.LinkDelay | None) -> str:
    """`200 ms`, `200 ms ± 50 ms`."""
    if delay is None:
        return "as fast as ever"
    jitter = f" ± {_milliseconds(delay.jitter)}" if delay.jitter else ""
    return f"{_milliseconds(delay.seconds)}{jitter}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.4g} ms" if seconds < 10 else f"{seconds:.4g} s"


def node_words(nodes: Sequence[int]) -> str:
    """`node 1`, `nodes 1, 2`."""
    return f"node{'' if len(nodes) == 1 else 's'} {node_list(nodes)}"


def link_state(node: NodeStatistics) -> tuple[str, ...]:
    """What is wrong with a node's links, in a few words: `isolated`, `cut from 2`, `cannot hear 3`, `slow to 1, 2`."""
    links = node.links
    if len(links) > 0 and all(link.cut and link.cut_back for link in links.values()):
        return ("isolated",)
    found = []
    for words, peers in (
        ("cut from", [peer for peer, link in links.items() if link.cut and link.cut_back]),
        ("cannot reach", [peer for peer, link in links.items() if link.cut and not link.cut_back]),
        ("cannot hear", [peer for peer, link in links.items() if link.cut_back and not link.cut]),
        ("slow to", [peer for peer, link in links.items() if link.delay is not None]),
    ):
        if peers:
            found.append(f"{words} {node_list(peers)}")
    return tuple(found)


def outlives_words(name: str) -> str:
    """What is said of a cluster that goes on without its notebook."""
    return (
        f"cluster {name} outlives this notebook. In another one: %raftoral attach {name}. To end it: %raftoral stop, or "
        f"raftoral-nb stop {name} in a shell"
    )


def recovered_words(found: ClusterRecovered) -> str:
    """What a cluster went on from."""
    return (
        f"recovered {_many(found.runs, 'run')} ({found.unfinished} unfinished) with {_many(found.steps, 'recorded step')} and "
        f"{_many(found.workflows, 'workflow')} in {found.seconds:.1f} s"
    )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def size_words(size: int) -> str:
    """A size in bytes as whole kB or MB, rounded up: coarse on purpose, as pickles differ by a few bytes between Pythons."""
    kilobytes = max(1, -(-size // 1000))
    return f"{kilobytes} kB" if kilobytes < 1000 else f"{-(-kilobytes // 1000)} MB"


def registration_words(registration: Registration) -> str:
    """What became of a registration, and what the workflow took along."""
    who = f"{registration.workflow}, version {registration.version}"
    found = [f"  not deterministic: {finding}" for finding in registration.findings]
    if not registration.changed:
        return "\n".join([f"{who}: unchanged", *found])
    taken = [f"{one.name} ({one.kind}, {size_words(one.size)})" for one in registration.captured]
    lines = [f"{who}: registered; {'captured ' + ', '.join(taken) if taken else 'nothing captured'}"]
    if registration.unfinished:
        runs = ", ".join(registration.unfinished[:5]) + (", ..." if len(registration.unfinished) > 5 else "")
        lines.append(
            f"  {counted(len(registration.unfinished), 'unfinished run')} of other versions keep{'s' * (len(registration.unfinished) == 1)}"
            f" the code they started with ({runs}); to move one: %raftoral move RUN {registration.version}"
        )
    return "\n".join([*lines, *found])


def counted(number: int, one: str) -> str:
    """`1 step`, `2 steps`: a number with its noun."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def node_list(nodes: Iterable[int]) -> str:
    """`1, 2, 3`."""
    return ", ".join(map(str, nodes))

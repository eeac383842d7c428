"""The conservation of messages: each acknowledged one is received exactly once, or waits, or has ended with its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ..core.records import Message, NodeId, Record, RunId
from ..workflow.codec import values
from .observations import Observations, diary_of
from .run_logs import RunLogs, life

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .watched import WatchedNode

CONSERVED: Final = "every message is received once, or waits"

Violated = Callable[[str, str, "Hashable"], None]


class Conservation:
    """The account of messages, made of what the log says and of what the code of runs said that it got."""

    def __init__(self, violated: Violated, logs: RunLogs, observations: Observations) -> None:
        self.received = 0
        """Messages that the code of runs has got (of runs that have ended)."""
        self.carried = 0
        """Messages that went along when a run began anew."""
        self._violated = violated
        self._logs = logs
        self._observations = observations
        # By run, the messages whose senders know that they are recorded.
        self._acknowledged: dict[RunId, dict[str, None]] = {}

    def acknowledged(self, run_id: RunId, message_id: str) -> None:
        """Note that the sender of a message was told that it is recorded."""
        self._acknowledged.setdefault(run_id, {})[message_id] = None

    def continued(self, run_id: RunId, generation: int, records: Sequence[Record]) -> None:
        """Check what a run takes along: what it did not receive in the generation before, in order, and nothing else."""
        if not self._observations.turns:
            return  # nobody looks at turns
        before = life(run_id, generation - 1)
        got = self._observations.received(before)
        self.received += len(got)
        expected = [one for one in _messages(self._logs.records(before)) if one not in set(got)]
        carried = _messages(records)
        self.carried += len(carried)
        if carried != expected:
            self._violated(
                CONSERVED,
                f"run {run_id!r} began generation {generation} with the messages {carried}, and had not received {expected}",
                (run_id, generation),
            )

    def check(self, nodes: Mapping[NodeId, WatchedNode]) -> None:
        """Check, when all is over, what became of every message."""
        for number, node in nodes.items():
            for run_id, run in node.member.state.runs.items():
                execution = node.executor.execution(run_id)
                diary = None if execution is None else diary_of(execution)
                if execution is None or diary is None or run.status == "terminated":
                    continue
                sent = _messages(self._logs.records(life(run_id, run.generation)))
                found = Counter([*diary.received, *map(_said, execution.mailbox.waiting)])
                if found != Counter(sent):
                    lost, twice = Counter(sent) - found, found - Counter(sent)
                    text = f"run {run_id!r} on node {number}: {list(lost)} lost, {list(twice)} received again"
                    self._violated(CONSERVED, text, run_id)
        self._check_acknowledged()

    def _check_acknowledged(self) -> None:
        for run_id, sent in self._acknowledged.items():
            recorded: Counter[str] = Counter()
            received: Counter[str] = Counter()
            for generation in range(1, self._logs.generation(run_id) + 1):
                name = life(run_id, generation)
                received.update(self._observations.received(name))
                recorded.update(set(_messages(self._logs.records(name))))
            self.received += len(self._observations.received(self._logs.life(run_id)))
            for message_id in sent:
                if not recorded[message_id] or received[message_id] > 1:
                    text = f"message {message_id!r} to run {run_id!r} was acknowledged, and received {received[message_id]} times"
                    self._violated(CONSERVED, text, (run_id, message_id))


def _said(message: Message) -> str:
    """Return what was sent with a message: in a simulation a text that no other message to that run has."""
    return str(values.decode(message.value or b"", what="a simulated message"))


def _messages(records: Sequence[Record]) -> list[str]:
    """Return what was said by the signals and updates among the records."""
    return [_said(record) for record in records if isinstance(record, Message) and record.kind != "child"]

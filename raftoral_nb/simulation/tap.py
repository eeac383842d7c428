"""Messages of a simulation in its history, for the readers of a trace. What is noted changes nothing of what happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..core.records import NodeId
from ..transport.messages import (
    AppendEntries,
    Forward,
    Message,
    NextIndex,
    Outdated,
    PreVote,
    PreVoteGranted,
    RequestVote,
    ResponseVote,
)
from ..transport.network import Receiver

SENDS: Final = "sends"
GETS: Final = "gets"
"""The words of the history for a message that leaves, and for one that arrives."""

Note = Callable[[NodeId, str, str], None]
"""A function that adds to the history: node, what, details."""


class Tap(Receiver):
    """A listener between the network and a receiver: what `node` gets is noted by `note`, then passed on."""

    def __init__(self, node: NodeId, receiver: Receiver, note: Note) -> None:
        self._node = node
        self._receiver = receiver
        self._note = note

    def connected(self, peer: NodeId) -> None:
        """Pass on."""
        self._receiver.connected(peer)

    def disconnected(self, peer: NodeId) -> None:
        """Pass on."""
        self._receiver.disconnected(peer)

    def received(self, peer: NodeId, messages: Sequence[Message]) -> None:
        """Noted one by one, then passed on together."""
        for message in messages:
            self._note(self._node, GETS, f"from node {peer}: {message_words(message)}")
        self._receiver.received(peer, messages)


def message_words(message: Message) -> str:
    """Return a message in a line."""
    match message:
        case AppendEntries(term=term, prev_index=before, prev_term=before_term, entries=entries, commit_index=commit):
            place = f"behind {before} (of term {before_term}); committed up to {commit}"
            if not entries:
                return f"heartbeat of term {term}: nothing {place}"
            first, last = entries[0][1], entries[-1][1]
            which = f"entry {first}" if first == last else f"entries {first} to {last}"
            return f"append in term {term}: {which} {place}"
        case NextIndex(term=term, next_index=index, success=True):
            return f"done in term {term}: I have all up to entry {index - 1}"
        case NextIndex(term=term, next_index=index):
            return f"not done in term {term}: send me what follows entry {index - 1}"
        case RequestVote(term=term, last_log_index=index, last_log_term=last_term):
            return f"a vote in term {term}, please: my last entry is {index} of term {last_term}"
        case ResponseVote(term=term):
            return f"you have my vote in term {term}"
        case PreVote(term=term):
            return f"would you vote for me in term {term}?"
        case PreVoteGranted(term=term):
            return f"I would vote for you in term {term}"
        case Outdated(term=term):
            return f"we are in term {term} by now"
        case Forward(proposals=proposals):
            return f"please propose: {', '.join(type(one.command).__name__ for one in proposals)}"
    return type(message).__name__

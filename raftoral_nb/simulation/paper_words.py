"""Messages and log entries in the words of the Raft paper, for transcripts. `4/t2` is the entry at index 4, of term 2."""

from __future__ import annotations

from typing import Final

from ..core.entry_codec import decode_entry
from ..errors import ProtocolError
from ..hosts.log_words import command_words
from ..raft.journal import LogEntry, MemoryJournal
from ..transport.messages import (
    AppendEntries,
    BlobHeld,
    BlobOffer,
    BlobPiece,
    BlobWant,
    Forward,
    Message,
    NextIndex,
    Outdated,
    PreVote,
    PreVoteGranted,
    Refuse,
    RequestVote,
    ResponseVote,
    SnapshotPiece,
    SnapshotProgress,
    TimeoutNow,
)

OURS: Final = b"\x00"
"""First byte of the entries that hold commands; PySyncObj's own begin otherwise."""


def place(index: int, term: int | None) -> str:
    """Return an index of the log and the term of the entry there."""
    return f"{index}/t{term}"


def content_words(data: bytes) -> str:
    """Return what a log entry with this data holds."""
    if data[:1] != OURS:
        return "no-op" if data else "stands for a snapshot"
    try:
        entry = decode_entry(data[1:])
    except ProtocolError:
        return "what no node can read"
    words = "; ".join(command_words(proposal.command) for proposal in entry.proposals)
    return words if entry.members is None else f"{words}; members {' '.join(map(str, entry.members))}"


def entry_words(entry: LogEntry) -> str:
    """Return a log entry: where it stands, and what it holds."""
    data, index, term = entry
    return f"[{place(index, term)} {content_words(data)}]"


def message_words(message: Message) -> str:
    """Return a message in a line, as the paper calls it."""
    match message:
        case RequestVote(term=term, last_log_index=index, last_log_term=last_term):
            return f"RequestVote in term {term}: last entry {place(index, last_term)}"
        case ResponseVote(term=term):
            return f"RequestVote granted in term {term}"
        case PreVote(term=term, last_log_index=index, last_log_term=last_term):
            return f"PreVote for term {term}: last entry {place(index, last_term)}"
        case PreVoteGranted(term=term):
            return f"PreVote granted for term {term}"
        case AppendEntries(term=term, prev_index=index, prev_term=prev_term, entries=entries, commit_index=commit):
            what = " ".join(map(entry_words, entries)) or "no entries"
            return f"AppendEntries in term {term}: prev {place(index, prev_term)}, {what}, commit {commit}"
        case NextIndex(term=term, next_index=index, success=True):
            return f"AppendEntries accepted in term {term}: holds entries up to {index - 1}"
        case NextIndex(term=term, next_index=index):
            return f"AppendEntries refused in term {term}: send from {index} on"
        case Outdated(term=term):
            return f"refused: it is term {term}"
        case TimeoutNow(term=term):
            return f"TimeoutNow in term {term}: campaign at once"
        case SnapshotPiece(term=term, index=index, last_term=last_term, number=number, final=final):
            last = ", the last" if final else ""
            return f"InstallSnapshot in term {term}: up to {place(index, last_term)}, piece {number}{last}"
        case SnapshotProgress(term=term, expected=expected):
            return f"InstallSnapshot in term {term}: waits for piece {expected}"
        case BlobOffer(digest=digest, size=size):
            return f"blob {digest[:8]} of {size} bytes offered"
        case BlobHeld(digest=digest):
            return f"blob {digest[:8]} stored"
        case BlobWant(digest=digest, offset=offset):
            return f"blob {digest[:8]} wanted from byte {offset} on"
        case BlobPiece(digest=digest, offset=offset, data=data):
            return (
                f"blob {digest[:8]}: {len(data)} bytes from byte {offset} on"
                if data
                else f"blob {digest[:8]} is not here"
            )
        case Forward(proposals=proposals):
            return f"Forward: {'; '.join(command_words(proposal.command) for proposal in proposals)}"
        case Refuse(leader=leader, term=term):
            return (
                f"Forward refused: {'no leader is known' if leader is None else f'node {leader} leads'} in term {term}"
            )


def log_words(journal: MemoryJournal) -> str:
    """Return the log in short: which indexes are of which term, and what stands before them."""
    parts = []
    if journal.snapshot is not None:
        parts.append(f"snapshot up to {place(journal.snapshot.index, journal.snapshot.term)}")
    first = max(2, journal.first_index)  # entry 1 is the same on every node, and holds nothing
    while first <= journal.last_index:
        term, last = journal.term_at(first), first
        while journal.term_at(last + 1) == term:
            last += 1
        parts.append(f"{first}-{place(last, term)}" if last > first else place(first, term))
        first = last + 1
    return ", ".join(parts) or "empty"

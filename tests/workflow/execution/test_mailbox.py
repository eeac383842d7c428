"""The mailbox numbers messages: ids may repeat."""

from __future__ import annotations

from raftoral_nb.core.records import Message
from raftoral_nb.workflow.execution.mailbox import Mailbox


def test_two_messages_of_one_id_are_two_messages() -> None:
    """The state forgets ids in the end, and one that was sent again then comes again."""
    mailbox = Mailbox()
    for value in (b"first", b"second"):
        mailbox.arrive(Message("s1", "signal", "go", value))
    assert (len(mailbox), mailbox.left, mailbox.arrived) == (2, (1, 2), 2)
    first = mailbox.take_now("signal", "go")
    assert first is not None
    assert (first.value, mailbox.left, mailbox.taken) == (b"first", (2,), 1)
    second = mailbox.take_now("signal", "go")
    assert second is not None
    assert (second.value, mailbox.left) == (b"second", ())
    assert mailbox.take_now("signal", "go") is None

"""Messages that are lost, or received again, are found: by hand, without a simulation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raftoral_nb.core.records import CancelRecord, Message
from raftoral_nb.simulation.conservation import CONSERVED, Conservation
from raftoral_nb.simulation.diaries import DIARY, Diary
from raftoral_nb.simulation.observations import Observations
from raftoral_nb.simulation.run_logs import RunLogs
from raftoral_nb.workflow.codec import values


def message(message_id: str) -> Message:
    return Message(f"id of {message_id}", "signal", "word", values.encode(message_id, what="a word"))


class Account:
    """A run that was sent a, b and c, and whose code has received what the test says."""

    def __init__(self) -> None:
        self.found: list[str] = []

        def violated(invariant: str, text: str, _place: object) -> None:
            assert invariant == CONSERVED
            self.found.append(text)

        self.logs = RunLogs(violated)
        self.observations = Observations(violated)
        self.observations.turns = 1
        self.messages = Conservation(violated, self.logs, self.observations)
        for message_id in "abc":
            self.logs.added("r", message(message_id))
            self.messages.acknowledged("r", message_id)
        self.logs.added("r", CancelRecord("", 0.0))

    def received(self, *message_ids: str, life: str = "r") -> None:
        self.observations._received[life] = list(message_ids)

    def continued(self, *carried: str) -> None:
        records = [message(message_id) for message_id in carried]
        self.messages.continued("r", 2, records)
        self.logs.continued("r", 2, records)

    def ended(self, *received: str, waiting: tuple[str, ...] = (), status: str = "completed") -> None:
        ctx = SimpleNamespace(on_query=lambda name, fn: None)
        diary = Diary(ctx)  # type: ignore[arg-type]
        diary.received += received
        execution = SimpleNamespace(
            queries=SimpleNamespace(functions={DIARY: lambda: diary}),
            mailbox=SimpleNamespace(waiting=[message(message_id) for message_id in waiting]),
        )
        run = SimpleNamespace(status=status, generation=self.logs.generation("r"))
        node: Any = SimpleNamespace(
            member=SimpleNamespace(state=SimpleNamespace(runs={"r": run})),
            executor=SimpleNamespace(execution=lambda run_id: execution),
        )
        self.received(*received, life=self.logs.life("r"))
        self.messages.check({1: node})


@pytest.fixture
def account() -> Account:
    return Account()


def test_what_was_not_received_goes_along_and_nothing_else(account: Account) -> None:
    account.received("b")
    account.continued("a", "c")
    account.ended("c", waiting=("a",))
    assert not account.found


@pytest.mark.parametrize("carried", ["a", "abc", "ca", ""])
def test_a_message_that_does_not_go_along_or_goes_though_it_was_received_or_overtakes_another_is_found(
    account: Account, carried: str
) -> None:
    account.received("b")
    account.continued(*carried)
    assert account.found


def test_what_neither_was_received_nor_waits_when_the_run_ends_is_found(account: Account) -> None:
    account.ended("a", waiting=("b",))
    assert account.found == ["run 'r' on node 1: ['c'] lost, [] received again"]


def test_what_was_received_twice_is_found(account: Account) -> None:
    account.ended("a", "b", "c", "c")
    assert "run 'r' on node 1: [] lost, ['c'] received again" in account.found


def test_a_terminated_run_may_leave_anything(account: Account) -> None:
    account.ended("a", status="terminated")
    assert not account.found


def test_a_message_that_was_acknowledged_and_is_in_no_log_is_found(account: Account) -> None:
    account.messages.acknowledged("r", "d")
    account.ended("a", "b", "c")
    assert account.found == ["message 'd' to run 'r' was acknowledged, and received 0 times"]

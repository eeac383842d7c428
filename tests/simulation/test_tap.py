"""Messages in the history of a simulation, and simulations inside of notebooks."""

from __future__ import annotations

import asyncio
import threading

import pytest

from raftoral_nb import Cluster, ClusterError
from raftoral_nb.simulation.simulation import simulate
from raftoral_nb.simulation.tap import GETS, SENDS, message_words
from raftoral_nb.transport.messages import (
    AppendEntries,
    Message,
    NextIndex,
    Outdated,
    PreVote,
    PreVoteGranted,
    RequestVote,
    ResponseVote,
    TimeoutNow,
)

SEED = 3


def test_messages_are_noted_between_the_given_seconds_and_change_nothing() -> None:
    plain = simulate(SEED, nodes=3, schedule="delays")
    tapped = simulate(SEED, nodes=3, schedule="delays", messages=(10.0, 12.0))
    noted = [item for item in tapped.history if item[2] in (SENDS, GETS)]
    assert tapped.digest == plain.digest
    assert [item for item in tapped.history if item not in noted] == list(plain.history)
    assert {what for _, _, what, _ in noted} == {SENDS, GETS}
    assert all(10.0 <= time <= 12.0 for time, *_ in noted)
    sent = sum(what == SENDS for _, _, what, _ in noted)
    assert 0 < len(noted) <= 2 * sent + 50


def test_a_simulation_runs_where_a_loop_runs_already_as_in_a_notebook() -> None:
    async def cell() -> str:
        return simulate(SEED, nodes=3, schedule="delays").digest

    assert asyncio.run(cell()) == simulate(SEED, nodes=3, schedule="delays").digest


def test_a_simulation_takes_no_thread_as_there_are_none_in_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def cell() -> str:
        return simulate(SEED, nodes=3, schedule="delays").digest

    here = simulate(SEED, nodes=3, schedule="delays").digest
    monkeypatch.setattr(threading.Thread, "start", start)
    assert asyncio.run(cell()) == here


def test_no_rule_is_left_out_while_a_cluster_runs_in_the_process() -> None:
    with Cluster(1, network="memory"), pytest.raises(ClusterError, match="stop it first"):
        simulate(SEED, without="answers_carry_terms")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (AppendEntries(2, 5, 1, (), 4), "heartbeat of term 2: nothing behind 5 (of term 1); committed up to 4"),
        (
            AppendEntries(2, 5, 1, ((b"", 6, 2),), 4),
            "append in term 2: entry 6 behind 5 (of term 1); committed up to 4",
        ),
        (
            AppendEntries(2, 5, 1, ((b"", 6, 2), (b"", 7, 2)), 4),
            "append in term 2: entries 6 to 7 behind 5 (of term 1); committed up to 4",
        ),
        (NextIndex(2, 7, success=True, reset=False), "done in term 2: I have all up to entry 6"),
        (NextIndex(2, 7, success=False, reset=True), "not done in term 2: send me what follows entry 6"),
        (RequestVote(3, 6, 2), "a vote in term 3, please: my last entry is 6 of term 2"),
        (ResponseVote(3), "you have my vote in term 3"),
        (PreVote(3, 6, 2), "would you vote for me in term 3?"),
        (PreVoteGranted(3), "I would vote for you in term 3"),
        (Outdated(3), "we are in term 3 by now"),
        (TimeoutNow(3), "TimeoutNow"),
    ],
)
def test_a_message_is_told_in_a_line(message: Message, words: str) -> None:
    assert message_words(message) == words

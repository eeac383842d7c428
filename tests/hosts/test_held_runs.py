"""What is known of runs that handles are on: how they ended, as long as somebody holds them, and not longer."""

from __future__ import annotations

import gc
import threading

import pytest

from raftoral_nb.core.commands import DeleteRun, SetRetention
from raftoral_nb.core.events import (
    RunDeleted,
    RunEvicted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from raftoral_nb.core.state import State
from raftoral_nb.hosts.held_runs import HeldRuns, not_found
from raftoral_nb.raft.blob_store import MemoryBlobs
from raftoral_nb.workflow.codec import blobs, values
from tests.core.commands import FAILURE, done, end, running


def test_the_end_of_a_run_is_known_while_somebody_holds_it() -> None:
    runs = HeldRuns()
    held = runs.hold("r1", State())
    assert runs.ended("r1") is None
    runs.told(WorkflowCompleted("r1", b"done"))
    runs.told(WorkflowCompleted("r2", b"nobody holds it"))
    assert runs.hold("r1", State()) is held
    assert held.ended == ("completed", b"done")
    assert (runs.ended("r1"), runs.ended("r2")) == (b"done", None)
    del held
    gc.collect()
    assert runs.ended("r1") is None


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (WorkflowFailed("r1", FAILURE), "failed"),
        (WorkflowCancelled("r1", FAILURE), "cancelled"),
        (WorkflowTerminated("r1", FAILURE), "terminated"),
    ],
)
def test_a_run_that_did_not_complete_has_its_status_and_failure(event: WorkflowFailed, status: str) -> None:
    runs = HeldRuns()
    held = runs.hold("r1", State())
    runs.told(event)
    assert held.ended == (status, FAILURE)


def test_a_run_that_has_ended_before_is_known_from_the_state() -> None:
    state = running("r1", "r2")
    done(state, end("r1"))
    runs = HeldRuns()
    held, other = runs.hold("r1", state), runs.hold("r2", state)
    assert (runs.ended("r1"), runs.ended("r2")) == (b"done", None)
    done(state, end("r2"))
    runs.skipped(state)
    assert other.ended == ("completed", b"done")
    runs.skipped(running("r1", "r2"))
    assert held.ended == other.ended == ("completed", b"done"), "a state of before takes nothing back"


@pytest.mark.parametrize("event", [RunDeleted("r1"), WorkflowStarted("r1", "order", 1)])
def test_a_deleted_run_and_one_whose_id_another_run_has_are_forgotten(event: RunDeleted) -> None:
    runs = HeldRuns()
    held = runs.hold("r1", State())
    runs.told(WorkflowCompleted("r1", b"done"))
    runs.told(event)
    assert held.ended is None


def test_a_large_result_is_taken_along_when_its_run_is_evicted() -> None:
    runs, store = HeldRuns(), MemoryBlobs()
    held = runs.hold("r1", State())
    value = values.encode(b"x" * 1_000_000, what="a result")
    assert isinstance(value, blobs.Carried)
    store.put(value.ref.digest, value.content, lambda error: None)
    runs.told(WorkflowCompleted("r1", bytes(value)))
    runs.told(RunEvicted("r1"))
    for thread in threading.enumerate():
        if thread.name == "raftoral-nb-held-result":
            thread.join(30)
    store.remove([value.ref.digest])
    del value
    assert held.ended is not None
    assert isinstance(held.ended[1], bytes)
    assert values.decode(held.ended[1], what="a result") == b"x" * 1_000_000


def test_the_error_of_a_run_that_is_not_known_says_why_it_is_not() -> None:
    state = running("r1", "r2")
    done(state, end("r1"))
    done(state, end("r2"))
    done(state, SetRetention(1))
    assert "(keep_runs=1, keep_bytes=1000000000): cluster.set_retention(keep_runs=" in str(not_found(state, "r1"))
    done(state, DeleteRun("r2", 1))
    assert str(not_found(state, "r2")) == "run 'r2' was deleted"
    assert "never started, or its records were evicted" in str(not_found(state, "r3"))

"""`RetryAfter` says the same wherever the function of a step runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from raftoral_nb import Cluster, Retry, RetryAfter, WorkflowContext, step


class BusyError(Exception):
    pass


class GoneError(Exception):
    pass


def plainly() -> None:
    raise RetryAfter(0.01)


def with_a_cause() -> None:
    raise RetryAfter(0.01, cause=BusyError("the service is busy"))


def raised_from() -> None:
    raise RetryAfter(0.01) from BusyError("the service is busy")


def raised_from_another_cause() -> None:
    raise RetryAfter(0.01, cause=GoneError("said before")) from BusyError("the service is busy")


def with_a_final_cause() -> None:
    raise RetryAfter(0.01, cause=GoneError("it will not come back"))


@pytest.mark.parametrize("on", [None, "pool", "processes"])
def test_a_step_that_asks_for_another_time_fails_in_the_end_with_the_cause_it_gave(on: str | None) -> None:
    async def flow(ctx: WorkflowContext, on: str | None) -> list[tuple[str, str]]:
        failures = []
        for function in (plainly, with_a_cause, raised_from, raised_from_another_cause, with_a_final_cause):
            try:
                await ctx.compute("ask", step(function, on=on, retry=Retry(attempts=2, final=(GoneError,))))
            except Exception as failure:
                failures.append((type(failure).__name__, str(failure)))
        return failures

    with Cluster(1, executors={"pool": lambda: ThreadPoolExecutor(1)}) as cluster:
        cluster.register_workflow(flow)
        run = cluster.start_workflow(flow, on)
        assert run.wait_for_completion(timeout=60) == [
            ("RetryAfter", "to be tried again after 0.01 s"),
            ("BusyError", "the service is busy"),
            ("BusyError", "the service is busy"),
            ("BusyError", "the service is busy"),
            ("GoneError", "it will not come back"),
        ]
        said = [line.text for line in cluster.log() if "attempt 1 of 2" in line.text]
        assert len(said) == 4, "a final cause leaves no other attempt"
        assert all("\n" not in text and "busy; again in" in text for text in said[1:])

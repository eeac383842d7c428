"""What registering a workflow says about its code."""

from __future__ import annotations

import time

import pytest

from raftoral_nb import NonDeterminismWarning, NonDeterministicCodeError, WorkflowContext, WorkflowDefinitionError
from raftoral_nb.testing import workflow_test


async def stamp(ctx: WorkflowContext, _: None) -> float:
    return time.time()


async def wait(ctx: WorkflowContext, _: None) -> int:
    return await ctx.compute("a step", lambda: 1)


async def wait_longer(ctx: WorkflowContext, _: None) -> int:
    return await ctx.compute("a step", lambda: 2)


def test_code_that_is_not_deterministic_is_warned_of_at_its_own_line() -> None:
    with workflow_test() as test, pytest.warns(NonDeterminismWarning) as caught:
        registration = test.cluster.register_workflow(stamp)
    (warning,) = caught
    (finding,) = registration.findings
    assert (warning.filename, warning.lineno) == (__file__, finding.line)
    assert "Instead: await ctx.now()" in str(warning.message)


def test_a_strict_registration_refuses_it_and_registers_nothing() -> None:
    with workflow_test() as test:
        with pytest.raises(NonDeterministicCodeError, match=r"time\.time\(\)") as caught:
            test.cluster.register_workflow(stamp, strict=True)
        assert isinstance(caught.value, WorkflowDefinitionError)
        assert len(caught.value.findings) == 1
        assert not test.cluster.workflows
        assert test.cluster.register_workflow(wait, strict=True).changed


def test_a_new_version_lives_beside_the_old_one_and_names_the_runs_that_keep_it() -> None:
    with workflow_test() as test:
        test.cluster.register_workflow("wait", wait)
        run = test.start("wait", None)
        registration = test.cluster.register_workflow("wait", wait_longer)
        assert (registration.version, registration.unfinished) == (2, (run.run_id,))
        assert test.cluster.workflows["wait"] == (1, 2)
        newer = test.start("wait", None)
        assert (test.finish(run), test.finish(newer)) == (1, 2)
        assert (run.version, newer.version) == (1, 2)

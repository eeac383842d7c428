"""A handle on one run: its status, its steps, and waiting for its result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from . import collect
from .bridge import current_poster, wait_for
from .errors import BlockingCallError, CompletionTimeoutError, RaftoralError, RunNotFoundError, WorkflowFailedError
from .model import Difference, Failure, RunId, Step
from .statistics import RunStatus
from .threads import on_own_thread, refuse_on_own_thread
from .workflow import failures, values

if TYPE_CHECKING:
    from .host import Host

O = TypeVar("O")  # noqa: E741 - input and output are I and O everywhere

Ending = bytes | Failure | RaftoralError
"""How waiting for a run ends: the encoded result, the run's failure, or why there will be neither."""


class WaitInterruptedError(KeyboardInterrupt):
    """An interrupt while waiting for a run; a notebook shows it in one line. The run goes on."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


class AwaitCancelledError(asyncio.CancelledError):
    """A cancellation (in a kernel: an interrupt) while awaiting a run; a notebook shows it in one line. The run goes on."""

    def __init__(self, run_id: RunId, original: asyncio.CancelledError) -> None:
        super().__init__(*original.args)
        self._run_id = run_id

    def _render_traceback_(self) -> list[str]:
        return [f"CancelledError: waiting for run {self._run_id!r} was interrupted; the run goes on"]


class WorkflowRun(Generic[O]):
    """One run of a workflow. `await run` or `run.wait_for_completion()` give its result, as often as asked.

    Handles are cheap and hold no resources. One whose cluster has stopped still knows what was known then.
    """

    def __init__(self, host: Host, run_id: RunId, workflow: str, version: int) -> None:
        self._host = host
        self._run_id = run_id
        self._workflow = workflow
        self._version = version

    @property
    def run_id(self) -> RunId:
        """The run's id, unique in its cluster."""
        return self._run_id

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        return self._workflow

    @property
    def version(self) -> int:
        """The version of the workflow that this run executes: the one it started with, unless it was moved since."""
        record = self._host.head().runs.get(self._run_id)
        return self._version if record is None else record.definition.version

    @property
    def status(self) -> RunStatus:
        """`running`, `completed` or `failed`, as the most advanced living node knows it."""
        return self._host.run_record(self._run_id).status

    @property
    def held(self) -> Difference | None:
        """Why the run stands still: on every living node the code differs from the record. None if it does not.

        It goes on as soon as it is moved to a version that fits (`move_to_version`), or a node is restarted that fits.
        """
        return collect.held(self._host, self._run_id)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The recorded steps so far, in the order they were recorded."""
        return tuple(self._host.run_record(self._run_id).steps)

    def move_to_version(self, version: int) -> None:
        """Have the run go on with another registered version of its workflow, if that fits all that is recorded of it.

        First the record is replayed against the new code, here and without effects; then every node executes the run from the
        top with the new code, taking the recorded steps. A step that was being done meanwhile is done again. Raises
        `NonDeterminismError` with the first difference if the code does not fit (`ctx.patched` makes it), `RunEndedError` if the
        run has ended, `WorkflowNotFoundError` if there is no such version, `RunConflictError` if the run goes on too fast to be
        checked, `NotAcknowledgedError`, and `BlockingCallError` on one of the cluster's own threads.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     await ctx.compute("packed", lambda: "packed")
        ...     await ctx.compute("sent", anyio.sleep, 3600)
        >>> async def better(ctx, item):
        ...     await order(ctx, item)
        ...     return f"{item} sent"
        >>> with workflow_test() as test:
        ...     run = test.start(order, "A1")
        ...     test.settle()
        ...     run.move_to_version(test.cluster.register_workflow("order", better).version)
        ...     test.finish(run)
        'A1 sent'
        """
        from . import moving

        moving.move(self._host, self._run_id, version)

    def save_history(self, path: str | Path) -> Path:
        """Write what is recorded of the run so far to a JSON file, for `raftoral_nb.testing.replay_history`; returns its path.

        The format is described in `raftoral_nb.history_files`. Raises `OSError` if the file cannot be written.
        """
        from . import history_files

        return history_files.save(self._host.run_record(self._run_id), path)

    def value(self, step: Step | str) -> Any:
        """The decoded value of a recorded step, given as such, by its step_id, or by its key if that is unique.

        Raises `RunNotFoundError` if no such step is recorded, and the step's own failure if it failed.
        """
        if isinstance(step, str):
            found = [one for one in self.steps if step in (one.step_id, one.key)]
            exact = [one for one in found if one.step_id == step] or found
            if len(exact) != 1:
                known = ", ".join(one.step_id for one in self.steps[:20]) or "none"
                problem = "has no step" if not exact else "has several steps"
                raise RunNotFoundError(f"run {self._run_id!r} {problem} {step!r}; recorded steps: {known}")
            step = exact[0]
        if step.failure is not None:
            raise failures.rebuild(step.failure, step_id=step.step_id)
        return values.decode(step.value or b"", what=f"step {step.step_id!r} of run {self._run_id!r}")

    def wait_for_completion(self, timeout: float | None = None) -> O:
        """Block until the run ends, at most `timeout` seconds, and return its result.

        Raises `WorkflowFailedError` if the run failed, `CompletionTimeoutError` if it has not ended in time (it goes on),
        `ClusterError` if the cluster stops first, and `BlockingCallError` on one of the cluster's own threads.
        """
        refuse_on_own_thread("run.wait_for_completion()")
        ended = threading.Event()
        endings: list[Ending] = []

        def end(ending: Ending) -> None:
            endings.append(ending)
            ended.set()

        forget = self._host.when_ended(self._run_id, end)
        try:
            if not _waited(ended, timeout, self._run_id):
                raise CompletionTimeoutError(f"run {self._run_id!r} has not ended within {timeout} s; it goes on")
        finally:
            forget()
        return self._result(endings[0])

    def __await__(self) -> Generator[Any, Any, O]:
        return self._wait().__await__()

    async def _wait(self) -> O:
        if on_own_thread():
            raise BlockingCallError(
                f"run {self._run_id!r} was awaited inside a workflow, whose steps must not depend on how fast another run is. "
                "Wait for it outside, and give its result to this workflow as input."
            )
        ended = anyio.Event()
        endings: list[Ending] = []
        post = current_poster()

        def end(ending: Ending) -> None:
            endings.append(ending)
            post(ended.set)

        forget = self._host.when_ended(self._run_id, end)
        try:
            await wait_for(ended)
        except asyncio.CancelledError as error:
            # The same cancellation, its arguments kept: anyio knows its own by them. Only its looks are ours.
            raise AwaitCancelledError(self._run_id, error) from None
        finally:
            forget()
        return self._result(endings[0])

    def _result(self, ending: Ending) -> O:
        if isinstance(ending, RaftoralError):
            raise ending
        if isinstance(ending, Failure):
            error = WorkflowFailedError(self._run_id, ending)
            cause = failures.rebuild(ending, step_id="")
            raise error from (cause if ending.exception is not None else None)
        result: O = values.decode(ending, what=f"result of run {self._run_id!r}")
        return result

    def __repr__(self) -> str:
        return f"<WorkflowRun {self._run_id!r} of {self._workflow} v{self._version}>"


def _waited(ended: threading.Event, timeout: float | None, run_id: RunId) -> bool:
    try:
        return ended.wait(timeout)
    except KeyboardInterrupt:
        raise WaitInterruptedError(f"waiting for run {run_id!r} was interrupted; the run goes on") from None

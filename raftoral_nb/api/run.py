"""A handle on one run: its status, its steps, and waiting for its result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from ..core.events import ClusterEvent, StateEvent
from ..core.labels import label_words
from ..core.records import Difference, Failure, Message, NodeId, Record, RunId, Step
from ..core.statistics import RunCode, RunStatus
from ..errors import BlockingCallError, CompletionTimeoutError, RaftoralError, RunNotFoundError, failed_error
from ..hosts import collect_statistics, history
from ..hosts.backend_parts import RunEnding
from ..threads.loop_thread import on_own_thread, refuse_on_own_thread
from ..threads.seconds import Seconds, patience
from ..threads.user_loop import current_poster, wait_for
from ..workflow.codec import failures, values
from . import run_requests
from .progress import Progress
from .variable_values import VariableWait

if TYPE_CHECKING:
    from ..hosts.backend_parts import RunsBackend
    from ..hosts.held_runs import HeldRun

O = TypeVar("O")  # noqa: E741 - input and output are I and O everywhere


class WaitInterruptedError(KeyboardInterrupt):
    """An interrupt while waiting for a run; a notebook shows it in one line. The run continues."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


class AwaitCancelledError(asyncio.CancelledError):
    """A cancellation (in a kernel: an interrupt) while awaiting a run; a notebook shows it in one line. The run continues."""

    def __init__(self, run_id: RunId, original: asyncio.CancelledError) -> None:
        super().__init__(*original.args)
        self._run_id = run_id

    def __str__(self) -> str:
        # In place of the arguments, which are kept for whoever cancelled.
        return f"waiting for run {self._run_id!r} was interrupted; the run continues"

    def _render_traceback_(self) -> list[str]:
        return [f"CancelledError: {self}"]


class WorkflowRun(Generic[O]):
    """One run of a workflow. `await run` or `run.wait_for_completion()` give its result, as often as asked.

    Handles are cheap. One whose cluster has stopped still knows what was known then. As long as there is a handle on a run, the
    run's status and result can be asked for, also when its records were evicted meanwhile (`keep_runs`, `keep_bytes`): steps and all else are
    gone then, and raise `RunNotFoundError`. Not so if this process was cut off from the nodes until both had happened.
    """

    def __init__(
        self, host: RunsBackend, run_id: RunId, workflow: str, version: int, held: HeldRun | None = None
    ) -> None:
        self._host = host
        # Never read from here but for the status: while it lives, the host knows how the run ended.
        self._held = host.hold(run_id) if held is None else held
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
        """`running`, `paused`, `completed`, `failed`, `cancelled` or `terminated`, as the most advanced living node knows it.

        Raises `RunNotFoundError` if the run is gone, and ended while there was no handle on it.
        """
        record = self._host.head().runs.get(self._run_id)
        if record is None and self._held.ended is not None:
            return self._held.ended[0]
        return self._host.run_record(self._run_id).status

    @property
    def held(self) -> Difference | None:
        """The reason why the run stands still: on every living node the code differs from the record. Else None.

        It continues once it is moved to a version that fits (`move_to_version`), or a node that fits is restarted.
        """
        return self._host.held(self._run_id)

    @property
    def held_value(self) -> str | None:
        """The reason why the run waits with a value that the cluster does not keep now, and what to do about it. Else None.

        Nothing is lost: it goes on, without computing anything again, when there is room, or `cluster.set_max_value_bytes` lets it.
        """
        return collect_statistics.held_value(self._host, self._run_id)

    @property
    def parent(self) -> RunId | None:
        """The run_id of the run that started this one as its child; None if none did."""
        return self._host.run_record(self._run_id).parent

    @property
    def owner(self) -> NodeId | None:
        """The node that does its steps, or did last; None if the leader does: see `Cluster(spread_runs=...)`."""
        return self._host.run_record(self._run_id).owner or None

    @property
    def generation(self) -> int:
        """The number of times the run has begun (see `ctx.continue_as_new`), from 1; runs that had its id before count too."""
        return self._host.run_record(self._run_id).generation

    @property
    def steps(self) -> tuple[Step, ...]:
        """The recorded steps so far, in the order they were recorded."""
        return tuple(self._host.run_record(self._run_id).steps)

    @property
    def records(self) -> tuple[Record, ...]:
        """Everything that is recorded of the run so far, in the order of the log: each record has one turn on each node.

        That is its steps, and what came to it otherwise: messages, ends of children, timers that fired, the request to cancel, moves to
        other versions. After `ctx.continue_as_new` those of the present generation.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     who = await ctx.receive("approve")
        ...     return await ctx.compute("charge", lambda: item)
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea")
        ...     id = run.signal("approve", "Ada")
        ...     paid = test.finish(run)
        ...     [type(record).__name__ for record in run.records]
        ['Message', 'Step']
        """
        return tuple(self._host.run_record(self._run_id).records)

    def move_to_version(self, version: int) -> None:
        """Move the run to another registered version of its workflow, if that fits all that is recorded of it.

        First the records are replayed against the new code, here and without effects. Then every node executes the run from the
        top with the new code and the recorded steps. A step that was running meanwhile is done again. Raises
        `NonDeterminismError` with the first difference if the code does not fit (`ctx.patched` makes it), `RunEndedError` if the
        run has ended, `WorkflowNotFoundError` if there is no such version, `RunConflictError` if the run advances too fast to be
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
        from . import move_run

        move_run.move(self._host, self._run_id, version)

    def code(self) -> RunCode:
        """Return the code that the run executes, and the line of it that each living node waits at.

        Found out without asking the nodes: it costs them nothing, and is a look at one moment. Of a node whose execution has
        ended there is no place. Raises `RunNotFoundError`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return await ctx.receive("payment")
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea")
        ...     test.settle()
        ...     {node: place.function for node, (place,) in run.code().places.items()}
        {1: 'order', 2: 'order', 3: 'order'}
        """
        return self._host.run_code(self._run_id)

    def save_history(self, path: str | Path) -> Path:
        """Write what is recorded of the run so far to a JSON file, for `raftoral_nb.testing.replay_history`; returns its path.

        The format is described in `raftoral_nb.api.history_files`. Raises `OSError` if the file cannot be written.
        """
        from . import history_files

        return history_files.save(self._host.run_record(self._run_id), path)

    @property
    def started_at(self) -> datetime:
        """The time of its start (UTC, by the clock of whoever asked for it)."""
        return datetime.fromtimestamp(self._host.run_record(self._run_id).start_time, UTC)

    @property
    def ended_at(self) -> datetime | None:
        """The time of its end (UTC, by the clock of the node that recorded it); None while it has not."""
        ended = self._host.run_record(self._run_id).end_time
        return None if ended is None else datetime.fromtimestamp(ended, UTC)

    def history(self) -> tuple[tuple[float, StateEvent], ...]:
        """Return everything that is recorded of the run, as events with their times (Unix seconds), oldest first.

        Times are those of the nodes that proposed them. Complete as long as the run's records are held, unlike
        `cluster.history()`: but for steps of generations that are over (`ctx.continue_as_new`).

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return await ctx.compute("charge", lambda: item)
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea")
        ...     paid = test.finish(run)
        ...     [type(event).__name__ for time, event in run.history()]
        ['WorkflowStarted', 'CheckpointSet', 'WorkflowCompleted']
        """
        return history.history(self._host.run_record(self._run_id))

    def to_frame(self) -> Any:
        """`history()` as a pandas DataFrame: time, event, step_id, operation, node, epoch, value, failure.

        Values are shown, shortened, as text; `run.value(step)` gives them whole. Raises `RaftoralError` without pandas.
        """
        return history.frame(self._host.run_record(self._run_id))

    def value(self, step: Step | str) -> Any:
        """Return the decoded value of a recorded step, given as such, by its step_id, or by its key if that is unique.

        Raises `RunNotFoundError` if no such step is recorded, and the step's own failure if it failed.
        """
        if isinstance(step, str):
            step = self._step(step)
        if step.failure is not None:
            raise failures.rebuild(step.failure, step_id=step.step_id)
        return values.hand_back(step.value or b"", what=f"step {step.step_id!r} of run {self._run_id!r}")

    def subscribe(self, callback: Callable[[ClusterEvent], None]) -> Callable[[], None]:
        """Call `callback(event)` for every event of this run, in order; returns what ends it. See `Cluster.subscribe`.

        And, once, for the `NodeChanged` that says that the cluster has stopped, or was let go of (`Cluster.leave`): nothing comes
        after it. Raises `ClusterError` if that has happened already.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return await ctx.receive("approve")
        >>> told = []
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea")
        ...     unsubscribe = run.subscribe(lambda event: told.append(type(event).__name__))
        ...     id = run.signal("approve", True)
        ...     test.finish(run)
        True
        >>> "MessageSent" in told, told[-1]
        (True, 'NodeChanged')
        """
        return run_requests.subscribe(self._host, self._run_id, callback)

    def shown_value(self, step: Step | Message | str, width: int = 60) -> str:
        """Return the value or failure of a recorded step or message on one line of at most `width` printable characters. For views.

        A step may be given as for `value`, which raises `RunNotFoundError` if none is recorded. Raises nothing else, whatever the value's
        class does; it does run its `__repr__`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return await ctx.compute("many", lambda: ["tea"] * 1000)
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea")
        ...     many = test.finish(run)
        ...     run.shown_value("many", 20)
        "['tea', 'tea', 'tea…"
        """
        return history.shown_value(self._step(step) if isinstance(step, str) else step, width)

    def _step(self, step: str) -> Step:
        found = [one for one in self.steps if step in (one.step_id, one.key)]
        exact = [one for one in found if one.step_id == step] or found
        if len(exact) != 1:
            known = ", ".join(one.step_id for one in self.steps[:20]) or "none"
            problem = "has no step" if not exact else "has several steps"
            raise RunNotFoundError(f"run {self._run_id!r} {problem} {step!r}; recorded steps: {known}")
        return exact[0]

    # --- asking something of it, from outside

    def signal(self, name: str, value: Any = None, *, signal_id: str | None = None) -> str:
        """Send the signal `name`: the workflow gets `value` from `await ctx.receive(name)`. Returns its signal_id.

        Returns when a majority has recorded it; the workflow may receive it much later. With a `signal_id` of your own a
        repeated call sends it once. Raises `RunEndedError`, `RunNotFoundError`, `SignalRefusedError` if
        `MAX_UNRECEIVED_SIGNALS` wait for the run already, `ValueNotShippableError` and `NotAcknowledgedError`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return item, await ctx.receive("approve")
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea")
        ...     id = run.signal("approve", True)
        ...     test.finish(run)
        ('tea', True)
        """
        return run_requests.signal(self._host, self._run_id, name, value, signal_id)

    def update(
        self, name: str, value: Any = None, *, timeout: Seconds | None = None, update_id: str | None = None
    ) -> Any:
        """Send the update `name`, wait until the workflow has answered it, and return the answer.

        The workflow gets it from `await ctx.receive_update(name)`, or by its `ctx.on_update(name, handler)`, whose validator, if it has
        one, may refuse it before anything is recorded. Raises `UpdateRefusedError` if it is refused or the run ends without an
        answer, `CompletionTimeoutError` after `timeout` seconds, or a `timedelta` (call again with the `update_id` of the message to
        continue waiting), and what `signal` raises.
        """
        return run_requests.update(self._host, self._run_id, name, value, timeout, update_id)

    def query(self, name: str, *args: Any, node: int | None = None, timeout: Seconds | None = 10.0) -> Any:
        """Return what the workflow answers to the query `name`: the result of the function it gave to `ctx.on_query`.

        Asks the leader's execution, or that of a `node`, which may lag; changes and records nothing. Works after the run's end
        as well. Raises `QueryFailedError` if there is no such query or its function raised, `CompletionTimeoutError` after
        `timeout` seconds (or a `timedelta`), `NodeStateError` if the node is dead. An example is at `ctx.on_query`.
        """
        return run_requests.query(self._host, self._run_id, name, args, node, timeout)

    def variables(self) -> dict[str, Any]:
        """Return the replicated variables' present values, by key, as recorded: while it runs, and after its end.

        Of several variables of one key (in parallel branches) the one that was recorded last; one made `with_computation` is
        there from its first change on. Decoded anew at each call.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def train(ctx, epochs):
        ...     epoch = await ctx.var("epoch", 0)
        ...     while epoch.value < epochs:
        ...         await epoch.update(lambda number: number + 1)
        >>> with workflow_test() as test:
        ...     run = test.start(train, 3)
        ...     test.finish(run)
        ...     run.variables()
        {'epoch': 3}
        """
        return run_requests.variables(self._host, self._run_id)

    def progress(self, variable: str, total: float | str | None = None) -> Progress:
        """Return the progress of the run, read off its replicated variable `variable`: a notebook shows a bar that follows the run.

        `total` is what the variable is when all is done: a number, or the key of another variable that holds it. Without one
        the value is a fraction from 0 to 1, or a pair (done, total); any other is shown as it is. Elsewhere than in a notebook
        print it, or have `run.progress(...).show()` draw it as text until the run ends. Updates come with the records, a
        bounded number of them a second. Raises `BadArgumentError` and `StepKeyError`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def train(ctx, epochs):
        ...     epoch = await ctx.var("epoch", 0)
        ...     while epoch.value < epochs:
        ...         await ctx.sleep(60)
        ...         await epoch.update(lambda number: number + 1)
        >>> with workflow_test() as test:
        ...     run = test.start(train, 4, run_id="train-1")
        ...     test.advance(130)
        ...     print(run.progress("epoch", total=4))
        train-1 epoch ██████████░░░░░░░░░░ 2 of 4
        """
        return Progress(self._host, self._run_id, variable, total)

    def cancel(self, reason: str = "") -> None:
        """Ask the run to end: its main task is cancelled, once and on every node, as asyncio cancels a task, and it may clean up.

        Returns when the request is recorded, not when the run has ended. It then has the status `cancelled`, unless its code
        catches the exception and decides otherwise, and waiting for it raises `WorkflowCancelledError`. Its children are asked
        as well. A synchronous step that is running is abandoned: it may still do what it does. Raises `RunEndedError`,
        `RunNotFoundError` and `NotAcknowledgedError`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     try:
        ...         await ctx.receive("payment")
        ...     finally:
        ...         await ctx.compute("put back", lambda: item)
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea")
        ...     run.cancel("nobody paid")
        ...     test.settle()
        ...     run.status, run.value("put back")
        ('cancelled', 'tea')
        """
        run_requests.cancel(self._host, self._run_id, reason)

    def assign(self, node: NodeId | None = None) -> None:
        """Have a node do its steps from here on (None: any other than the present owner). What is under way is begun again there.

        Raises `ClusterError` if that node takes no runs (or no other does), `RunEndedError`, and `NotAcknowledgedError`.
        """
        run_requests.assign(self._host, self._run_id, node)

    def pause(self) -> None:
        """Let no new step of the run begin, and no timer fire, on any node, until `resume`.

        Steps that have begun are finished and recorded. Survives changes of leader and restarts. Raises `RunEndedError` if it has ended or is being cancelled.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     await ctx.sleep(60)
        ...     return item
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea")
        ...     run.pause()
        ...     test.advance(3600)
        ...     before = run.status
        ...     run.resume()
        ...     before, test.finish(run)
        ('paused', 'tea')
        """
        run_requests.pause(self._host, self._run_id)

    def resume(self) -> None:
        """End `pause`; does nothing if the run is not paused. Raises `RunEndedError`."""
        run_requests.resume(self._host, self._run_id)

    def delete(self) -> None:
        """Drop all that is recorded of the run, which has ended: it frees the memory and disk, and the run_id.

        Under that id another run can be started then, by whoever starts one. Handles on the deleted run raise `RunNotFoundError`; its children stay.
        A run that is gone when the command gets there counts as deleted. Raises `RunNotFoundError` for one that is not known, `RunUnfinishedError`
        for one that has not ended (cancel or terminate it first) and `NotAcknowledgedError`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return item
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea", run_id="order-1")
        ...     first = test.finish(run)
        ...     run.delete()
        ...     first, test.finish(test.start(order, "coffee", run_id="order-1"))
        ('tea', 'coffee')
        """
        run_requests.delete(self._host, self._run_id)

    def terminate(self, reason: str = "") -> None:
        """End the run at once, without any cleanup, with its children; its status is then `terminated`.

        For runs that do not react to `cancel`. Raises `RunEndedError`, `RunNotFoundError` and `NotAcknowledgedError`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def endless(ctx, given):
        ...     await ctx.receive("never")
        >>> with workflow_test() as test:
        ...     run = test.start(endless, None)
        ...     run.terminate("enough")
        ...     run.status
        'terminated'
        """
        run_requests.terminate(self._host, self._run_id, reason)

    # --- waiting for it

    def _going_on(self) -> str:
        held = self.held
        if held is not None:
            return f"it is held, because no node can continue it: {held.reason}"
        if (reason := self.held_value) is not None:
            return f"it is held: {reason}"
        record = self._host.head().runs.get(self._run_id)
        if record is not None and record.status == "paused":
            return "it is paused: run.resume() lets it go on"
        if record is not None and (label := record.missing_label) is not None:
            return f"a step waits for {label_words(label)}"
        return "it is still running: run.code() shows where it waits"

    def wait_for_completion(self, timeout: Seconds | None = None) -> O:
        """Block until the run ends, at most `timeout` seconds (or a `timedelta`), and return its result.

        Raises `WorkflowFailedError` if the run failed (`WorkflowCancelledError` if it was cancelled, `WorkflowTerminatedError`
        if it was terminated: both are such errors too), `CompletionTimeoutError` if it has not ended in time (it continues),
        `ClusterError` if the cluster stops first, and `BlockingCallError` on one of the cluster's own threads.
        """
        refuse_on_own_thread("run.wait_for_completion()")
        longest = patience(timeout, "run.wait_for_completion")
        ended = threading.Event()
        endings: list[RunEnding] = []

        def end(ending: RunEnding) -> None:
            endings.append(ending)
            ended.set()

        forget = self._host.when_ended(self._run_id, end)
        try:
            if not _waited(ended, longest, self._run_id):
                raise CompletionTimeoutError(
                    f"run {self._run_id!r} has not ended within {longest:g} s; {self._going_on()}"
                )
        finally:
            forget()
        return self._result(endings[0])

    def wait_for_value(self, variable: str, wanted: Any, *, timeout: Seconds | None = None) -> Any:
        """Block until the replicated variable `variable` has a value that is wanted, and return it.

        `wanted` is a function, `wanted(value)`, or the value itself. At first the present value counts, then each one that is recorded,
        in order: none is missed, however short it lasts. Also after the run's end, if it has that value then.

        Raises `RunEndedError` if the run ends first, `CompletionTimeoutError` after `timeout` seconds (or a `timedelta`),
        `ClusterError` if the cluster stops, `BlockingCallError` on one of the cluster's own threads, and what `wanted` raises.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     status = await ctx.var("status", "new")
        ...     await ctx.sleep(60)
        ...     await status.set("sent")
        ...     await ctx.sleep(60)
        >>> with workflow_test() as test:
        ...     run = test.start(order, "tea")
        ...     run.wait_for_value("status", "sent"), run.wait_for_value("status", lambda status: status != "new")
        ('sent', 'sent')
        """
        refuse_on_own_thread("run.wait_for_value()")
        longest = patience(timeout, "run.wait_for_value")
        try:
            return VariableWait(self._host, self._run_id, variable, wanted, longest).block()
        except KeyboardInterrupt:
            raise WaitInterruptedError(f"waiting for run {self._run_id!r} was interrupted; the run continues") from None

    async def wait_for(self, variable: str, wanted: Any, *, timeout: Seconds | None = None) -> Any:
        """Wait as `wait_for_value` does, for `await run.wait_for("status", "sent")` in a notebook's cell or another loop than the cluster's."""
        if on_own_thread():
            raise BlockingCallError(
                f"run {self._run_id!r} was waited for inside a workflow, whose steps must not depend on how fast another run is: have "
                "that run send this one a signal (`await ctx.signal(...)`)"
            )
        return await VariableWait(self._host, self._run_id, variable, wanted, patience(timeout, "run.wait_for")).wait()

    def __await__(self) -> Generator[Any, Any, O]:
        return self._wait().__await__()

    async def _wait(self) -> O:
        if on_own_thread():
            raise BlockingCallError(
                f"run {self._run_id!r} was awaited inside a workflow, whose steps must not depend on how fast another run is. "
                "Wait for it outside, and give its result to this workflow as input."
            )
        ended = anyio.Event()
        endings: list[RunEnding] = []
        post = current_poster()

        def end(ending: RunEnding) -> None:
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

    def _result(self, ending: RunEnding) -> O:
        if isinstance(ending, RaftoralError):
            raise ending
        if isinstance(ending, Failure):
            error = failed_error(self._run_id, ending)
            cause = failures.rebuild(ending, step_id="")
            raise error from (cause if ending.exception is not None else None)
        result: O = values.hand_back(ending, what=f"result of run {self._run_id!r}")
        return result

    def __repr__(self) -> str:
        return f"<WorkflowRun {self._run_id!r} of {self._workflow} v{self._version}>"


def _waited(ended: threading.Event, timeout: float | None, run_id: RunId) -> bool:
    try:
        return ended.wait(timeout)
    except KeyboardInterrupt:
        raise WaitInterruptedError(f"waiting for run {run_id!r} was interrupted; the run continues") from None

"""The executors of one node: made when a step first asks for them, and ended with the node."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from ..errors import DamagedBlobError, RaftoralError, UnknownExecutorError
from ..node.captured_output import Sink, current_execution
from ..threads.step_threads import Steps
from ..workflow.codec.values import describe, type_name
from ..workflow.execution.elsewhere import AskedElsewhere, AttemptElsewhere, RanElsewhere
from .executor_table import OWN_WORKERS, ExecutorFactory, unknown
from .own_workers import OwnWorkers
from .pool_adapter import PoolAdapter
from .step_adapter import StepAdapter
from .step_work import Answered, Checkpoint, CheckpointAnswer, Said, decoded_answer, pack, saved_bytes

MAX_RECORDED: Final = 10_000
"""Steps of one executor that are remembered as recorded, for tasks that a node which died did not release."""


class NodeExecutors:
    """The `StepsElsewhere` of one node: its executors by name. Belongs to the node's own loop, `close` excepted."""

    def __init__(self, name: str, factories: Mapping[str, ExecutorFactory], steps: Steps) -> None:
        self._factories: dict[str, ExecutorFactory] = {
            OWN_WORKERS: lambda: OwnWorkers(f"{name}-{OWN_WORKERS}"),
            **factories,
        }
        self._steps = steps
        self._closed = False
        self._drops = False
        # Invariant: by name, those that were asked for: made, or being made.
        self._adapters: dict[str, asyncio.Task[StepAdapter]] = {}
        # Invariant: made and not closed, by name.
        self._made: dict[str, StepAdapter] = {}
        # Invariant: by step, its keys that were submitted here and not let go.
        self._keys: dict[str, dict[str, None]] = {}
        # Invariant: by step that runs at most once, and was not submitted yet, where it may be begun.
        self._places: dict[str, str] = {}
        # Invariant: by executor, steps that are recorded, the latest last; at most MAX_RECORDED each.
        self._recorded: dict[str, dict[str, None]] = {}

    # --- see `StepsElsewhere`

    async def run(self, asked: AskedElsewhere) -> RanElsewhere:
        """Run a function, or attach to where it runs. See `StepsElsewhere.run`."""
        adapter = await self._adapter(asked.on)
        key, work = asked.key, pack(asked, self._places.pop(asked.prefix, ""))
        hear = _NodeHears(asked.running, current_execution.get(), keeps=adapter.keeps == "running and done")
        self._recorded.get(asked.on, {}).pop(asked.prefix, None)
        self._keys.setdefault(asked.prefix, {})[key] = None
        try:
            adapter.progress(key, hear)
            await adapter.submit(key, work)
            del work
            data = await adapter.outcome(key)
        except BaseException:
            if adapter.keeps == "nothing" or asked.given_up():
                adapter.cancel(key)
                self._forget(asked.prefix, key)
            raise
        answer = decoded_answer(data)
        for said in answer.said:
            hear(said)
        if answer.checkpoint is not None:
            hear.save(answer.checkpoint, _unasked)
        return answer.ran

    async def place(self, on: str, prefix: str) -> str:
        """Return the identity of what keeps begun tasks of an executor. See `StepsElsewhere.place`."""
        place = await (await self._adapter(on)).place()
        if place:
            self._places[prefix] = place
        return place

    def recorded(self, on: str, prefix: str) -> None:
        """Let go of whatever is kept of a step's attempts."""
        if on == OWN_WORKERS and prefix not in self._keys:
            return  # it keeps nothing
        adapter = self._made.get(on)
        self._places.pop(prefix, None)
        keys = tuple(self._keys.pop(prefix, ()))
        if adapter is None or adapter.keeps != "nothing":
            recorded = self._recorded.setdefault(on, {})
            recorded[prefix] = None
            while len(recorded) > MAX_RECORDED:
                del recorded[next(iter(recorded))]
        if adapter is not None and keys:
            adapter.release(keys)

    def drop_kept(self) -> None:
        """Have `close` cancel what executors keep as well: no other node will ask for it. From any thread."""
        self._drops = True

    def close(self) -> None:
        """End all executors. From any thread, when the node's loop has ended or is to end."""
        self._closed = True
        if self._drops:
            for adapter in self._made.values():
                for key in [key for keys in tuple(self._keys.values()) for key in tuple(keys)]:
                    adapter.cancel(key)
        made, self._made = self._made, {}
        self._adapters.clear()
        for adapter in made.values():
            adapter.close()

    # --- inside

    def _forget(self, prefix: str, key: str) -> None:
        keys = self._keys.get(prefix)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del self._keys[prefix]

    async def _adapter(self, on: str) -> StepAdapter:
        making = self._adapters.get(on)
        if making is None:
            factory = self._factories.get(on)
            if factory is None:
                raise unknown(on, self._factories, f"there is no executor {on!r} on this node")
            if sys.platform in ("emscripten", "wasi"):
                raise UnknownExecutorError(
                    f"a step asks for executor {on!r}, and this Python runs in a browser, without threads and processes: leave out on="
                )
            making = self._adapters[on] = asyncio.get_running_loop().create_task(self._make(on, factory))
        try:
            return await asyncio.shield(making)
        except BaseException:
            if making.done() and self._adapters.get(on) is making:
                del self._adapters[on]  # the next step tries again
            raise

    async def _make(self, on: str, factory: Callable[[], object]) -> StepAdapter:
        try:
            # On a thread: it may connect to something, or wait.
            again = partial(self._steps.run, factory, name=f"executor {on}")
            made = await again()
        except RaftoralError:
            raise
        except Exception as error:
            raise UnknownExecutorError(f"executor {on!r} could not be made: {describe(error)}") from error
        if isinstance(made, concurrent.futures.Executor):
            adapter: StepAdapter = PoolAdapter(on, made, again)
        elif isinstance(made, StepAdapter):
            adapter = made
        else:
            kind = type_name(type(made))
            article = "an" if kind[:1].lower() in "aeiou" else "a"
            raise UnknownExecutorError(
                f"executors[{on!r}] made {article} {kind}; it must make a concurrent.futures.Executor, or a StepAdapter"
            )
        try:
            if self._closed:
                raise UnknownExecutorError(f"executor {on!r} cannot be used: its node has stopped")
            if adapter.keeps != "nothing":
                await adapter.place()
                self._release_left(on, adapter)
        except BaseException:
            # It may wait for a thread, and this one may not.
            threading.Thread(target=adapter.close, name=f"close-{on}", daemon=True).start()
            raise
        self._made[on] = adapter
        return adapter

    def _release_left(self, on: str, adapter: StepAdapter) -> None:
        """Release what a node did not that died before, of steps whose records are known here."""
        recorded = self._recorded.get(on, {})
        left = [key for key in adapter.held() if key.rpartition("/")[0] in recorded]
        if left:
            adapter.release(left)


class _NodeHears:
    """Tells and saves, where its step is, what a function says on its executor. From any thread. See `Hear`."""

    def __init__(self, running: AttemptElsewhere, sink: Sink | None, *, keeps: bool) -> None:
        self._running = running
        self._keeps = keeps
        """Whether the function goes on when this node has no say any more: then the next one answers it."""
        self._sink = sink

    def __call__(self, said: Said) -> None:
        """Tell something."""
        if said.kind == "progress":
            self._running.progress(said.fraction, said.text)
        elif said.kind == "continues":
            self._running.continues()
        elif self._sink is not None:
            self._sink(said.kind, said.text)

    def save(self, checkpoint: Checkpoint, answered: Answered) -> None:
        """Save a checkpoint, as a step of this node would."""
        try:
            data = saved_bytes(checkpoint.saved)
        except DamagedBlobError as error:
            answered(CheckpointAnswer(describe(error)))
            return

        def told(error: BaseException | None, by_rule: bool) -> None:
            if error is None:
                answered(CheckpointAnswer())
            elif by_rule or not self._keeps:
                answered(CheckpointAnswer(str(error), getattr(error, "may_commit", True)))

        self._running.save(data, checkpoint.least, told)


def _unasked(_: CheckpointAnswer) -> None:
    """The function has ended."""

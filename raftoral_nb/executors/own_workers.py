"""`on="processes"`: workers of a node's own, processes that run one step's function at a time.

They are started when they are needed, at most one per core, and kept until the node ends. A task that is cancelled takes its
worker with it: that is the only way to end a function that computes. So does one whose process dies; others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

from ..errors import ClusterError, UnknownExecutorError, WorkerDiedError
from ..threads.user_code import PACKAGE
from .step_adapter import Keeps
from .step_work import Answered, CheckpointAnswer, Hear, Work, decoded_checkpoint, decoded_said
from .worker_pipe import (
    BEGUN,
    CHECKPOINT,
    DONE,
    SAID,
    PipeEndedError,
    WorkerHello,
    read_frame,
    write_answer,
    write_hello,
    write_work,
)

MAX_STARTS: Final = 3
"""Workers that are tried for one task if they end before they begin with it."""

END_SECONDS: Final = 1.0
"""The time that a worker which was killed may take to be gone."""


def core_count() -> int:
    """Return how many cores this process may use."""
    counted = getattr(os, "process_cpu_count", None)
    if counted is not None:
        return int(counted() or 1)
    affinity = getattr(os, "sched_getaffinity", None)
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))


def check_processes() -> None:
    """Raise `UnknownExecutorError` where Python can start no processes."""
    if sys.platform in ("emscripten", "wasi"):
        raise UnknownExecutorError(
            'on="processes" needs processes, and this Python runs in a browser, where there are none: leave out on=, or run the '
            "cluster in Jupyter on a machine"
        )


class _Task:
    """One attempt, from its submission to its release."""

    def __init__(self, key: str, work: Work) -> None:
        self.key = key
        self.work: Work | None = work
        self.loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[bytes] = self.loop.create_future()
        self.cancelled = False
        self.begun = False
        """Whether the function may have had effects."""

    def end(self, answer: bytes | Exception) -> None:
        """Set the outcome, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self._set, answer)

    def _set(self, answer: bytes | Exception) -> None:
        if self.outcome.done():
            return
        if isinstance(answer, bytes):
            self.outcome.set_result(answer)
        else:
            self.outcome.set_exception(answer)
            self.outcome.exception()  # nobody may ask for it


class _StepProcess:
    """One worker process, used by one thread; killed from any."""

    def __init__(self) -> None:
        package = str(PACKAGE.parent)
        known = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([package, known] if known else [package])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "raftoral_nb.executors.step_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            # An interrupt of the notebook is none of the worker, and whatever it starts ends with it.
            start_new_session=True,
        )
        self.pid = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.asks, self.answers = self._process.stdin, self._process.stdout
        self._answering = threading.Lock()
        # Invariant: the attempt that it runs, while nothing but answers is written to it.
        self._key = ""
        with contextlib.suppress(OSError):  # it has ended, which is noticed when it is asked
            write_hello(self.asks, WorkerHello(os.getpid(), tuple(sys.path)))

    def begin(self, key: str, work: Work) -> None:
        """Give it an attempt."""
        write_work(self.asks, work)
        self.busy_with(key)

    def busy_with(self, key: str) -> None:
        """Note which attempt may be answered; "" for none."""
        with self._answering:
            self._key = key

    def answer(self, key: str, answer: CheckpointAnswer) -> None:
        """Say what became of the checkpoint of an attempt, if that still runs. From any thread."""
        # The pipe takes it at once: there is one answer at a time, and the worker always reads.
        with self._answering, contextlib.suppress(OSError, ValueError):
            if self._key == key:
                write_answer(self.asks, answer)

    def kill(self) -> None:
        """End it at once, with what it has started. From any thread."""
        if self._process.returncode is None:  # else the number may be another's by now
            with contextlib.suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self.pid, signal.SIGKILL)
                else:
                    self._process.kill()

    def end(self) -> str:
        """End it, and return how it ended."""
        try:
            code = self._process.wait(END_SECONDS / 4)  # the pipe may end a little before
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        for stream in (self.asks, self.answers):
            with contextlib.suppress(OSError):
                stream.close()
        if code >= 0:
            return f"with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
        return f"by signal {-code}"


class _Lane:
    """A thread with at most one worker process, which it starts when there is something to do."""

    def __init__(self, owner: OwnWorkers, name: str) -> None:
        self._owner = owner
        self.process: _StepProcess | None = None
        self.task: _Task | None = None
        """What it is busy with."""
        self.idle = False
        """Whether it is counted among those that wait for a task."""
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def kill(self) -> None:
        """End its process, if there is one. Called with the owner's lock held, or at the end."""
        process = self.process
        if process is not None:
            process.kill()

    def _work(self) -> None:
        while (task := self._owner.next_task(self)) is not None:
            try:
                answer: bytes | Exception = self._run(task)
            except OSError as error:  # no more processes, or files
                answer = WorkerDiedError(f"no process could be started for step {_name(task)}: {error}")
            except Exception as error:
                self._drop()
                answer = error
            self._owner.done(self)
            task.end(answer)
            del task, answer
        self._drop()

    def _run(self, task: _Task) -> bytes:
        for _ in range(MAX_STARTS):
            if self.process is None:
                self.process = _StepProcess()
            if self._is_dropped(task):
                break
            process, work = self.process, task.work
            assert work is not None
            try:
                process.begin(task.key, work)
                while True:
                    kind, data = read_frame(process.answers)
                    if kind == BEGUN:
                        task.begun = True
                    elif kind == SAID:
                        self._owner.heard(task.key, data)
                    elif kind == CHECKPOINT:
                        self._owner.saves(task.key, data, partial(process.answer, task.key))
                    elif kind == DONE:
                        return data
            except (PipeEndedError, OSError):
                how = self._drop()
            finally:
                process.busy_with("")
            if task.begun or self._is_dropped(task):
                raise WorkerDiedError(
                    f"process {process.pid}, in which step {_name(task)} ran, ended {how} before the function returned. That "
                    "attempt is lost, and may have done a part of its work; other steps are not touched. With retry=Retry(...) it is tried again"
                )
        raise WorkerDiedError(f"no process could begin with step {_name(task)}: each ended as it started")

    def _is_dropped(self, task: _Task) -> bool:
        return task.cancelled or self._owner.closed

    def _drop(self) -> str:
        process, self.process = self.process, None
        if process is None:
            return ""
        with contextlib.suppress(OSError):
            process.asks.close()
        return process.end()


def _name(task: _Task) -> str:
    head = None if task.work is None else task.work.head
    return repr(task.key if head is None else head.step_id)


class OwnWorkers:
    """The workers of one node: a `StepAdapter` that keeps nothing, as they end with their node."""

    keeps: Keeps = "nothing"

    def __init__(self, name: str, most: int | None = None) -> None:
        check_processes()
        self._name = name
        self._most = most or core_count()
        self.closed = False
        # Guards what follows; held for a few instructions only.
        self._changed = threading.Condition(threading.Lock())
        # Invariant: tasks that were not released, by key.
        self._tasks: dict[str, _Task] = {}
        self._hears: dict[str, Hear] = {}
        self._line: deque[_Task] = deque()
        self._lanes: list[_Lane] = []
        # Invariant: lanes that wait for a task.
        self._idle = 0

    async def place(self) -> str:
        """Nothing is kept."""
        return ""

    async def submit(self, key: str, work: Work) -> None:
        """Put a task in line, unless it is there."""
        lane: _Lane | None = None
        with self._changed:
            if self.closed:
                raise ClusterError(f"the step {key!r} cannot run: its node has stopped")
            if key in self._tasks:
                return
            task = self._tasks[key] = _Task(key, work)
            self._line.append(task)
            if self._idle >= len(self._line):
                self._changed.notify()
            elif len(self._lanes) < self._most:
                lane = _Lane(self, f"{self._name}-{len(self._lanes) + 1}")
                self._lanes.append(lane)
        if lane is not None:
            lane.thread.start()

    async def outcome(self, key: str) -> bytes:
        """See `StepAdapter`."""
        return await asyncio.shield(self._tasks[key].outcome)

    def progress(self, key: str, hear: Hear) -> None:
        """See `StepAdapter`."""
        self._hears[key] = hear

    def cancel(self, key: str) -> None:
        """Take a task out of the line, or kill the process that it runs in."""
        with self._changed:
            task = self._tasks.pop(key, None)
            self._hears.pop(key, None)
            if task is None:
                return
            task.cancelled = True
            with contextlib.suppress(ValueError):
                self._line.remove(task)
            for lane in self._lanes:
                if lane.task is task:
                    lane.kill()

    def release(self, keys: Sequence[str]) -> None:
        """See `StepAdapter`."""
        for key in keys:
            self._tasks.pop(key, None)
            self._hears.pop(key, None)

    def held(self) -> Sequence[str]:
        """Nothing is kept."""
        return ()

    def close(self) -> None:
        """Kill all processes. Waits a moment for them to be gone."""
        with self._changed:
            self.closed = True
            self._line.clear()
            for lane in self._lanes:
                lane.kill()
            self._changed.notify_all()
        for lane in tuple(self._lanes):
            if lane.thread is not threading.current_thread() and lane.thread.ident is not None:
                lane.thread.join(END_SECONDS)

    def pids(self) -> tuple[int, ...]:
        """Return the numbers of the processes that there are."""
        with self._changed:
            return tuple(lane.process.pid for lane in self._lanes if lane.process is not None)

    # --- for the lanes

    def next_task(self, lane: _Lane) -> _Task | None:
        """Return the next task for a lane, when there is one; None when it is to end."""
        with self._changed:
            self._wait(lane)
            while not self._line and not self.closed:
                self._changed.wait()
            lane.idle = False
            self._idle -= 1
            if self.closed:
                return None
            task = lane.task = self._line.popleft()
            return task

    def done(self, lane: _Lane) -> None:
        """Note that a lane is not busy any more: before its outcome is told, so that the next step finds it."""
        with self._changed:
            if lane.task is not None:
                lane.task.work = None
            lane.task = None
            self._wait(lane)

    def _wait(self, lane: _Lane) -> None:
        if not lane.idle:
            lane.idle = True
            self._idle += 1

    def saves(self, key: str, data: bytes, answered: Answered) -> None:
        """Pass on what a function saves."""
        hear = self._hears.get(key)
        if hear is not None:
            hear.save(decoded_checkpoint(data), answered)

    def heard(self, key: str, data: bytes) -> None:
        """Pass on what a function said."""
        hear = self._hears.get(key)
        if hear is not None:
            hear(decoded_said(data))

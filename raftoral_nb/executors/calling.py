"""Calling a step's function where an executor runs it. What `call` needs is in the packages of the process that runs it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, Final, cast

from ..core.records import Failure
from ..node.captured_output import Stream, capture, capturing
from ..threads.step_threads import for_the_loop
from ..workflow.codec import bodies, failures, pickling, sources, values
from ..workflow.codec.classes import Known
from ..workflow.execution.elsewhere import RanElsewhere, ran_to
from ..workflow.execution.running_step import STEP, RunningStep
from ..workflow.language import step_arguments
from ..workflow.shipping import arithmetic
from . import node_channel
from .executor_step import ExecutorStep
from .step_work import Channel, Said, Work, WorkAnswer, arguments_of, encoded_answer, unpacked
from .without_channel import WithoutChannel

MAX_FUNCTIONS: Final = 64
"""Functions that a process keeps, with their globals: the next task with the same one finds what the one before left there."""


class _Code(bytes):
    """Code, hashed once."""

    __slots__ = ()

    def __hash__(self) -> int:
        return int.from_bytes(blake2b(self, digest_size=8).digest(), "big")


@functools.lru_cache(maxsize=MAX_FUNCTIONS)
def _loaded(code: _Code) -> tuple[Callable[..., Any], Known]:
    fn, known = pickling.loads_code(bytes(code), "the workflow of this step")
    return fn, known


def call(packed: bytes) -> bytes:
    """Run an attempt that `Work.packed` gave, and return what became of it, as bytes, with what it said. Raises nothing."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _call(packed)
    # A loop runs here, as in a kernel, which is what an engine of ipyparallel is: functions wait, and have loops of their own, on a thread.
    returned: list[bytes] = []
    thread = threading.Thread(target=lambda: returned.append(_call(packed)), name="raftoral-step", daemon=True)
    thread.start()
    thread.join()
    return returned[0]


def _call(packed: bytes) -> bytes:
    work = unpacked(packed)
    name = work.head.channel
    hear = None if name is None else node_channel.hear_of(name)
    if hear is not None:
        return encoded_answer(run_work(work, node_channel.HereChannel(hear)))
    if name is None or not name.address:
        alone = WithoutChannel()
        answer = run_work(work, alone)
    else:
        alone = socket = node_channel.SocketChannel(name)
        answer = run_work(work, socket)
        socket.close()
    return encoded_answer(WorkAnswer(answer.ran, alone.said(), answer.checkpoint))


def run_work(work: Work, channel: Channel) -> WorkAnswer:
    """Run an attempt here, in a context of its own, and return what became of it; what it says is told at once. Raises nothing."""
    capture.install()
    try:
        return contextvars.Context().run(_run, work, channel)
    except BaseException as error:
        return WorkAnswer(RanElsewhere(failure=_failure(error, work)))
    finally:
        capture.uninstall()


def _run(work: Work, channel: Channel) -> WorkAnswer:
    head = work.head
    with capturing(lambda stream, text: channel(_line(stream, text))):
        sources.show(head.sources)
        arithmetic.apply(dict(head.arithmetic))
        fn, known = _loaded(_Code(work.code))
        args, kwargs = arguments_of(work.given, work.buffers, known)
        step_call = (fn, args, kwargs)
        given = step_arguments.given_elsewhere(step_call)
        running = ExecutorStep(head, channel, work.saved, known)
        token = STEP.set(cast("RunningStep", running))
        try:
            value = _called(functools.partial(fn, *args, **kwargs))
        except BaseException as error:
            failure = _failure(for_the_loop(error, f"{head.run_id}/{head.step_id}"), work)
            return WorkAnswer(RanElsewhere(failure=failure), checkpoint=running.outlet.close(failed=True))
        finally:
            STEP.reset(token)
            running.outlet.close(failed=False)
        lost, unseen = ((), ()) if given is None else given.changed(value)
        key = head.step_id.partition("/")[2]
        if lost:
            return WorkAnswer(RanElsewhere(lost=step_arguments.advice(lost, key)))
        data = values.checked(value, what=f"step {head.step_id!r} of run {head.run_id!r}")
        return WorkAnswer(ran_to(data, step_arguments.advice(unseen, key) if unseen else ""))


def _called(fn: Callable[[], Any]) -> Any:
    value = bodies.call(fn)
    return asyncio.run(_awaited(value)) if isinstance(value, Awaitable) else value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _line(stream: Stream, text: str) -> Said:
    return Said(stream, f"{text}\n")


def _failure(error: BaseException, work: Work) -> Failure:
    return failures.capture(error, definition_sources=work.head.sources)

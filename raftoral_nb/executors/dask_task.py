"""What runs on a Dask worker: one attempt at a step."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, cast

from distributed import get_worker
from distributed.utils import sync

from ..workflow.execution.elsewhere import RanElsewhere
from .calling import run_work
from .dask_plugin import TOPIC
from .step_work import (
    Answered,
    Checkpoint,
    CheckpointAnswer,
    Said,
    SavedValue,
    WorkAnswer,
    decoded_checkpoint,
    decoded_checkpoint_answer,
    encoded_answer,
    encoded_checkpoint,
    unpacked,
)

SPACING: Final = 1.0
"""The least time between two checkpoints of a task that go to the scheduler, unless its step asks for less (seconds)."""


class DaskChannel:
    """The `Channel` of one attempt: events of Dask, and requests to the plugin of its scheduler."""

    spacing = SPACING

    def __init__(self, worker: Any, key: str) -> None:
        self._worker = worker
        self._key = key

    def __call__(self, said: Said) -> None:
        """Tell the node something, whichever that is by now."""
        told = {"key": self._key, "kind": said.kind, "text": said.text, "fraction": said.fraction}
        self._worker.log_event(TOPIC, told)

    def save(self, checkpoint: Checkpoint, answered: Answered) -> None:
        """Pass a checkpoint on to the scheduler, which keeps it, and from there to the node."""
        data = encoded_checkpoint(checkpoint)
        loop = cast("asyncio.AbstractEventLoop", self._worker.loop.asyncio_loop)
        asyncio.run_coroutine_threadsafe(self._save(data, answered), loop)

    async def _save(self, data: bytes, answered: Answered) -> None:
        answer = b""
        with contextlib.suppress(Exception):  # the scheduler is gone, and whatever waits there
            number = await self._worker.scheduler.raftoral_save(key=self._key, data=data)
            if number:
                answer = await self._worker.scheduler.raftoral_recorded(key=self._key, number=number)
        if answer:
            answered(decoded_checkpoint_answer(answer))
        else:
            answered(CheckpointAnswer("a checkpoint was not saved: nobody waits for this step on Dask any more"))

    def kept(self) -> SavedValue | None:
        """Return what this attempt saved on a worker that died, or with a scheduler that did."""
        found = sync(self._worker.loop, self._worker.scheduler.raftoral_saved, key=self._key)
        return None if found is None else decoded_checkpoint(found[1]).saved


def run_on_dask(packed: bytes) -> bytes:
    """Run an attempt, and return what became of it. What it says is told as an event, at once."""
    work = unpacked(packed)
    worker: Any = get_worker()
    key = work.head.key
    if work.head.once and not sync(worker.loop, worker.scheduler.raftoral_begin, key=key):
        return encoded_answer(WorkAnswer(RanElsewhere(begun_before=True)))
    return encoded_answer(run_work(work, DaskChannel(worker, key)))

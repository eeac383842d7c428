"""What runs on a Dask worker: one attempt at a step."""

from __future__ import annotations

from typing import Any, Final

from distributed import get_worker
from distributed.utils import sync

from ..workflow.execution.elsewhere import RanElsewhere
from .calling import run_work
from .step_work import Said, WorkAnswer, encoded_answer, unpacked

TOPIC: Final = "raftoral-nb"
"""The topic of Dask's events under which functions say how far they are, and what they print."""


def run_on_dask(packed: bytes) -> bytes:
    """Run an attempt, and return what became of it. What it says is told as an event, at once."""
    work = unpacked(packed)
    worker: Any = get_worker()
    key = work.head.key
    if work.head.once and not sync(worker.loop, worker.scheduler.raftoral_begin, key=key):
        return encoded_answer(WorkAnswer(RanElsewhere(begun_before=True)))

    def hear(said: Said) -> None:
        worker.log_event(TOPIC, {"key": key, "kind": said.kind, "text": said.text, "fraction": said.fraction})

    return encoded_answer(WorkAnswer(run_work(work, hear)))

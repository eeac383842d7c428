"""Many seeds, one after the other or in several worker processes; results come in the order of the seeds either way."""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import msgspec

from . import mutants
from .paths import Paths
from .result import Result
from .simulation import simulate

SEEDS_AHEAD = 4
"""Seeds that wait for each worker: none is ever idle, and an interrupt finds little begun."""

COLLECT_EVERY = 16
"""Seeds after which a process collects the garbage of all of them: left to itself it would have a gigabyte of it (`rarely_collecting`)."""


class Choice(msgspec.Struct, frozen=True):
    """The settings that all of the seeds have in common; see `run.simulate`."""

    nodes: int | None = None
    schedule: str | None = None
    without: str | None = None
    mutant: str | None = None
    paths: Paths | None = None


def results(seeds: Iterable[int], choice: Choice, *, jobs: int = 1) -> Generator[Result, None, None]:
    """Yield the results of these seeds in their order, computed by `jobs` processes (1: by this one).

    With more than one job the results are without histories; their digests are the same. Closing the iterator ends the
    workers when each has finished its seed.
    """
    if jobs == 1:
        with _prepared(choice):
            yield from (_simulated(choice, seed) for seed in seeds)
        return
    # Started afresh, so that nothing depends on what this process did before.
    context = multiprocessing.get_context("spawn")
    workers = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(choice,))
    try:
        waiting: deque[Future[Result]] = deque()
        for seed in seeds:
            waiting.append(workers.submit(_worked, choice, seed))
            if len(waiting) >= jobs * SEEDS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        workers.shutdown(cancel_futures=True)


@contextlib.contextmanager
def rarely_collecting() -> Iterator[None]:
    """Look for cyclic garbage less often: a simulation makes many objects that live until its end."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def _prepared(choice: Choice) -> Iterator[None]:
    with rarely_collecting(), contextlib.ExitStack() as stack:
        if choice.mutant is not None:
            stack.enter_context(mutants.without(choice.mutant))
        yield


_stack = contextlib.ExitStack()
_begun = itertools.count(1)
"""The numbers of the seeds of this process."""


def _begin(choice: Choice) -> None:
    """Prepare a worker, before its first seed."""
    # An interrupt is for the one who started the workers: it ends them, and prints what was done so far.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stack.enter_context(_prepared(choice))


def _simulated(choice: Choice, seed: int) -> Result:
    if next(_begun) % COLLECT_EVERY == 0:
        gc.collect()
    return simulate(seed, nodes=choice.nodes, schedule=choice.schedule, without=choice.without, paths=choice.paths)


def _worked(choice: Choice, seed: int) -> Result:
    return msgspec.structs.replace(_simulated(choice, seed), history=())

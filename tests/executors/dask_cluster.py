"""A scheduler and workers of Dask as processes of their own, which end with the test, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.helpers import PATIENCE
from tests.executors.steps_elsewhere import ROOT
from tests.ports import free_ports


class DaskProcesses:
    """One scheduler at an address that stays, and workers."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.address = f"tcp://127.0.0.1:{port}"
        self._port = port
        self._folder = folder
        self.scheduler = self.start_scheduler()
        self.workers: list[subprocess.Popen[bytes]] = []

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
            "PYTHONWARNINGS": "ignore",
        }
        with (self._folder / "dask.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]],
                env=environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--dashboard-address", "127.0.0.1:0"
        )
        return self.scheduler

    def start_worker(self, threads: int = 2) -> subprocess.Popen[bytes]:
        folder = str(self._folder)
        worker = self._start(
            "dask_worker",
            self.address,
            "--no-nanny",
            "--dashboard-address",
            "127.0.0.1:0",
            "--nthreads",
            str(threads),
            "--local-directory",
            folder,
        )
        self.workers.append(worker)
        return worker

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
        for process in (*self.workers, self.scheduler):
            process.wait(PATIENCE)


@contextmanager
def dask_processes(folder: Path, workers: int = 1) -> Iterator[DaskProcesses]:
    running = DaskProcesses(folder)
    try:
        for _ in range(workers):
            running.start_worker()
        yield running
    finally:
        running.end()

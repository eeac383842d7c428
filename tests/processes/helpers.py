"""What tests of processes share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from raftoral_nb import Cluster
from raftoral_nb.discovery.process_identity import Process
from raftoral_nb.hosts.remote.last_known import wait_gone
from raftoral_nb.hosts.remote.remote_backend import RemoteBackend

PATIENCE = 30.0
"""Seconds after which a test gives up; nothing that works takes nearly as long."""

ROOT = Path(__file__).resolve().parents[2]


def processes(cluster: Cluster) -> dict[int, Process]:
    """The processes of a cluster's nodes."""
    assert isinstance(cluster._host, RemoteBackend)
    return dict(cluster._host._processes.processes)


def pids(cluster: Cluster) -> dict[int, int]:
    return {number: process.pid for number, process in processes(cluster).items()}


def all_gone(found: list[Process]) -> bool:
    """Whether these processes end, within a test's patience."""
    return all(wait_gone(process, PATIENCE) for process in found)


def script(text: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process that runs Python code; what it prints can be read."""
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdin=subprocess.PIPE,  # one that reads it lives until it is ended: a test runner's own is empty
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`raftoral-nb ...`, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "raftoral_nb.cli.main", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE,
        check=False,
    )


def end(process: subprocess.Popen[str]) -> None:
    """End a process that a test may have left."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)

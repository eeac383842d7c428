"""Starting nodes' processes, and ending them."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import msgspec

from ...errors import ClusterError
from ...threads.user_code import PACKAGE
from .messages import Spec, rebuilt
from .node_process import RELEASE, Failed, Ready

START_SECONDS: Final = 30.0
"""The time a process may take until its node listens."""

TAIL_CHARS: Final = 2000
"""The most characters shown of what a failed process had written."""

LOGS: Final = "logs"
"""Folder of a data directory in which nodes' processes write what they have to say."""

_answers: Final = msgspec.json.Decoder(Ready | Failed)


class Child:
    """The process of one node."""

    def __init__(self, spec: Spec, process: subprocess.Popen[bytes], log: Path) -> None:
        self.spec = spec
        self.process = process
        self.log = log

    @classmethod
    def start(cls, spec: Spec) -> Child:
        """Start it. It ends with this process, or does until `release`, as the spec says. Raises `ClusterError`."""
        folder = Path(spec.shared.data_dir) / LOGS
        log = folder / f"node-{spec.node}.txt"
        package = PACKAGE.parent
        known = os.environ.get("PYTHONPATH")
        # A notebook may have found this package by way of `sys.path` only.
        path = os.pathsep.join([str(package), known] if known else [str(package)])
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with log.open("ab") as errors:
                process = subprocess.Popen(
                    [sys.executable, "-m", "raftoral_nb.hosts.remote"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**os.environ, "PYTHONPATH": path},
                    # An interrupt of the notebook is none of the node.
                    start_new_session=True,
                )
        except OSError as error:
            raise ClusterError(f"no process could be started for node {spec.node}: {error}") from error
        child = cls(spec, process, log)
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(spec) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and the reason is told by `ready`
        if spec.parent is not None and not spec.piped:
            child.let_go()
        return child

    def release(self) -> None:
        """Let it outlive this process from here on, if its spec says so: the cluster is whole, and can be found."""
        if self.spec.parent is None and self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended
                self.process.stdin.write(RELEASE)
                self.process.stdin.flush()
            self.let_go()

    async def ready(self) -> Ready:
        """Wait until the node listens, and return where. Raises what kept it from starting, else `ClusterError`."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await _line(self.process.stdout)
        except TimeoutError:
            self.kill()
            raise ClusterError(
                f"the process of node {self.spec.node} did not start within {START_SECONDS:g} s{self._said()}"
            ) from None
        finally:
            self.process.stdout.close()
        if not line:
            self.process.wait()
            raise ClusterError(f"the process of node {self.spec.node} ended as it started{self._said()}")
        answer: Ready | Failed = _answers.decode(line)
        if isinstance(answer, Failed):
            self.process.wait()
            raise rebuilt(answer.refusal)
        return answer

    def _said(self) -> str:
        try:
            text = self.log.read_text(errors="replace")[-TAIL_CHARS:].strip()
        except OSError:
            text = ""
        return f"; it wrote to {self.log}:\n{text}" if text else "; it wrote nothing"

    @property
    def ended(self) -> bool:
        """True if the process has ended."""
        return self.process.poll() is not None

    def kill(self) -> None:
        """End it at once (SIGKILL), if it has not ended, and wait until it is gone: no longer than the system takes."""
        self.process.kill()
        self.process.wait()
        self.let_go()

    def wait(self, timeout: float) -> bool:
        """Wait until it has ended; False if it has not within `timeout` seconds."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self.let_go()
        return True

    def end(self, left: Callable[[], float]) -> None:
        """Wait until it has ended by itself, and end it if it has not in the time that is left, or the wait is interrupted."""
        try:
            self.wait(left())
        finally:
            self.kill()

    def leave(self) -> None:
        """Let it run without us. It stays our child as long as we live, and is reaped when it has ended meanwhile."""
        _outliving.append(self.process)

    def let_go(self) -> None:
        """Close our end of its standard input: it ends then, if it was to end with this process."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


_outliving: Final[list[subprocess.Popen[bytes]]] = []


@atexit.register
def _leave_all() -> None:
    for process in _outliving:
        if process.poll() is None:
            process.returncode = 0  # so that nobody complains that it still runs


async def _line(stream: IO[bytes]) -> bytes:
    """Return the first line of a pipe, without keeping the loop; what there is of it if it ends before."""
    loop = asyncio.get_running_loop()
    descriptor = stream.fileno()
    os.set_blocking(descriptor, False)
    found = bytearray()
    while True:
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, _wake, readable)
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
        data = os.read(descriptor, 65536)
        found += data
        if not data or b"\n" in data:
            return bytes(found)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def kill_process(pid: int) -> None:
    """End a process that is not our child, at once; one that is gone is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

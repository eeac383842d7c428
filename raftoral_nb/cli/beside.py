"""Programs that run beside a notebook's kernel, and end with it: what the course starts where a reader would open another terminal.

A program's standard input is a pipe whose other end the kernel holds: it ends when the kernel does, however that ends, and the
program is killed then, with what it has started.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
from typing import Final, NoReturn

from ..errors import ClusterError, CompletionTimeoutError
from ..threads.seconds import Seconds, seconds
from ..threads.user_code import PACKAGE

PATIENCE: Final = 50.0
"""Seconds after which waiting for a line is given up: importing what a program needs may take some on a busy machine."""

END_SECONDS: Final = 5.0
"""Seconds that a program may take to end when it is asked to."""


class Beside:
    """A Python program beside the kernel: the module, or the file, of this name. What it prints is kept, line by line.

    An interrupt of the notebook is none of it. It ends with `end` or `kill`, and with the kernel.
    """

    def __init__(self, program: str, *arguments: str) -> None:
        self.program = program
        self._heard = threading.Condition()
        self._lines: list[str] = []
        self._is_open = True
        known = os.environ.get("PYTHONPATH")
        package = str(PACKAGE.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "raftoral_nb.cli.beside", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join([package, known] if known else [package])},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"beside-{self._process.pid}", daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        """What it has printed so far, errors too."""
        with self._heard:
            return list(self._lines)

    def wait_for(self, text: str, count: int = 1, timeout: Seconds = PATIENCE) -> str:
        """Wait until so many of its lines have this text in them, `timeout` seconds at most; returns the last of these.

        Raises `CompletionTimeoutError`, and `ClusterError` if the program ended without them.
        """
        longest = seconds(timeout, "wait_for")
        with self._heard:
            in_time = self._heard.wait_for(lambda: len(self._with(text)) >= count or not self._is_open, longest)
            found = self._with(text)
        if len(found) >= count:
            return found[count - 1]
        had = f"{len(found)} of {count} lines with {text!r}"
        if not in_time:
            raise CompletionTimeoutError(f"{self.program} printed {had} within {longest:g} s")
        said = "\n".join(self._lines[-5:]) or "nothing"
        raise ClusterError(f"{self.program} ended when it had printed {had}; the last that it said:\n{said}")

    def end(self) -> int:
        """Ask it to end, and kill it if it has not after some seconds; returns its exit code. Idempotent."""
        with contextlib.suppress(OSError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        return self.kill()

    def kill(self) -> int:
        """End it at once, as the system does when memory is short; returns how it ended: minus the signal. Idempotent."""
        with contextlib.suppress(OSError):
            self._process.kill()
        code = self._process.wait()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._reader.join(PATIENCE)
        return code

    def _with(self, text: str) -> list[str]:
        return [line for line in self._lines if text in line]

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._heard:
                    self._lines.append(line.rstrip("\n"))
                    self._heard.notify_all()
        with self._heard:
            self._is_open = False
            self._heard.notify_all()

    def __repr__(self) -> str:
        return f"<Beside: {self.program}, {'running' if self._process.poll() is None else 'ended'}>"


def main() -> None:
    """Be the program that the command line names, until it ends or its standard input does."""
    kernel = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_after, args=(kernel,), name="beside", daemon=True).start()
    program = sys.argv[1]
    del sys.argv[0]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _end_after(pipe: int) -> NoReturn:
    while os.read(pipe, 1024):
        pass
    if hasattr(os, "getpgrp") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()

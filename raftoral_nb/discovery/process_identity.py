"""Identity of processes: whether the process that a file names still runs. Numbers of processes are reused."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

import msgspec

_PROC: Final = Path("/proc")
_ENDED: Final = frozenset({"Z", "X"})


class Process(msgspec.Struct, frozen=True):
    """A process of some host."""

    pid: int
    host: str
    began: str = ""
    """The mark that tells it from a later process of that number, where the system says enough (Linux); else empty."""

    @classmethod
    def own(cls) -> Process:
        """Return the process that asks."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process that has this number on this host now."""
        return cls(pid, socket.gethostname(), _began(pid) or "")

    @property
    def gone(self) -> bool:
        """True if it has certainly ended.

        One that cannot be seen from here (another host or container) is assumed to run.
        """
        if self.host != socket.gethostname():
            return False
        if not self.began or not _has_proc():
            return not _answers(self.pid)
        boot, space, _ = self.began.split("/") if self.began.count("/") == 2 else ("", "", "")
        if boot == _boot() and space != _space():
            return False
        return _began(self.pid) != self.began

    def __str__(self) -> str:
        elsewhere = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.pid}{elsewhere}"


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _has_proc() -> bool:
    return (_PROC / "self/stat").exists()


def _began(pid: int) -> str | None:
    """Return when a process began, as the system tells it: boot, process space, clock ticks.

    None if it has ended, or is not told.
    """
    try:
        # The name of the program, in parentheses, may contain anything.
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in _ENDED else f"{_boot()}/{_space()}/{fields[19]}"


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _space() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return "unknown"

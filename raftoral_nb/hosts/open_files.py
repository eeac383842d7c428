"""The number of files a cluster needs, sockets included, checked against the process's limit before anything is begun.

A process that runs out of them fails wherever it happens to be: in an import, in a database, in the middle of an event loop.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
from collections.abc import Iterator
from typing import Any, Final

from ..errors import TooManyOpenFilesError

_limits: Any
try:
    _limits = importlib.import_module("resource")
except ImportError:  # Windows has no such limit
    _limits = None

LOOP: Final = 3
"""Files of one event loop: what it waits with, and two ends of what wakes it."""
JOURNAL: Final = 3
"""Files of a node's journal on disk."""
SPARE: Final = 6
"""Files that are opened and closed again on the way: modules that are imported, key files, connections that are begun twice."""


def for_nodes(count: int, *, members: int, tcp: bool, stored: bool) -> int:
    """Return how many files `count` nodes of this process need, of a cluster of so many members: loops, listeners, connections, journals."""
    each = LOOP + (members if tcp else 0) + (JOURNAL if stored else 0)
    return count * each


def check(needed: int, what: str) -> None:
    """Raise `TooManyOpenFilesError` if this process may not open so many files more, some to spare; `what` needs them."""
    limit = _limit()
    if limit is None or not needed:
        return
    opened = _opened(limit)
    if opened + needed + SPARE > limit:
        raise TooManyOpenFilesError(
            f"{what} needs about {needed + SPARE} more open files (sockets count), but this process may have {limit} at most, and "
            f"{opened} are open. {_advice(limit, opened + needed + SPARE)}"
        )


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Have the system's own complaint, if it comes after all (others open files as well), be one of ours."""
    try:
        yield
    except TooManyOpenFilesError:
        raise
    except Exception as error:
        number = _reason(error)
        if number is None:
            raise
        limit = _limit() or 0
        whose = "this process" if number == errno.EMFILE else "this machine"
        raise TooManyOpenFilesError(
            f"{what}: {whose} has too many open files ({error}). {_advice(limit, 2 * limit)}"
        ) from error


def _reason(error: BaseException | None) -> int | None:
    """Return the system's complaint about too many files, if that is what an exception comes of."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return error.errno
        error = error.__cause__
    return None


def _advice(limit: int, wanted: int) -> str:
    enough = max(1024, wanted)
    hard = None if _limits is None else _limits.getrlimit(_limits.RLIMIT_NOFILE)[1]
    within = hard is not None and (hard == _limits.RLIM_INFINITY or hard >= enough)
    here = (
        f", or here: `import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({enough}, {hard}))`"
        if within
        else ""
    )
    return f"Raise the limit of {limit} where the process is started (`ulimit -n {enough}`){here}; or start fewer nodes"


def _limit() -> int | None:
    """Return how many files this process may have open; None if that is not limited, or not known."""
    if _limits is None:
        return None
    soft: int = _limits.getrlimit(_limits.RLIMIT_NOFILE)[0]
    return None if soft == _limits.RLIM_INFINITY else soft


def _opened(limit: int) -> int:
    """Return how many of the numbers below the limit are taken."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            found = os.listdir(folder)  # noqa: PTH208 - names alone, and no path of each
        except FileNotFoundError:
            continue
        except OSError:  # not even that can be opened
            return limit
        return sum(int(name) < limit for name in found if name.isdigit()) - 1  # one was the folder's own
    return 0

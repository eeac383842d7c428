"""The package's log: standard `logging`, quiet unless asked."""

from __future__ import annotations

import logging
import sys

from ..errors import ClusterError

_LOGGER = logging.getLogger("raftoral_nb")
_LOGGER.addHandler(logging.NullHandler())
_handler: logging.Handler | None = None


def set_level(level: str | int) -> None:
    """Show log records of `level` and above on the process' standard error stream. Raises `ClusterError` for no level.

    That is the original stream, which in a notebook is the server's terminal: threads must not write into cells.
    """
    global _handler
    value = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if not isinstance(value, int):
        names = ", ".join(name.lower() for name in ("DEBUG", "INFO", "WARNING", "ERROR"))
        raise ClusterError(f"there is no log level {level!r}; use one of {names}")
    if _handler is None:
        _handler = logging.StreamHandler(sys.__stderr__)
        _handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        _LOGGER.addHandler(_handler)
    _LOGGER.setLevel(value)


def reset() -> None:
    """Be quiet again: undo `set_level`."""
    global _handler
    if _handler is not None:
        _LOGGER.removeHandler(_handler)
        _handler = None
    _LOGGER.setLevel(logging.NOTSET)

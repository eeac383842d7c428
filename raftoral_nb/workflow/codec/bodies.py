"""Bodies of the errors of servers, for the exceptions of urllib: they hold the connection, which no other node has.

A small body is read where the step ran, in its thread, so that a workflow that catches the exception can read it.
Instead of any other there is an empty one, and never an error of Python's for the file that is missing.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any, Final

MAX_BODY_BYTES: Final = 64 * 1024
"""A body that is larger is not kept."""

MAX_BODY_SECONDS: Final = 5.0
"""The time to wait for each part of a body."""

_FILES: Final = ("fp", "file", "_closer")
"""The attributes of `urllib.error.HTTPError` that hold the connection."""


def call(fn: Callable[[], Any]) -> Any:
    """Return what `fn()` returns; if it raises an error of urllib, read the error's body."""
    try:
        return fn()
    except Exception as error:
        if _is_http(error):
            read(error)
        raise


def read(error: Any) -> None:
    """Put a body in memory in place of the connection, if it is small; it stays as it is if it is none, or cannot be read."""
    response = error.fp
    # Without it a server that never ends its answer would keep the step: not from a public attribute, so it may not be there.
    connection = getattr(getattr(getattr(response, "fp", None), "raw", None), "_sock", None)
    if connection is None or (response.length or 0) > MAX_BODY_BYTES:
        return
    try:
        wait = connection.gettimeout()
        connection.settimeout(MAX_BODY_SECONDS if wait is None else min(wait, MAX_BODY_SECONDS))
        body = response.read(MAX_BODY_BYTES + 1)
    except Exception:  # of the network, or of what the response is; the step's own error matters
        return
    if len(body) <= MAX_BODY_BYTES:
        response.close()
        vars(error).update(_in_memory(error, io.BytesIO(body)))


def without_connection(error: BaseException, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of an exception, with an empty body in place of one that is not in memory."""
    if not _is_http(error) or attributes.get("fp") is None or isinstance(attributes["fp"], io.BytesIO):
        return attributes
    return {**attributes, **_in_memory(error, io.BytesIO())}


def _is_http(error: BaseException) -> bool:
    module: Any = sys.modules.get("urllib.error")
    return module is not None and isinstance(error, module.HTTPError)


def _in_memory(error: Any, body: io.BytesIO) -> dict[str, Any]:
    module: Any = sys.modules["urllib.error"]
    other = vars(module.HTTPError(error.filename, error.code, error.msg, error.hdrs, body))
    return {name: other[name] for name in _FILES if name in other}

"""Whether a workflow changed: by its normalised source and what it captured, never by pickle bytes (they always differ)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import digests


def fingerprint(function: Callable[..., Any]) -> str:
    """A hex digest that two functions share if their code and what they captured are the same.

    Counted are: the source of the function without comments, layout and our decorator; that of all notebook functions and
    classes it reaches through globals, closures, defaults and attributes; and the other values captured so (by their canonical
    digest, or by type alone where they have none). Functions and classes of importable modules count by name. Where there
    is no source, the code object counts, without line numbers.

    Running an unchanged cell again gives the same fingerprint, in the same process and in another. Changes inside an
    importable module are not seen.
    """
    return digests.code_digest(function)

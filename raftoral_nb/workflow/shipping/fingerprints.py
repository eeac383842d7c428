"""Fingerprints, which tell whether a workflow changed.

They are made of its normalised source and what it captured, never by pickle bytes (they always differ).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from ..codec import digests
from . import arithmetic


def fingerprint(function: Callable[..., Any]) -> str:
    """Return a hex digest that two functions share if their code and what they captured are the same.

    Counted are: the source of the function without comments, layout and our decorator; that of all notebook functions and
    classes it reaches through globals, closures, defaults and attributes; and the other values captured so (by their canonical
    digest, or by type alone where they have none). Functions and classes of importable modules count by name. Where there
    is no source, the code object counts, without line numbers.

    A decimal context and an error state of numpy that are not the usual ones count, too: they go along with the code.

    Running an unchanged cell again gives the same fingerprint, in the same process and in another. Changes inside an
    importable module are not seen.
    """
    code, settings = digests.code_digest(function), arithmetic.settings()
    if not settings:
        return code
    return blake2b(repr((code, sorted(settings.items()))).encode(), digest_size=16).hexdigest()

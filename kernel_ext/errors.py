"""The error of a magic that was not understood, or that cannot be done now."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from raftoral_nb.errors import RaftoralError

if TYPE_CHECKING:
    from collections.abc import Iterable


class MagicError(RaftoralError):
    """A `%raftoral` or `%%workflow` line that cannot be carried out; the message says what to write instead.

    It is no `UsageError`: IPython shows those without failing the cell, so that a test of the notebook would pass.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'start'?`, with a space before it, if something known is spelled alike; else an empty string."""
    close = get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""

"""Lines that were asked for in the page. They are lines as the magics take them, of those that the page may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .parsing import parse
from .table import TABLE

if TYPE_CHECKING:
    from raftoral_nb import Cluster, Fault


def carry_out(cluster: Cluster, line: str) -> str:
    """Carries out one line, and says what was done. Nothing of the notebook is evaluated. Raises `RaftoralError`."""
    known = TABLE.get(line.partition(" ")[0])
    if known is not None and known.in_page is not None:
        asked = parse(line)
        words = None if asked is None else known.in_page(asked.arguments, cluster)
        if words is not None:
            return words
    return caused_words(cluster.cause(line))


def caused_words(done: Fault) -> str:
    """A sentence about a fault that was caused, whichever it was; `done` has numbers, not names."""
    known = TABLE.get(done.name)
    return str(done) if known is None or known.caused is None else known.caused(done)

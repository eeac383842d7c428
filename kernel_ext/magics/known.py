"""The names that Tab may offer, as they are at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec


class Known(msgspec.Struct, frozen=True):
    """The names that can be completed, as they are now. `functions` are workflows of the notebook, registered or not."""

    nodes: tuple[int, ...] = ()
    workflows: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    """Those that can be attached to."""
    python: Callable[[str], Iterable[str]] = lambda _: ()
    """Python's own offers for a name or a dotted name of the notebook."""

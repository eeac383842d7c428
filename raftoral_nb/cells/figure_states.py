"""Parts of matplotlib's figures, pickled so that looking at a figure changes nothing of its pickle.

It numbers callbacks whenever it pickles them, names transforms by their addresses, and notes which ones it has computed.
"""

from __future__ import annotations

import itertools
import pickle
import sys
from typing import Any, Final

_STATES_PLACE: Final = 2
"""Where `__reduce_ex__` has the state."""

_NOT_COMPUTED: Final = 2
"""What matplotlib calls `INVALID_FULL`: nothing that was computed of a transform holds. Earlier ones have 3 for it."""


def state_of(part: Any) -> Any:
    """Return how to make a part of a figure, as `__reduce_ex__` does; None for those that are pickled as they say themselves."""
    transforms = sys.modules.get("matplotlib.transforms")
    if type(part).__module__ == "matplotlib.cbook" and type(part).__name__ == "CallbackRegistry":
        return _changed(part, _callbacks)
    if transforms is not None and isinstance(part, transforms.TransformNode):
        return _changed(part, _transform)
    return None


def _changed(part: Any, change: Any) -> Any:
    reduced = part.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    state = reduced[_STATES_PLACE] if len(reduced) > _STATES_PLACE else None
    if not isinstance(state, dict):  # of another version
        return reduced
    return (*reduced[:_STATES_PLACE], change(part, state), *reduced[_STATES_PLACE + 1 :])


def _callbacks(registry: Any, state: dict[str, Any]) -> dict[str, Any]:
    taken = state.get("_cid_gen")
    if not isinstance(taken, int):
        return state
    registry._cid_gen = itertools.count(taken)  # as it was before it was asked
    kept = [number for numbers in state.get("callbacks", {}).values() for number in numbers]
    return {**state, "_cid_gen": max(kept, default=-1) + 1}


def _transform(node: Any, state: dict[str, Any]) -> dict[str, Any]:
    parents = state.get("_parents")
    if not isinstance(parents, dict) or "_invalid" not in state:
        return state
    # It only matters that the keys differ from each other, and from addresses. All transforms of the figure are marked alike:
    # one that is computed anew has the others computed that it is made of.
    living = [parent for parent in parents.values() if parent is not None]
    level = max(_NOT_COMPUTED, getattr(type(node), "INVALID", _NOT_COMPUTED))
    return {**state, "_parents": {-number: one for number, one in enumerate(living, 1)}, "_invalid": level}

"""Functions of a notebook in pools of processes: `concurrent.futures.ProcessPoolExecutor` and `multiprocessing.Pool`, inside a step.

These pickle by reference. The copy of a function that was shipped to a node is not the one that its `__main__` has, if that has
any, so it could not be found there, nor could a child that does not run the notebook's cells. What could not be found is
pickled by value, in this process and in children that got something by value; everything else as ever.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import threading
import types
import weakref
from collections.abc import Mapping
from typing import Any, Final

from cloudpickle import cloudpickle as _cloudpickle

from .. import limits
from ..workflow.codec import blobs, exceptions, pickling
from ..workflow.codec.anatomy import Identity
from ..workflow.codec.classes import NOTEBOOK
from ..workflow.codec.reducers import Reduced
from ..workflow.execution.running_step import CONTEXT
from .captured_output import current_execution

MAX_LOADED: Final = 64
"""Functions and classes that a child keeps: the next task with the same finds what the one before left in its globals."""

_lock: Final = threading.Lock()


def install() -> None:
    """Have pools of this process take what is not importable. May be called again; changes nothing else about them."""
    with _lock:
        try:
            from multiprocessing.reduction import ForkingPickler
        except ImportError:  # where there are no processes
            return
        if "reducer_override" not in vars(ForkingPickler):
            ForkingPickler.reducer_override = _reduce  # type: ignore[method-assign]


@functools.lru_cache(maxsize=MAX_LOADED)
def load(data: bytes) -> Any:
    """Unpickle a function or class that was pickled by value, in the process of a pool or back from it."""
    install()
    return pickling.loads(data, view=_SENT)


class _Sent:
    """An object sent to a pool, so that what comes back is of the very classes that were sent there.

    Those of a workflow's copy, or of the notebook.
    """

    def __init__(self) -> None:
        # Of two that are alike, the one that was sent last.
        self._classes: weakref.WeakValueDictionary[Identity, type] = weakref.WeakValueDictionary()

    def take_note(self, used: Mapping[Identity, type]) -> None:
        """Note the classes that are sent, within whatever holds them."""
        self._classes.update(used)

    def find(self, meant: Identity) -> type | None:
        """See `classes.View`."""
        found = self._classes.get(meant)
        return found if found is not None or _in_child() else NOTEBOOK.find(meant)

    def within(self, meant: Identity) -> type | None:
        """See `classes.View`."""
        found = self._classes.get(meant)
        return found if found is not None or _in_child() else NOTEBOOK.within(meant)

    def add(self, meant: Identity, built: type) -> None:
        """See `classes.View`."""
        if _in_child():
            self._classes[meant] = built
        else:
            NOTEBOOK.add(meant, built)


_SENT: Final = _Sent()


def _in_child() -> bool:
    """Return whether this is a process of a pool.

    What its `__main__` has is not what was sent, though it may be called the same.
    """
    return multiprocessing.parent_process() is not None


def _reduce(_pickler: object, obj: Any) -> Reduced | Any:
    """See `pickle.Pickler.reducer_override`."""
    if isinstance(obj, types.FunctionType | type):
        if _is_found(obj):
            return NotImplemented
        used: dict[Identity, type] = {}
        data = pickling.dumps(obj, limits.MAX_COPIED_BYTES, used)
        _SENT.take_note(used)
        return (load, (data,))
    if isinstance(obj, BaseException) and isinstance(type(obj).__init__, types.FunctionType):
        # One that does not unpickle is a broken pool, or one that waits for ever.
        return exceptions.reduced(obj) or NotImplemented
    return NotImplemented


def _is_found(obj: types.FunctionType | type) -> bool:
    """Return whether a child finds it by its name."""
    name: Any = obj.__module__
    module = sys.modules.get(name) if isinstance(name, str) else None
    if name == "builtins":
        return True
    if name == "__main__" and not (getattr(module, "__spec__", None) or hasattr(module, "__file__")):
        return False  # a notebook's, which a child does not run
    found: Any = module
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


def _begin_anew_in_child() -> None:
    # The thread that held these at the time of the fork is not in this process.
    pickling.forget_locks()
    blobs.forget_locks()
    _cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK = threading.Lock()
    # What a child prints goes where its parent's goes: the node that would take it is not here.
    current_execution.set(None)
    CONTEXT.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)

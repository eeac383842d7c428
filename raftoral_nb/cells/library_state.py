"""State of libraries that cells change without binding a name: chance, the current folder, the settings of plots."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import random
import sys
import types
from collections.abc import Sequence
from typing import Any, Final

RANDOM: Final = "random.getstate()"
NUMPY: Final = "numpy.random.get_state()"
FOLDER: Final = "os.getcwd()"
PLOTS: Final = "matplotlib.rcParams"
"""The names under which they are recorded: none is one of a variable."""


class LibraryState:
    """The state at one moment."""

    def __init__(self) -> None:
        self._random = random.getstate()
        self._numpy = _numpy_state()
        self._folder = _folder()
        self._plots = _plots()
        self._paths = tuple(sys.path)

    @property
    def new_paths(self) -> tuple[str, ...]:
        """What `sys.path` is now; empty if it is as it was."""
        now = tuple(sys.path)
        return () if now == self._paths else now

    def changes(self) -> dict[str, Any]:
        """Return what has changed since then, as it is now."""
        now = LibraryState()
        found: dict[str, Any] = {}
        if now._random != self._random:
            found[RANDOM] = now._random
        if now._numpy is not None and now._numpy != self._numpy:  # the module may have come with the cell
            found[NUMPY] = now._numpy
        if now._folder != self._folder:
            found[FOLDER] = now._folder
        if self._plots is not None and now._plots is not None:
            changed = {key: value for key, value in now._plots.items() if _differ(self._plots.get(key), value)}
            if changed:
                found[PLOTS] = changed
        return found


def restore_state(changes: dict[str, Any]) -> None:
    """Bring about what was recorded. What this process cannot do is left: a folder that is gone, say."""
    if RANDOM in changes:
        random.setstate(changes[RANDOM])
    if NUMPY in changes:
        with contextlib.suppress(ImportError):
            import numpy.random  # only where it was used

            numpy.random.set_state(pickle.loads(changes[NUMPY]))
    if changes.get(FOLDER):
        with contextlib.suppress(OSError):
            os.chdir(changes[FOLDER])
    if PLOTS in changes:
        with contextlib.suppress(ImportError):
            import matplotlib as mpl

            mpl.rcParams.update(changes[PLOTS])


def restore_paths(paths: Sequence[str]) -> None:
    """Put what `sys.path` had where it had it; what is there already stays where it is."""
    for place, path in enumerate(paths):
        if path not in sys.path:
            sys.path.insert(place, path)


def _numpy_state() -> bytes | None:
    module = sys.modules.get("numpy.random")
    return None if module is None else pickle.dumps(module.get_state())


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - text, as it is recorded
    except OSError:
        return None


def _plots() -> dict[str, Any] | None:
    module = sys.modules.get("matplotlib")
    settings = getattr(module, "rcParams", None)
    return None if settings is None else dict(dict.items(settings))


def _differ(one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except Exception:  # an array, say
        return True


def named_method(value: Any) -> tuple[str, str] | None:
    """Return the module and the name of a method that a library gives as one of its functions (`random.randint`); None for any other.

    It is bound to the library's own state, and is found by its name like any function.
    """
    if not isinstance(value, types.MethodType | types.BuiltinMethodType):
        return None
    module, name = type(value.__self__).__module__, str(getattr(value, "__name__", ""))
    found = None if module == "__main__" else getattr(sys.modules.get(module), name, None)
    return (module, name) if type(found) is type(value) and found == value else None


def of_module(module: str, name: str) -> Any:
    """Return what a library has under a name."""
    return getattr(importlib.import_module(module), name)

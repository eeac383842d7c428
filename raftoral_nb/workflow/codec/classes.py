"""Identity of classes.

A class of the notebook is known by its name and its code, not by the object that it happens to be.

A cell that is run again makes new class objects, and so does the next kernel, and every process. Whatever is pickled names its
by-value classes by their `Identity` (made in `anatomy`). The unpickler decides by a `View` which class object that is:

* A node's copy of a workflow has classes of its own, made from the shipped code. Values of its runs are of these (`Known`).
* What is handed back to the notebook is of the class that the notebook has now (`NOTEBOOK`).
* A value that is only looked at after a round trip keeps the classes that it had (`Same`).

Where a name means other code on both sides, it is refused or said, with what differs.
"""

from __future__ import annotations

import copy
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...errors import ClassChangedError, ClassChangedWarning
from . import anatomy
from .anatomy import Identity

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "NOTEBOOK",
    "Identity",
    "Known",
    "Lookup",
    "Same",
    "View",
    "differences",
    "identity",
    "note_built",
    "same",
    "telling",
]


Lookup = Callable[[], "Known | None"]
"""The function that gives the classes of a workflow when they are needed, as making them may take a while."""


class View(Protocol):
    """A view that decides which classes the classes in a pickle become."""

    def find(self, meant: Identity) -> type | None:
        """Return the class to take for `meant`; None if there is none, and it is to be built.

        Raises:
            ClassChangedError: there is one of that name, and it is not the same.
        """
        ...

    def within(self, meant: Identity) -> type | None:
        """Return the same for a class that is only referred to by the code of another one; raises nothing."""
        ...

    def add(self, meant: Identity, built: type) -> None:
        """Take note of a class that was built, as there was none."""
        ...


# --- identities

# The identity of a class that was unpickled here is the one it came with: it may have lost the way to its source.
_built: Final[weakref.WeakKeyDictionary[type, Identity]] = weakref.WeakKeyDictionary()
# Of the notebook's classes, with what they looked like then: they may be changed in place.
_looked_at: Final[weakref.WeakKeyDictionary[type, tuple[int, Identity]]] = weakref.WeakKeyDictionary()
# Classes that were sent from here, and those that were built for the notebook, by all that is known of them.
_here: Final[weakref.WeakValueDictionary[tuple[str, str, str], type]] = weakref.WeakValueDictionary()
_LOCK: Final = threading.RLock()
_OURS: Final = f"{__name__.partition('.')[0]}."
_under_way: Final[list[type]] = []


def identity(cls: type) -> Identity:
    """Return the identity of a by-value class; computed anew if the class was changed since."""
    known = _built.get(cls)
    if known is not None:
        return known
    looks = anatomy.looks(cls)
    with _LOCK:
        before = _looked_at.get(cls)
        if before is not None and before[0] == looks:
            return before[1]
        if cls in _under_way:  # a class within one that it is derived from
            return Identity(cls.__module__, cls.__qualname__, "", "", "", ())
        _under_way.append(cls)
        try:
            made = anatomy.identify(cls, identity)
        finally:
            _under_way.remove(cls)
        _looked_at[cls] = looks, made
        _here[made.module, made.qualname, made.whole] = cls
    return made


def note_built(cls: type, meant: Identity) -> None:
    """Remember that `cls` was unpickled as the class that is `meant`."""
    with _LOCK:
        _built[cls] = meant


def same(one: type, other: type) -> bool:
    """Return whether two class objects are one class: of one name, and of the same code."""
    if one is other:
        return True
    if (one.__module__, one.__qualname__) != (other.__module__, other.__qualname__):
        return False
    return anatomy.is_by_value(one) and anatomy.is_by_value(other) and identity(one).code == identity(other).code


def differences(before: Identity, now: Identity) -> str:
    """Return what differs in the code of two classes of one name, as text.

    For example `field 'note' was added, method 'total' changed`.
    """
    return anatomy.differences(before, now)


# --- views


class Same:
    """The very classes with which a value was pickled here (`pickling.dumps` fills the table)."""

    def __init__(self, used: Mapping[Identity, type]) -> None:
        self._used = used

    def find(self, meant: Identity) -> type | None:
        """See `View`."""
        return self._used.get(meant)

    within = find

    def add(self, meant: Identity, built: type) -> None:
        """Do nothing: no class is built that was used."""


class Known:
    """The classes of one copy of a workflow's code.

    `owner` names the workflow in messages. `notice`, if set, is told what is not refused and yet worth saying.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.notice: Callable[[str], None] | None = None
        self._by_name: dict[tuple[str, str], list[tuple[Identity, type]]] = {}
        # Classes of values that the code does not know: kept as long as something is of them.
        self._others: weakref.WeakValueDictionary[tuple[str, str, str], type] = weakref.WeakValueDictionary()

    def for_run(self, notice: Callable[[str], None]) -> Known:
        """Return the same, for one run that is told, each thing once, what is worth saying."""
        told: set[str] = set()

        def tell(text: str) -> None:
            if text not in told:
                told.add(text)
                notice(text)

        mine = copy.copy(self)
        mine.notice = tell
        return mine

    def belongs(self, meant: Identity, cls: type) -> None:
        """Take a class in that the code itself refers to."""
        self._by_name.setdefault((meant.module, meant.qualname), []).append((meant, cls))

    def find(self, meant: Identity) -> type | None:
        """See `View`. A class that holds the same, and only does something else with it, is the workflow's own.

        So a run that was moved to a version in which a method was mended uses the mended one.
        """
        found = self.within(meant)
        if found is not None:
            return found
        other = self._other(meant)
        if other is None:
            return _imported(meant)
        changed = self._changed(other[0], meant)
        if other[0].shape == meant.shape and not meant.local:
            if self.notice is not None:
                self.notice(f"{changed}; it is used as the workflow knows it")
            return other[1]
        raise ClassChangedError(changed)

    def within(self, meant: Identity) -> type | None:
        """See `View`."""
        known = self._by_name.get((meant.module, meant.qualname), ())
        for one, cls in known:
            if one.whole == meant.whole:
                return cls
        if not meant.local:
            for one, cls in known:
                if one.code == meant.code:
                    return cls
        return self._others.get((meant.module, meant.qualname, meant.whole))

    def add(self, meant: Identity, built: type) -> None:
        """See `View`."""
        self._others[meant.module, meant.qualname, meant.whole] = built

    def refuse_changed(self, used: Iterable[Identity], what: str) -> None:
        """Check the classes of a value that is to be sent.

        Raises:
            ClassChangedError: the workflow knows one of them with other code.

        Warns with `ClassChangedWarning` where only values of class attributes differ.
        """
        for meant in used:
            known = self._by_name.get((meant.module, meant.qualname), ())
            if any(one.whole == meant.whole for one, _ in known):
                continue
            other = self._other(meant)
            if other is not None:
                raise ClassChangedError(
                    f"{what}: {self._changed(other[0], meant)}. Run the cell of the workflow again (it becomes the next version), "
                    f"or make the value with the class as it was"
                )
            for one, _ in known:
                if not meant.local and (values := anatomy.other_values(one, meant)):
                    text = f"{what}: {values} of the class {meant.name} differs from what {self.owner} was registered with, and keeps"
                    text = f"{text} using. Run the cell of the workflow again to have it changed"
                    if self.notice is not None:
                        self.notice(text)
                    else:
                        _warn(text)

    def _other(self, meant: Identity) -> tuple[Identity, type] | None:
        """Return the class of that name, if none of them has the same code."""
        known = self._by_name.get((meant.module, meant.qualname), ())
        return None if any(one.code == meant.code for one, _ in known) or not known else known[-1]

    def _changed(self, mine: Identity, meant: Identity) -> str:
        return (
            f"the class {meant.name} is not the one that {self.owner} was registered with: {differences(mine, meant)}"
        )


class _Notebook:
    """The classes that the notebook has now. `tell`, if set, is told of those whose code is another by now."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell

    def find(self, meant: Identity) -> type | None:
        """See `View`. A class with other code is not taken: the value is of the class that the run had."""
        now = _named(meant)
        if now is not None:
            # One that is imported here counts by its name, as it does wherever it is imported.
            mine = identity(now)
            if mine.code == meant.code or not anatomy.is_by_value(now):
                return now
            if self._tell is not None:
                self._tell(
                    f"it holds the class {meant.name} as the run knew it, and it has changed since: {differences(meant, mine)}"
                )
        return _here.get((meant.module, meant.qualname, meant.whole))

    def within(self, meant: Identity) -> type | None:
        """See `View`."""
        return _here.get((meant.module, meant.qualname, meant.whole))

    def add(self, meant: Identity, built: type) -> None:
        """See `View`."""
        _here.setdefault((meant.module, meant.qualname, meant.whole), built)


NOTEBOOK: Final = _Notebook()
"""The view outside of runs: what the notebook's names mean now."""


def telling(what: str) -> View:
    """Return `NOTEBOOK`, with a `ClassChangedWarning` where a class has changed since; `what` names the value."""
    return _Notebook(lambda text: _warn(f"{what}: {text}"))


def _warn(text: str) -> None:
    """Warn at the first line that is not ours."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, ClassChangedWarning, level)


def _imported(meant: Identity) -> type | None:
    """The same class of a module that this process has imported: code that was shipped by name refers to that one."""
    found = None if meant.module == "__main__" else _named(meant)
    return found if found is not None and identity(found).code == meant.code else None


def _named(meant: Identity) -> type | None:
    """The class that has the name now. Here it may be one that can be imported, though elsewhere it travels by value."""
    module: ModuleType | None = sys.modules.get(meant.module)
    if module is None or meant.local:
        return None
    found: Any = module
    for part in meant.qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None

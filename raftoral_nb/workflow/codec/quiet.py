"""Making a class again without defining it again: what its author does whenever a class is defined has been done.

Python calls the `__new__` and `__init__` of a metaclass and the `__init_subclass__` of a base, with the keywords of the class
statement. When a class is unpickled these keywords are gone, and registries already hold the class.
"""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Iterator
from typing import Any, Final

from cloudpickle import cloudpickle as _cloudpickle

from . import sources

_HOOK: Final = "__init_subclass__"


def make(function: Any, arguments: tuple[Any, ...]) -> Any:
    """Make a class without its attributes by `function(*arguments)`.

    Hooks that travelled by value are not called.
    """
    if function is not _cloudpickle._make_skeleton_class:
        return function(*arguments)
    metaclass, name, bases, body, *_ = arguments
    with without_hook(bases):
        if sources.importable_name(metaclass) is not None:
            return function(*arguments)
        library: Any = next(one for one in metaclass.__mro__ if sources.importable_name(one) is not None)
        resolved = types.resolve_bases(bases)
        namespace = dict(body) if resolved is bases else {**body, "__orig_bases__": bases}
        made = library.__new__(metaclass, name, resolved, namespace)
        library.__init__(made, name, resolved, namespace)
        return made


@contextlib.contextmanager
def without_hook(bases: tuple[Any, ...]) -> Iterator[None]:
    """Open a block in which classes with these bases can be made without calling their `__init_subclass__`.

    It holds for this thread.
    """
    owner = _owner(bases)
    if owner is None:
        yield
        return
    hook, mine = vars(owner)[_HOOK], threading.get_ident()

    def skipped(cls: type, /, **keywords: Any) -> None:
        if threading.get_ident() != mine:  # another thread defines a class
            hook.__get__(None, cls)(**keywords)

    setattr(owner, _HOOK, classmethod(skipped))
    try:
        yield
    finally:
        setattr(owner, _HOOK, hook)


def _owner(bases: tuple[Any, ...]) -> Any:
    """Return the base whose hook Python would call, if it travelled by value."""
    for base in types.resolve_bases(bases):
        for one in base.__mro__:
            if _HOOK in vars(one) and one is not object:
                return one if sources.importable_name(one) is None else None
    return None

"""Methods of a class that are those of a part it has, with their signatures and docstrings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Part = TypeVar("Part")


def delegate(method: Callable[Concatenate[Part, P], R], to: Callable[[Any], Part]) -> Callable[Concatenate[Any, P], R]:
    """Return a method that calls `method` of the part that `to(self)` gives.

    It takes what `method` takes, and has its name, docstring and signature. Not for properties.
    """

    @functools.wraps(method)
    def delegated(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(to(self), *args, **kwargs)

    return delegated

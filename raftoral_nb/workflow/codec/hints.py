"""Annotations as they can be had now, on Pythons that evaluate them at once (to 3.13) and on those that do not (from 3.14 on)."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

if sys.version_info >= (3, 14):
    import annotationlib


def of(owner: Callable[..., Any] | type) -> dict[str, Any]:
    """Return the annotations of a function, or a class' own, by name; those that do not resolve as their text.

    Never raises.

    What does not resolve is, above all, a name that only a type checker imports. From Python 3.14 on such an annotation fails when
    it is looked at; before, it could only be written as text in the first place. So both give the same here. Where even the text is
    not to be had, as of `x: 1 / 0`, there are none.
    """
    try:
        return dict(inspect.get_annotations(owner))
    except Exception:  # evaluating runs whatever is written there
        return _partly(owner)


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the parameters of a function itself, not of one that it wraps, with annotations as `of` gives them.

    Raises:
        TypeError: it is not callable.
        ValueError: it does not tell.
    """
    if isinstance(function, types.MethodType) and isinstance(function.__func__, types.FunctionType):
        function = types.MethodType(settled(function.__func__), function.__self__)
    elif isinstance(function, types.FunctionType):
        function = settled(function)
    return inspect.signature(function, follow_wrapped=False)


if sys.version_info >= (3, 14):

    def settled(function: types.FunctionType) -> types.FunctionType:
        """Return the same function with annotations that anybody may look at; the one that was given stays as it is."""
        if function.__annotate__ is None:
            return function
        same = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        same.__kwdefaults__ = function.__kwdefaults__
        same.__dict__.update(vars(function))
        same.__module__ = function.__module__
        same.__qualname__ = function.__qualname__
        same.__doc__ = function.__doc__
        same.__type_params__ = function.__type_params__
        same.__annotations__ = of(function)
        return same

    def _partly(owner: Callable[..., Any] | type) -> dict[str, Any]:
        """One by one, as each that resolves is of use."""
        try:
            texts = annotationlib.get_annotations(owner, format=annotationlib.Format.STRING)
            found = annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF)
        except Exception:  # not a missing name, but an expression that fails
            return {}
        return {name: texts[name] if _has_reference(one) else one for name, one in found.items()}

    def _has_reference(annotation: Any) -> bool:
        return isinstance(annotation, typing.ForwardRef) or any(map(_has_reference, typing.get_args(annotation)))

else:

    def settled(function: types.FunctionType) -> types.FunctionType:
        """The function itself: its annotations are values, or text."""
        return function

    def _partly(owner: Callable[..., Any] | type) -> dict[str, Any]:  # noqa: ARG001 - as above
        """There are none that say anything."""
        return {}

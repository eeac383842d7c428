"""A step's own copy of what it is given: of its arguments, of the object whose method it is, of what it closes over.

Only the acting node runs a step. What the step changed in the workflow's own objects would be changed there alone, and the other
nodes would continue with something else. So it gets a copy, and if what it changed there is not among what it returns,
that is reported: a change that gets lost is nearly always a mistake.

What was shipped keeps its state on its node (globals are copies, see `docs/promises.md`): the closures of a notebook's functions,
objects of modules. What does not pickle (connections, locks) or is larger than `limits.MAX_COPIED_BYTES` is passed on as it
is, and not compared. Two steps that run at the same time and change the same global cannot be told apart.
"""

from __future__ import annotations

import dis
import functools
import inspect
import random
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from ..codec import sources
from ..codec.copies import ValueSnapshot, alike
from ..codec.fixed import is_fixed, rebinds, remember
from ..codec.values import type_name

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function, and its arguments by place and by name."""


class _Item(NamedTuple):
    """One thing that a step is given."""

    name: str
    value: Any
    always: bool = False
    """True if the step must return it when it changes it, even if it returns something else."""
    bound: bool = False
    """True if it is a variable to which the step assigns: returning the value is not enough."""


class Given:
    """The arguments and captured values of one step, as they were when the step began."""

    def __init__(
        self, call: Call, snapshot: ValueSnapshot | None, shared: tuple[dict[str, Any], ValueSnapshot] | None
    ) -> None:
        self._call = call
        self._snapshot = snapshot
        self._shared = shared

    def copy(self) -> Call:
        """Return a copy of it, for one attempt."""
        if self._snapshot is not None:
            self._call = self._snapshot.copy()
        return self._call

    def changed(self, result: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what the user of the last copy changed, by name.

        The first part must be returned and is not; the second may well be the step's own affair.

        What is part of `result` counts as neither.
        """
        lost: list[str] = []
        own: list[str] = []
        for item in self._changed():
            if item.bound or not _contains(result, item.value):
                (lost if item.bound or item.always or result is None else own).append(item.name)
        return tuple(lost), tuple(own)

    def _changed(self) -> Iterator[_Item]:
        if self._snapshot is not None and self._snapshot.changed(self._call):
            before: Call = self._snapshot.copy()
            for old, new in zip(_items(before), _items(self._call), strict=True):
                if not alike(old.value, new.value):
                    yield new
        if self._shared is not None:
            namespace, snapshot = self._shared
            names: dict[str, Any] = snapshot.copy()
            now = {name: _of_global(namespace.get(name)) for name in names}
            if snapshot.changed(now):
                for name, value in now.items():
                    if not alike(names[name], value):
                        yield _Item(f"the global variable {name!r}, which the workflow reads", value, bound=True)


def given(call: Call, workflow: object) -> Given | None:
    """Return what a step is given; None if nothing of it can be changed, or copied.

    `workflow` is the function that runs the step.
    """
    fn: Any = call[0]
    _, args, kwargs = call
    while isinstance(fn, functools.partial):
        fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
    shared = _shared_globals(fn, workflow)
    # This is on the way of every step.
    if is_fixed(fn) and all(map(is_fixed, args)) and (not kwargs or all(map(is_fixed, kwargs.values()))):
        return None if shared is None else Given(call, None, shared)
    call = (fn, args, kwargs)
    held: list[object] = [fn] if _is_shipped(fn, workflow) or _is_of_module(getattr(fn, "__self__", None)) else []
    snapshot = _snapshot(call, held)
    if snapshot is None:
        held += [item.value for item in _items(call) if _snapshot(item.value, []) is None]
        snapshot = _snapshot(call, held)
    return None if snapshot is None and shared is None else Given(call, snapshot, shared)


def given_elsewhere(call: Call) -> Given | None:
    """Return the same for a call in another process, which has its own copy of all of it: what a function closes over is not compared."""
    fn: Any = call[0]
    _, args, kwargs = call
    while isinstance(fn, functools.partial):
        fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
    call = (fn, args, kwargs)
    held: list[object] = (
        [fn] if isinstance(fn, types.FunctionType) or _is_of_module(getattr(fn, "__self__", None)) else []
    )
    if is_fixed(fn) and all(map(is_fixed, args)) and all(map(is_fixed, kwargs.values())):
        return None
    snapshot = _snapshot(call, held)
    if snapshot is None:
        held += [item.value for item in _items(call) if _snapshot(item.value, []) is None]
        snapshot = _snapshot(call, held)
    return None if snapshot is None else Given(call, snapshot, None)


def advice(names: tuple[str, ...], key: str) -> str:
    """Return the message about changes that are lost."""
    return (
        f"step {key!r} changed {' and '.join(names)}, and did not return it. A step works on a copy, and only what it returns is "
        "recorded and comes back to the workflow, on every node: return what it changed, and go on with that "
        f"(`changed = await ctx.compute({key!r}, ...)`). If the change is of no consequence (a cache, a counter, a source of "
        "chance), let the function make what it changes, or a copy of it, itself"
    )


def _snapshot(value: object, held: list[object]) -> ValueSnapshot | None:
    try:
        return ValueSnapshot(value, held)
    except Exception:  # pickling may raise anything: it is passed on as it is
        return None


# --- the parts of a call


def _items(call: Call) -> list[_Item]:
    fn, args, kwargs = call
    items: list[_Item] = []
    owner = getattr(fn, "__self__", None)
    if isinstance(fn, types.FunctionType):
        items += _closed_over(fn)
    elif isinstance(fn, types.MethodType | types.BuiltinMethodType) or owner is not None:
        items.append(_Item(f"the {type_name(type(owner))} whose method it is", owner, always=True))
    else:
        items.append(_Item(f"the {type_name(type(fn))} that is called", fn, always=True))
    names = _parameters(fn)
    for place, value in enumerate(args):
        name = repr(names[place]) if place < len(names) else f"number {place + 1}"
        items.append(_Item(f"its argument {name}", value, _is_to_be_changed(value)))
    items += [_Item(f"its argument {name!r}", value, _is_to_be_changed(value)) for name, value in kwargs.items()]
    return items


def _closed_over(fn: types.FunctionType) -> Iterator[_Item]:
    assigned = rebinds(fn.__code__)
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # it has no value yet
            value = _NOTHING
        always = _is_to_be_changed(value)
        yield _Item(f"the variable {name!r} of the code around it", value, always, bound=name in assigned)


def _parameters(fn: Callable[..., Any]) -> list[str]:
    try:
        found = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # a built-in function
        return []
    return [one.name for one in found if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]


def _is_to_be_changed(value: object) -> bool:
    """Return iterators and sources of chance: reading from a copy of them would give the same every time."""
    kind = type(value)
    return hasattr(kind, "__next__") or isinstance(value, random.Random) or kind.__module__.startswith("numpy.random")


def _contains(whole: object, part: object, depth: int = 3) -> bool:
    if whole is part:
        return True
    if depth and isinstance(whole, list | tuple | dict):
        parts = whole.values() if isinstance(whole, dict) else whole
        return any(_contains(one, part, depth - 1) for one in parts)
    return False


# --- what keeps its state on its node


def _is_of_module(owner: object) -> bool:
    """Return whether a module has made the object for all, such as the one whose method `random.random` is."""
    module = sys.modules.get(type(owner).__module__) if owner is not None else None
    return module is not None and any(value is owner for value in tuple(vars(module).values()))


_reached: Final[WeakKeyDictionary[types.FunctionType, frozenset[int]]] = WeakKeyDictionary()


def _is_shipped(fn: object, workflow: object) -> bool:
    """Return whether a function with a closure came with the workflow: it was not made by it."""
    workflow = getattr(workflow, "__func__", workflow)
    if not isinstance(fn, types.FunctionType) or not isinstance(workflow, types.FunctionType) or not fn.__closure__:
        return False
    known = _reached.get(workflow)
    if known is None:
        known = _reached[workflow] = frozenset(id(one) for one in _functions(workflow))
    return id(fn) in known


def _functions(start: types.FunctionType) -> Iterator[types.FunctionType]:
    """Return the functions that one takes along (what has it has them)."""
    seen: set[int] = set()
    left: list[Any] = [start]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, types.FunctionType):
            yield value
            left += sources.captured(value).values()
        elif isinstance(value, type) and sources.is_by_value(value):
            left += sources.members(value).values()
        elif isinstance(value, list | tuple | set | frozenset):
            left += value
        elif isinstance(value, dict):
            left += value.values()
        else:  # methods, and what decorators made (steps and workflows among them)
            found = (getattr(value, name, None) for name in ("__func__", "__wrapped__", "fn", "func"))
            left += [one for one in found if isinstance(one, types.FunctionType)]


# --- globals that a workflow reads and a step may change


# The code is kept, so that its id is not used again.
_Names = tuple[types.CodeType, types.CodeType, tuple[str, ...], frozenset[str]]
_names: dict[tuple[int, int], _Names] = {}


def _shared_globals(fn: Any, workflow: Any) -> tuple[dict[str, Any], ValueSnapshot] | None:
    if type(fn) is types.MethodType:
        fn = fn.__func__
    if type(workflow) is types.MethodType:
        workflow = workflow.__func__
    if type(fn) is not types.FunctionType or type(workflow) is not types.FunctionType:
        return None
    namespace = fn.__globals__
    if namespace is not workflow.__globals__:
        return None
    key = (id(fn.__code__), id(workflow.__code__))
    known = _names.get(key)
    if known is None:
        known = _both(fn.__code__, workflow.__code__)
        remember(_names, key, known)
    names = known[2]
    if not names:
        return None
    bound = known[3]
    watched: dict[str, Any] = {}
    for name in names:
        value = _of_global(namespace.get(name))
        if (name in bound or not is_fixed(value)) and _snapshot(value, []) is not None:
            watched[name] = value
    snapshot = _snapshot(watched, []) if watched else None
    return None if snapshot is None else (namespace, snapshot)


def _both(mine: types.CodeType, workflows: types.CodeType) -> _Names:
    """Return the names of globals that a step's code and the workflow's read, and those to which the step's assigns."""
    both = set(sources.global_names(mine)).intersection(sources.global_names(workflows))
    bound = frozenset(one.argval for one in dis.get_instructions(mine) if one.opname == "STORE_GLOBAL")
    return mine, workflows, tuple(sorted(both)), bound


def _of_global(value: object) -> object:
    """Return the attributes of a function: it cannot be changed otherwise."""
    return vars(value) if isinstance(value, types.FunctionType) else value


_NOTHING: Final = None

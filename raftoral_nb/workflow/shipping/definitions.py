"""Workflows as code that is shipped: the decorator, what a registration replicates, and a node's own copy of it."""

from __future__ import annotations

import inspect
import sys
import threading
import types
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, Final, Generic, NamedTuple, TypeVar, overload

import msgspec

from ... import errors, limits
from ...core.records import Definition
from ..codec import hints, local_modules, pickling, sources, views, wrappers
from ..codec.classes import Known
from ..codec.reach import Reach
from ..codec.values import describe, parts, type_name
from . import arithmetic, input_types, shell_lines, versions, wholeness
from .fingerprints import fingerprint
from .step_function import StepFunction

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741

_FORM: Final = "async def name(ctx, input): ..."


class Captured(msgspec.Struct, frozen=True):
    """Something of the notebook that a workflow took along when it was registered: a copy of its value at that time.

    `kind` is the type's name, `size` what it takes pickled on its own, in bytes (parts shared with others count in each).
    """

    name: str
    kind: str
    size: int


class Workflow(Generic[I, O]):
    """A function that can run as a durable workflow, made by the `workflow` decorator.

    `name` is what it is registered under, `version` None if the next free one is to be taken, and `fn` the function.
    Calling it calls the function.
    """

    name: str
    version: int | None
    fn: Callable[[Any, I], Awaitable[O]]

    def __init__(
        self,
        fn: Callable[[Any, I], Awaitable[O]],
        *,
        name: str | None = None,
        version: int | None = None,
    ) -> None:
        validate(fn)
        if version is not None and (type(version) is not int or version < 1):
            raise errors.WorkflowDefinitionError(
                f"the version of a workflow is a whole number from 1 on, not {version!r}"
            )
        if name is not None and (type(name) is not str or not name):
            raise errors.WorkflowDefinitionError(f"the name of a workflow is a non-empty str, not {name!r}")
        self.name = name if name is not None else str(getattr(fn, "__name__", "workflow"))
        self.version = version
        self.fn = fn
        self.__doc__ = fn.__doc__

    def __call__(self, ctx: Any, input: I) -> Awaitable[O]:  # noqa: A002
        """Call the function itself, for use within another workflow."""
        return self.fn(ctx, input)

    def __repr__(self) -> str:
        version = "" if self.version is None else f", version={self.version}"
        return f"Workflow({self.name!r}{version})"


@overload
def workflow(fn: Callable[[Any, I], Awaitable[O]], /) -> Workflow[I, O]: ...


@overload
def workflow(
    *, name: str | None = None, version: int | None = None
) -> Callable[[Callable[[Any, I], Awaitable[O]]], Workflow[I, O]]: ...


def workflow(fn: Any = None, /, *, name: str | None = None, version: int | None = None) -> Any:
    """Make a `Workflow` of `async def name(ctx, input)`; as `@workflow`, or with a name or a version.

    Raises:
        WorkflowDefinitionError: the function has another form, or name or version are of the wrong kind.
    """
    if fn is not None:
        return Workflow(fn, name=name, version=version)
    return lambda function: Workflow(function, name=name, version=version)


def validate(fn: object) -> None:
    """Check that `fn` is `async def` with two positional parameters (the second may have a default).

    Raises:
        WorkflowDefinitionError: it is not; the message says the form to use.
    """
    if isinstance(fn, Workflow):
        raise errors.WorkflowDefinitionError(
            f"{fn!r} is a workflow already: decorate the function once, or pass its .fn"
        )
    if isinstance(fn, (int, str)):
        raise errors.WorkflowDefinitionError(
            f"a workflow is made of a function, not of {fn!r}: write @workflow(name=..., version=...) over {_FORM}"
        )
    name = getattr(fn, "__name__", None) or repr(fn)
    if inspect.isasyncgenfunction(fn):
        raise errors.WorkflowDefinitionError(
            f"{name} is an async generator (it contains yield); a workflow returns: {_FORM}"
        )
    if not isinstance(fn, (types.FunctionType, types.MethodType)) or not inspect.iscoroutinefunction(fn):
        raise errors.WorkflowDefinitionError(f"{name} is not an `async def` function; a workflow is: {_FORM}")
    parameters = hints.signature(fn).parameters.values()
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    needed = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(positional) != 2 or needed or positional[0].default is not inspect.Parameter.empty:
        shown = ", ".join(str(p.name) for p in parameters)
        raise errors.WorkflowDefinitionError(
            f"{name}({shown}) does not take exactly a context and an input; a workflow is: {_FORM} "
            f"(put several values into one dataclass or dict)"
        )


def build(name: str, version: int, fn: Callable[..., Any]) -> tuple[Definition, tuple[Captured, ...]]:
    """Return the definition of a workflow as it is replicated, and what it captured of the notebook.

    Globals and closures are copied as they are now: later changes to them are seen in neither direction.

    Raises:
        WorkflowDefinitionError: `fn` is not `async def name(ctx, input)`.
        CodeNotShippableError: something captured does not pickle or unpickle (named), or all is over
            `limits.MAX_CODE_BYTES` (the largest are named).
    """
    validate(fn)
    input_types.resolve(fn)
    reached = _Reached(fn)
    why = shell_lines.refusal(reached.functions)
    if why is not None:
        raise errors.CodeNotShippableError(f"workflow {name!r} cannot be shipped: {why}.")
    modules: set[str] = set()
    try:
        code = pickling.dumps_code(fn, limits.MAX_CODE_BYTES)
        copy, _ = pickling.loads_code(code, name, modules, stranger=True)
        lost = wholeness.lost_parts(fn, copy)
    except pickling.TooLargeError as error:
        largest = sorted(reached.measured(), key=lambda one: -one.size)[:3]
        listed = ", ".join(f"{one.name} ({one.kind}, {one.size:,} bytes)" for one in largest) or "its code"
        advice = views.hint(part for _, _, value in reached.captured for part in parts(value))
        raise errors.CodeNotShippableError(
            f"workflow {name!r} with what it captured takes {error.size:,} bytes, more than MAX_CODE_BYTES "
            f"({limits.MAX_CODE_BYTES:,}). The largest: {listed}. "
            f"{advice or 'Load large data inside a step instead of capturing it.'}"
        ) from None
    except Exception as error:
        raise _not_shippable(name, reached, error) from error
    if lost is not None:
        raise errors.CodeNotShippableError(
            f"workflow {name!r} cannot be shipped: {lost}. Define such a class in an installed module, or use a dataclass."
        )
    found = arithmetic.settings()
    definition = Definition(
        workflow=name,
        version=version,
        fingerprint=fingerprint(fn),
        digest=_digest(code),
        code=code,
        sources=sources.texts(reached.functions),
        made_with=versions.made_with(modules),
        arithmetic=found or msgspec.UNSET,
    )
    said = tuple(Captured(name, text, len(text)) for name, text in arithmetic.words(found).items())
    return definition, (*reached.measured(), *said)


class Loaded(NamedTuple):
    """A copy of a workflow: its function, and the classes that its code knows."""

    function: Callable[..., Any]
    classes: Known


def load(definition: Definition) -> Callable[..., Any]:
    """Return the function of `load_all` alone."""
    return load_all(definition).function


def load_all(definition: Definition) -> Loaded:
    """Return a new copy of the workflow's function, with globals of its own, for one node.

    Tracebacks will show its source.

    Functions, values and classes of the notebook are copies.

    Raises:
        CodeNotShippableError: the code was damaged on its way, or does not unpickle here.
        VersionMismatchError: which is one, if Python, or a package that the code refers to, has another version here.
    """
    which = f"workflow {definition.workflow!r} version {definition.version}"
    if _digest(definition.code) != definition.digest:
        raise errors.CodeNotShippableError(
            f"the code of {which} does not match its digest: register the workflow again"
        )
    if (why := versions.other_python(definition.made_with)) is not None:
        raise errors.VersionMismatchError(
            f"the code of {which} cannot be loaded here: {why}. Run this node with that version, or register the workflow from "
            "a notebook that has this one, as the next version"
        )
    sources.show(definition.sources)
    try:
        return Loaded(*pickling.loads_code(definition.code, which))
    except Exception as error:
        if why := versions.differences(definition.made_with):
            raise errors.VersionMismatchError(
                f"the code of {which} does not unpickle here ({describe(error)}): {why}. Install the same version"
            ) from error
        raise errors.CodeNotShippableError(
            f"the code of {which} does not unpickle here ({describe(error)}). It needs the modules that it imports, and the "
            f"Python version under which it was registered."
        ) from error


def known_classes(definition: Definition) -> Known | None:
    """Return the classes that a workflow's code knows, to compare values with before they are sent.

    None if it does not load here.
    """
    with _KNOWN_LOCK:
        if definition.digest not in _known:
            try:
                _known[definition.digest] = load_all(definition).classes
            except errors.RaftoralError:  # the nodes will compare
                _known[definition.digest] = None
            while len(_known) > limits.MAX_FUNCTIONS_KEPT:
                del _known[next(iter(_known))]
        return _known[definition.digest]


_known: Final[dict[str, Known | None]] = {}
_KNOWN_LOCK: Final = threading.Lock()


def _digest(code: bytes) -> str:
    return blake2b(code, digest_size=32).hexdigest()


class _Reached:
    """The by-value code that a function reaches, and what that captured, in the order of reaching."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.functions: list[types.FunctionType] = []
        self.captured: list[tuple[str, str, Any]] = []  # name, where it is used, value
        self.within: list[
            tuple[str, str, Any]
        ] = []  # the same for generated code: of interest only if it does not pickle
        self._root = fn
        self._reach = Reach(fn)
        self._seen: set[int] = set()
        self._visit(fn, getattr(fn, "__name__", "the workflow"))

    def measured(self) -> tuple[Captured, ...]:
        """Return what was captured with its size; `size` is 0 for what does not pickle on its own."""
        found = [Captured(name, _kind(value), _size(value)) for name, _, value in self.captured]
        for name, values in self._reach.used.items():
            sizes = [(_size(value, self._root), isinstance(value, (types.FunctionType, type))) for value in values]
            size = sum(
                size for size, code in sizes if code or size <= limits.MAX_MODULE_VALUE_BYTES
            )  # others stay there
            found.append(Captured(local_modules.file_name(sys.modules[name]), "module", size))
        return tuple(found)

    def _visit(self, value: Any, where: str) -> None:
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, types.MethodType):
            self._visit(value.__func__, where)
            self._capture({"self": value.__self__}, where, self.captured)
        elif isinstance(value, Workflow) or (isinstance(value, StepFunction) and not sources.importable_name(value)):
            self._visit(value.fn, where)
        elif isinstance(value, (classmethod, staticmethod)):
            self._visit(value.__func__, where)
        elif isinstance(value, property):
            for accessor in (value.fget, value.fset, value.fdel):
                self._visit(accessor, where)
        elif isinstance(value, types.ModuleType):
            if (module := local_modules.defining(value)) is not None:
                named = {name: one for name, one in vars(module).items() if name in self._reach.names}
                self._capture(named, local_modules.file_name(module), self.within)
        elif (parts := wrappers.parts(value)) is not None:
            for part in parts:
                self._visit(part, where)
        elif sources.is_by_value(value):
            if isinstance(value, types.FunctionType):
                self.functions.append(value)
                generated = len(self.functions) > 1 and sources.is_generated(value)
                if generated or local_modules.of_globals(value.__globals__) is not None:
                    into = self.within
                else:
                    into = self.captured
                found = {**sources.captured(value), **local_modules.imported(value)}
                self._capture(found, value.__qualname__, into)
            else:
                for member in sources.members(value).values():
                    if isinstance(member, (types.FunctionType, type, classmethod, staticmethod, property)) or (
                        wrappers.parts(member) is not None
                    ):
                        self._visit(member, value.__qualname__)

    def _capture(self, found: dict[str, Any], where: str, into: list[tuple[str, str, Any]]) -> None:
        for name, value in found.items():
            if local_modules.defining(value) is not None:
                self._visit(value, where)
                continue
            if isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
                continue
            if isinstance(value, (types.FunctionType, type)) and not sources.is_by_value(value):
                continue
            if isinstance(value, StepFunction) and sources.importable_name(value):
                continue
            if wrappers.is_wrapper(value) and sources.importable_name(value):
                continue
            if not any(name == other and value is same for other, _, same in into):
                into.append((name, where, value))
            self._visit(value, where)


def _kind(value: object) -> str:
    if isinstance(value, types.FunctionType) or wrappers.is_wrapper(value):
        return "function"
    if isinstance(value, Workflow):
        return "workflow"
    if isinstance(value, StepFunction):
        return "step"
    return "class" if isinstance(value, type) else type_name(type(value))


def _size(value: object, root: object = None) -> int:
    try:
        return len(pickling.dumps_code(value, limits.MAX_CODE_BYTES, root))
    except pickling.TooLargeError as error:
        return error.size
    except Exception:  # a size that cannot be told is no error
        return 0


def _not_shippable(workflow_name: str, reached: _Reached, error: Exception) -> errors.CodeNotShippableError:
    # What does not pickle is found by trying each captured thing alone; plain values first, as a function or class fails
    # only because of something within.
    ordered = sorted(
        [*reached.captured, *reached.within],
        key=lambda one: sources.is_by_value(one[2]) or isinstance(one[2], Workflow | StepFunction),
    )
    for name, where, value in ordered:
        try:
            pickling.loads_code(pickling.dumps_code(value, 16 * limits.MAX_CODE_BYTES), name, stranger=True)
        except pickling.TooLargeError:
            continue
        except Exception as cause:  # this is what is looked for
            return errors.CodeNotShippableError(
                f"workflow {workflow_name!r} cannot be shipped: it captured {name!r} (used in {where}), of type "
                f"{_kind(value)}, which does not survive pickling ({describe(cause)}). Create it inside the workflow or inside "
                f"a step, import it there, or pass it as plain data in the input."
            )
    return errors.CodeNotShippableError(
        f"workflow {workflow_name!r} cannot be shipped: its code does not survive pickling ({describe(error)}). Create what "
        f"does not pickle inside the workflow or inside a step."
    )

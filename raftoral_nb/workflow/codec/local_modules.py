"""Modules beside the notebook: files of the user's own, which are edited and loaded again while runs continue.

What a workflow uses of them travels by value, like what the notebook itself defines, so that a run keeps the code that it started
with. A node's copy of such a module has what the code names; anything else is taken from the module as it is there.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from ...threads import user_code

_NEVER: Final = frozenset({"raftoral_nb", "kernel_ext", "__main__", "__mp_main__"})
_KEY: Final = "<module>"
"""The name under which a module's own namespace holds the module; not a name of Python's."""
_NAMESPACE: Final = ("__package__", "__file__", "__path__", "__doc__")


def is_local(name: str) -> bool:
    """Return whether a loaded module is a file of the user's.

    It is then neither of Python, nor installed, nor among tests of pytest.
    """
    top = name.partition(".")[0]
    if top in _NEVER or top in sys.stdlib_module_names:
        return False
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return spec is not None and _is_users(spec)


def _is_users(spec: Any) -> bool:
    if isinstance(spec.origin, str):
        if not spec.origin.endswith(".py") or not user_code.is_users(spec.origin):
            return False
        return "_pytest" not in sys.modules or not _is_tested(spec.origin, len(sys.modules))
    folders = list(spec.submodule_search_locations or ())  # of a package without __init__.py
    return bool(folders) and all(user_code.is_users(f"{folder}{os.sep}x.py") for folder in folders)


@lru_cache(maxsize=1024)
def _is_tested(origin: str, _loaded: int) -> bool:
    """Return whether a file is one of pytest's (a test, a conftest), or lies beside or below one.

    Tests look into such modules.
    """
    for module in tuple(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        place = getattr(spec, "origin", None)
        if (
            isinstance(place, str)
            and type(getattr(spec, "loader", None)).__module__.startswith("_pytest.")
            and user_code.is_users(place)
            and Path(origin).is_relative_to(Path(place).parent)
        ):
            return True
    return False


def defining(value: Any) -> types.ModuleType | None:
    """Return the local module that a value is, or is defined in.

    None if it is none, or anything else than a function or class.
    """
    if isinstance(value, types.ModuleType):
        if _KEY in vars(value):
            return value
        name: Any = value.__name__
    elif isinstance(value, (types.FunctionType, type)) or hasattr(value, "__wrapped__"):
        name = getattr(value, "__module__", None)
    else:
        return None
    if not isinstance(name, str) or not is_local(name):
        return None
    module = sys.modules[name]
    return module if not isinstance(value, types.ModuleType) or value is module else None


def of_globals(namespace: dict[str, Any]) -> types.ModuleType | None:
    """Return the local module whose namespace this is, or the copy of one; None for any other."""
    if _KEY in namespace:
        copy: types.ModuleType = namespace[_KEY]
        return copy
    name = namespace.get("__name__")
    if not isinstance(name, str) or not is_local(name):
        return None
    module = sys.modules[name]
    return module if vars(module) is namespace else None


def file_name(module: types.ModuleType) -> str:
    """Return the name of the file as people know it: `helpers.py`, `shop/prices.py`, `shop/__init__.py`."""
    place = module.__name__.replace(".", "/")
    return f"{place}/__init__.py" if hasattr(module, "__path__") else f"{place}.py"


def state_names(module: types.ModuleType) -> frozenset[str]:
    """Return the names that the module's own functions assign: what has changed there is not its code."""
    assigned: set[str] = set()
    for value in tuple(vars(module).values()):
        if isinstance(value, types.FunctionType) and value.__globals__ is vars(module):
            assigned |= {one.argval for one in dis.get_instructions(value.__code__) if one.opname == "STORE_GLOBAL"}
    return frozenset(assigned)


# --- what code imports when it runs


def imported(function: types.FunctionType) -> dict[str, types.ModuleType]:
    """Load and return the local modules that the function's own code imports, by name.

    The packages around them are included.
    """
    found: dict[str, types.ModuleType] = {}
    for name, names in _imports(function.__code__, function.__globals__.get("__package__")):
        module = _loaded(name)
        if module is None:
            continue
        if hasattr(module, "__path__"):
            for one in names:
                _loaded(f"{name}.{one}")  # it may be a module of the package, and is its attribute then
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            package = ".".join(parts[:count])
            found[package] = sys.modules[package]
    return found


def _loaded(name: str) -> types.ModuleType | None:
    if name.partition(".")[0] in _NEVER | sys.stdlib_module_names:
        return None
    try:
        if name not in sys.modules:
            spec = importlib.util.find_spec(name)
            if spec is None or not _is_users(spec):
                return None
            importlib.import_module(name)
    except Exception:  # running the code will show it
        return None
    return sys.modules[name] if is_local(name) else None


_IMPORT_NAME: Final = dis.opmap["IMPORT_NAME"]


def _imports(code: types.CodeType, package: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Return what the code imports: the name of each module, and what it takes of it."""
    before: list[Any] = [0, None]
    # Most code imports nothing, and this is asked for every method of a class in a value: a look at the bytes is quick.
    for instruction in dis.get_instructions(code) if _IMPORT_NAME in code.co_code[::2] else ():
        if instruction.opname == "IMPORT_NAME":
            level, names = before[-2:]
            name = _absolute(instruction.argval, level if isinstance(level, int) else 0, package)
            if name is not None:
                yield name, names if isinstance(names, tuple) else ()
        before.append(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imports(constant, package)


def _absolute(name: str, level: int, package: Any) -> str | None:
    if not level:
        return name
    if not isinstance(package, str) or not package:
        return None
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - level + 1])
    return f"{base}.{name}" if name else base


class _Import:
    """The substitute for `__import__` in a function that was shipped with modules."""

    def __init__(self, modules: dict[str, types.ModuleType]) -> None:
        self._modules = modules

    def __call__(
        self,
        name: str,
        namespace: Any = None,
        local: Any = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        wanted = _absolute(name, level, (namespace or {}).get("__package__")) or name
        if wanted not in self._modules:
            return builtins.__import__(name, namespace, local, fromlist, level)
        return self._modules[wanted if fromlist or level else wanted.partition(".")[0]]


def make_importing(
    modules: dict[str, types.ModuleType],
    code: types.CodeType,
    namespace: dict[str, Any],
    name: str | None,
    defaults: tuple[Any, ...] | None,
    closure: tuple[Any, ...] | None,
) -> types.FunctionType:
    """Return a function that imports these modules where its code says `import`. They may be filled in later."""
    namespace["__builtins__"] = {**vars(builtins), "__import__": _Import(modules)}
    function = types.FunctionType(code, namespace, name, defaults, closure)  # keeps the built-in names it finds now
    namespace["__builtins__"] = vars(builtins)
    return function


# --- how they are pickled


class Namespace:
    """The placeholder for the namespace of a local module in a pickle: one for each module, shared by its functions."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __reduce__(self) -> Any:
        found = {name: vars(self._module)[name] for name in _NAMESPACE if name in vars(self._module)}
        if "__path__" in found:
            found["__path__"] = list(found["__path__"])
        return make_namespace, (self._module.__name__, found)


class Elsewhere:
    """The placeholder for a value of a local module that is not copied.

    It is that of the module where the code is loaded.
    """

    def __init__(self, module: str, name: str) -> None:
        self._place = (module, name)

    def __reduce__(self) -> Any:
        return take, self._place


def make_namespace(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return the namespace of a new module, which cannot be imported."""
    module = types.ModuleType(name)
    vars(module).update(found)
    vars(module)[_KEY] = module
    return vars(module)


def take(module: str, name: str) -> Any:
    """Return a value of a module that this process imports."""
    return getattr(importlib.import_module(module), name)


def module_of(namespace: dict[str, Any]) -> Any:
    """Return the module that was made with a namespace."""
    return namespace[_KEY]


def fill(module: types.ModuleType, found: dict[str, Any]) -> None:
    """Give a module what it has. Any other attribute is looked up in the module that this process imports."""
    vars(module).update(found)
    if "__getattr__" not in found:
        vars(module)["__getattr__"] = _Fallback(module.__name__)


class _Fallback:
    def __init__(self, module: str) -> None:
        self._module = module

    def __call__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        try:
            return take(self._module, name)
        except ImportError:
            raise AttributeError(
                f"module {self._module!r} as it was shipped has no {name!r}, which the workflow's code does not name; and it "
                "cannot be imported here"
            ) from None


def module_state(
    module: types.ModuleType, names: frozenset[str], portable: Callable[[types.ModuleType, str, Any], Any]
) -> dict[str, Any]:
    """Return the state of a copy of the module: the attributes that are named in the code, and `__getattr__`."""
    return {
        name: portable(module, name, value)
        for name, value in tuple(vars(module).items())
        if (name in names and not (name.startswith("__") and name.endswith("__"))) or name == "__getattr__"
    }


# --- installed packages


def submodules(package: types.ModuleType) -> str:
    """Return the modules of an installed package that are loaded, one a line, without those that are not for others."""
    if not hasattr(package, "__path__"):
        return ""
    prefix = f"{package.__name__}."
    found = [name[len(prefix) :] for name in tuple(sys.modules) if name.startswith(prefix) and "._" not in name]
    return "\n".join(found[:MAX_SUBMODULES])


MAX_SUBMODULES: Final = 1000
"""Modules of one package that are loaded with it where a workflow is loaded."""


def import_package(name: str, inside: str) -> Any:
    """Import a package, with those of its modules that were loaded where the workflow was registered.

    Modules that do not exist here are left out.
    """
    package = importlib.import_module(name)
    for one in inside.split("\n"):
        if f"{name}.{one}" not in sys.modules:
            with contextlib.suppress(Exception):  # the code may never use it; some cannot be imported on their own
                importlib.import_module(f"{name}.{one}")
    return package

"""Names in a function's syntax tree and what they stand for.

Its node, what is bound in it, and the full names of things.
"""

from __future__ import annotations

import ast
import linecache
import types
from functools import lru_cache

from ..codec.sources import parsed
from .rules import MODULE_NAMES
from .shapes import FunctionNode, own_nodes


@lru_cache(maxsize=32)
def _functions(text: str) -> dict[tuple[str, int], FunctionNode]:
    """Return the functions of a file by name and first line (that of the first decorator)."""
    found: dict[tuple[str, int], FunctionNode] = {}
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name, first] = node
    return found


def node_of(function: types.FunctionType) -> FunctionNode | None:
    """Return the syntax tree of a function; None if its source is not there."""
    text = "".join(linecache.getlines(function.__code__.co_filename))
    try:
        return _functions(text).get((function.__code__.co_name, function.__code__.co_firstlineno))
    except (SyntaxError, ValueError, RecursionError):
        return None


class NameScope:
    """The names of one function node: what is bound in it, and how."""

    def __init__(self, node: FunctionNode) -> None:
        self.bound = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
        self.imports: dict[str, str] = {}
        self.functions: dict[str, FunctionNode] = {}
        self.values: dict[str, list[ast.expr | None]] = {name: [None] for name in self.bound}
        self.globals: set[str] = set()
        self.closed: set[str] = set()
        """Names of async generators that are closed by `aclosing`, or by `aclose()`."""
        for inner in own_nodes(node.body if isinstance(node.body, list) else [node.body]):
            self._bind(inner)
        self.bound -= self.globals

    def _bind(self, node: ast.AST) -> None:
        match node:
            case ast.Global(names=names):
                self.globals.update(names)
            case ast.Import(names=names):
                for alias in names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self.bound.add(name)
                    self.imports[name] = alias.name if alias.asname else name
            case ast.ImportFrom(module=str(module), names=names, level=0):
                for alias in names:
                    self.bound.add(alias.asname or alias.name)
                    self.imports[alias.asname or alias.name] = f"{module}.{alias.name}"
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.bound.add(node.name)
                self.functions[node.name] = node
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                self.bound.add(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.bound.add(name)
                self.values.setdefault(name, []).append(value)
                if isinstance(value, ast.Lambda):
                    self.functions[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self.bound.add(name)
                self.values.setdefault(name, []).append(value)
            case (
                ast.Attribute(value=ast.Name(id=name), attr="aclose")
                | ast.Call(func=ast.Name(id="aclosing") | ast.Attribute(attr="aclosing"), args=[ast.Name(id=name)])
            ):
                self.closed.add(name)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                self.bound.add(name)
            case ast.For(target=target) | ast.AsyncFor(target=target) | ast.comprehension(target=target):
                for inner in ast.walk(target):
                    if isinstance(inner, ast.Name):
                        self.values.setdefault(inner.id, []).append(None)


def full_name(thing: object) -> str | None:
    """Return the name under which the rules know a module, a class or a function; None for anything else."""
    if isinstance(thing, types.ModuleType):
        return MODULE_NAMES.get(thing.__name__, thing.__name__)
    name = getattr(thing, "__qualname__", None)
    if not isinstance(name, str) or not isinstance(
        thing, type | types.FunctionType | types.BuiltinFunctionType | types.MethodType
    ):
        return None
    owner = getattr(thing, "__self__", None)
    if owner is not None and not isinstance(owner, types.ModuleType):
        # A method bound to a hidden instance or to a class: random.random, datetime.now.
        cls = owner if isinstance(owner, type) else type(owner)
        if cls.__module__ in ("random", "numpy.random", "numpy.random.mtrand"):
            return f"{cls.__module__.removesuffix('.mtrand')}.{thing.__name__}"
        return f"{cls.__module__}.{cls.__qualname__}.{thing.__name__}"
    module = getattr(thing, "__module__", None)
    if not isinstance(module, str):
        return None
    return f"{MODULE_NAMES.get(module, module)}.{name}"

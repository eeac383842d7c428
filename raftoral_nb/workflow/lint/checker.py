"""Points at what a workflow's code must not do, before it runs: line, reason, and what to write instead.

That is what differs from node to node or from replay to replay, and what the workflow's loop refuses; plain asyncio is neither. Only what is certain is pointed at. A name is looked up where the code would find it (closure, globals, built-ins, local
imports); what is in a local variable, or comes from a function, is not known and not guessed. Functions that only steps run
are left alone, and so are importable modules.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import linecache
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from ...threads.user_code import PACKAGE, short_file_name
from ..codec import sources
from . import shapes
from .names import NameScope, full_name, node_of
from .rules import (
    ATTRIBUTES,
    BRANCH_METHODS,
    CANCEL_TEXT,
    CHANGES,
    FORGOTTEN,
    GLOBAL,
    GONE,
    GONE_ERRORS,
    IMPORTED_BEFORE,
    LEFT_GENERATOR,
    LOOP_GETTERS,
    MENDED,
    MISSES_CANCELLATION,
    NODE,
    ORDERED,
    ORDERLESS,
    SET_ORDER,
    SHARED,
    STEP_METHODS,
    TASK_FACTORY,
    Rule,
    is_for_one_loop,
    rule_for,
)
from .shapes import FunctionNode

_CONTAINERS: Final = (list, dict, set, deque, bytearray)
_PACKAGE: Final = str(PACKAGE)
_LOOP: Final = "asyncio.loop"
"""The name that the rules give to the running loop."""


class Finding(msgspec.Struct, frozen=True):
    """Something in a workflow's code that may differ from node to node or from replay to replay, or is refused when it runs.

    `what` is the code in question, `file` and `line` say where it is (the name that tracebacks show), `text` is that line.
    """

    what: str
    file: str
    line: int
    function: str
    text: str
    reason: str
    instead: str

    def __str__(self) -> str:
        return f"{short_file_name(self.file)}:{self.line} in {self.function}: {self.what}: {self.reason}. Instead: {self.instead}"


def findings(function: Callable[..., Any]) -> tuple[Finding, ...]:
    """Find what is not deterministic in a workflow, and in the functions beside it that run outside of its steps.

    Sorted by line.

    Never raises: code whose source is not there, or is not understood, has no findings.
    """
    found: dict[tuple[str, int, str], Finding] = {}
    try:
        target: Any = getattr(function, "__func__", function)
        _Check(target, found).run()
    except Exception:  # a check of ours must not keep a workflow from being registered
        return tuple(found.values())
    return tuple(sorted(found.values(), key=lambda one: (one.file, one.line, one.what)))


class _Check:
    """The check of one workflow: which functions were looked into, and what was found."""

    def __init__(self, function: types.FunctionType, found: dict[tuple[str, int, str], Finding]) -> None:
        self.module = function.__module__
        self.found = found
        self._waiting = [function]
        self._seen: set[types.CodeType] = set()

    def run(self) -> None:
        while self._waiting:
            function = self._waiting.pop()
            if function.__code__ in self._seen:
                continue
            self._seen.add(function.__code__)
            node = node_of(function)
            if node is not None:
                _Look(self, function, node).run()

    def reach(self, target: object) -> None:
        """Look into a function that runs outside of steps as well, if it is the user's own; behind its decorators, too."""
        if not isinstance(target, types.FunctionType) or _is_ours(target):
            return
        inner = inspect.unwrap(target)
        if not isinstance(inner, types.FunctionType) or _is_ours(inner):
            return
        if inner.__module__ == self.module or sources.is_by_value(inner):
            self._waiting.append(inner)


def _is_ours(function: types.FunctionType) -> bool:
    """Return whether a function is of this package; what it wraps is then no business of a user."""
    return function.__code__.co_filename.startswith(_PACKAGE)


class _Look(ast.NodeVisitor):
    """One look through one function and the functions within it."""

    def __init__(self, check: _Check, function: types.FunctionType, node: FunctionNode) -> None:
        self._check = check
        self._function = function
        self._node = node
        self._scopes: list[NameScope] = []
        self._names: list[str] = []
        self._inner: set[FunctionNode] = set()
        self._orderless: set[ast.expr] = set()
        """The arguments of functions that do not mind the order."""
        self._resolving: set[str] = set()
        """Names whose values are being looked at: one may be bound to what itself returns."""
        parameters = [*node.args.posonlyargs, *node.args.args]
        self._contexts = {"ctx"} | ({parameters[0].arg} if parameters else set())
        self._closure: dict[str, Any] = {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                self._closure[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue

    def run(self) -> None:
        self._enter(self._node, self._function.__name__)

    def _enter(self, node: FunctionNode, name: str) -> None:
        if node in self._inner:
            return
        self._inner.add(node)
        self._names.append(name)
        for decorator in getattr(node, "decorator_list", ()):
            self._check_retries(decorator)
        self._scopes.append(NameScope(node))
        for statement in node.body if isinstance(node.body, list) else [node.body]:
            self.visit(statement)
        self._names.pop()
        self._scopes.pop()

    # --- names

    def _lookup(self, name: str) -> tuple[str | None, Any]:
        """Return the full name of what a name stands for, and the thing itself; None where that is not known."""
        for scope in reversed(self._scopes):
            if name in scope.globals:
                break
            if name in scope.imports:
                return scope.imports[name], None
            if name in scope.functions:
                return None, scope.functions[name]
            if name in scope.bound:
                return (_LOOP if self._is_loop(scope, name) else None), None
        if name in self._closure:
            return full_name(self._closure[name]), self._closure[name]
        space = self._function.__globals__
        if name in space:
            return full_name(space[name]), space[name]
        if hasattr(builtins, name):
            return f"builtins.{name}", getattr(builtins, name)
        return None, None

    def _is_loop(self, scope: NameScope, name: str) -> bool:
        values = scope.values.get(name)
        if not values or name in self._resolving:
            return False
        self._resolving.add(name)
        try:
            return all(isinstance(one, ast.Call) and self._resolve(one.func)[0] in LOOP_GETTERS for one in values)
        finally:
            self._resolving.discard(name)

    def _is_local(self, name: str) -> bool:
        return any(name in scope.bound for scope in self._scopes)

    def _resolve(self, node: ast.expr) -> tuple[str | None, Any]:
        match node:
            case ast.Name(id=name):
                return self._lookup(name)
            case ast.Attribute(value=value, attr=attr):
                base, thing = self._resolve(value)
                if base is None:
                    return None, None
                inner = getattr(thing, attr, None) if isinstance(thing, types.ModuleType | type) else None
                own = full_name(inner) if isinstance(inner, types.ModuleType | type) else None
                return own or f"{base}.{attr}", inner
            case ast.Call(func=func):
                made, _ = self._resolve(func)  # of an instance, the class
                if made in LOOP_GETTERS:
                    return _LOOP, None
                return (made, None) if made is not None and made.startswith("pathlib.") else (None, None)
            case _:
                return None, None

    # --- what is found

    def _find(self, node: ast.expr | ast.stmt, what: str, rule: Rule) -> None:
        file, line = self._function.__code__.co_filename, node.lineno
        text = linecache.getline(file, line).strip()
        finding = Finding(what, file, line, self._names[-1], text, rule.reason, rule.instead)
        self._check.found.setdefault((file, line, what), finding)

    def visit_Call(self, node: ast.Call) -> None:
        """Check what is called, and its arguments."""
        name, thing = self._resolve(node.func)
        if name is not None and (rule := self._rule(node, name, thing)) is not None:
            self._find(node, f"{_short(node.func)}()", rule)
        if isinstance(thing, FunctionNode):
            self._enter_inner(node.func, thing)
        else:
            self._check.reach(thing)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if isinstance(node.func, ast.Attribute):
            self.visit(node.func)
            self._check_change(node, node.func)
        elif not isinstance(node.func, ast.Name):
            self.visit(node.func)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        step_function = STEP_METHODS.get(method) if name is None else 0 if self._makes_step(name) else None
        if step_function is not None and method == "compute" and node.args:
            self._check_node(node.args[0])
        self._check_order(node, name, method)
        for place, argument in enumerate(arguments):
            if isinstance(argument, ast.Lambda):
                if method in BRANCH_METHODS or (name is not None and not name.startswith("raftoral_nb.")):
                    self._enter(argument, self._names[-1])
            elif place == step_function and isinstance(argument, ast.Name | ast.Attribute):
                continue
            else:
                if method in BRANCH_METHODS:
                    self._enter_branches(argument)
                self.visit(argument)

    def visit_Expr(self, node: ast.Expr) -> None:
        """Check whether a coroutine is made and dropped: operations of the context notice that themselves."""
        if isinstance(node.value, ast.Call):
            _, thing = self._resolve(node.value.func)
            if (
                isinstance(thing, ast.AsyncFunctionDef) and not shapes.is_async_generator(thing)
            ) or inspect.iscoroutinefunction(thing):
                self._find(node.value, f"{_short(node.value.func)}()", FORGOTTEN)
        self.generic_visit(node)

    def _rule(self, node: ast.Call, name: str, thing: object) -> Rule | None:
        """Return the rule that a call breaks."""
        if name in MENDED:
            # Where it was imported before clusters mended it, the name still stands for the old one.
            current = getattr(asyncio, name.rpartition(".")[2])
            return IMPORTED_BEFORE if isinstance(thing, types.FunctionType) and thing is not current else None
        if name == f"{_LOOP}.set_task_factory" and node.args:
            return None if self._is_task_factory(node.args[0]) else TASK_FACTORY
        if name in ("stamina.retry", "stamina.retry_context"):
            return shapes.stamina_rule(node)
        return rule_for(name, len(node.args) + len(node.keywords))

    def _is_task_factory(self, node: ast.expr) -> bool:
        """Return whether this may be one that a workflow's loop takes."""
        if isinstance(node, ast.Constant):
            return node.value is None
        name, thing = self._resolve(node)
        eager = getattr(asyncio, "eager_task_factory", None)
        return name == "asyncio.eager_task_factory" or (thing is eager is not None)

    def _check_retries(self, decorator: ast.expr) -> None:
        """Check what a decorator says of retries: it is called with the function that it decorates, in the workflow."""
        for inner in ast.walk(decorator):
            if isinstance(inner, ast.Call):
                name, thing = self._resolve(inner.func)
                if name is not None and name.startswith(("tenacity.", "stamina.")):
                    rule = self._rule(inner, name, thing)
                    if rule is not None:
                        self._find(inner, f"{_short(inner.func)}()", rule)

    def _enter_inner(self, func: ast.expr, node: FunctionNode) -> None:
        for decorator in getattr(node, "decorator_list", ()):
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            name, _ = self._resolve(target)
            if name is not None and name.startswith("raftoral_nb."):
                return  # a step
        self._enter(node, func.id if isinstance(func, ast.Name) else self._names[-1])

    def _enter_branches(self, argument: ast.expr) -> None:
        """Look into functions given to an operation that runs them outside of steps."""
        for inner in self._outside_of_steps(argument):
            if isinstance(inner, ast.Lambda):
                self._enter(inner, self._names[-1])
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
                _, thing = self._lookup(inner.id)
                if isinstance(thing, FunctionNode):
                    self._enter_inner(inner, thing)
                else:
                    self._check.reach(thing)

    def _outside_of_steps(self, node: ast.expr) -> Iterator[ast.AST]:
        """Yield a node and all below it, but for functions that `step(...)` makes steps of."""
        left: list[ast.AST] = [node]
        while left:
            inner = left.pop()
            yield inner
            below = list(ast.iter_child_nodes(inner))
            if isinstance(inner, ast.Call) and inner.args and self._makes_step(self._resolve(inner.func)[0]):
                below.remove(inner.args[0])
            left += below

    @staticmethod
    def _makes_step(name: str | None) -> bool:
        return name in ("raftoral_nb.step", "raftoral_nb.workflow.shipping.step_function.step")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Check an attribute: a few do harm without being called."""
        name, thing = self._resolve(node)
        self._check_thing(node, name, thing)
        rule = ATTRIBUTES.get(name or "")
        if rule is not None:
            self._find(node, _short(node), rule)
        self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        """Check what a name stands for."""
        if isinstance(node.ctx, ast.Load):
            name, thing = self._lookup(node.id)
            unknown = name is None and thing is None and not self._is_local(node.id)
            self._check_thing(node, f"raftoral_nb.{node.id}" if unknown else name, thing)

    def _check_thing(self, node: ast.expr, name: str | None, thing: object) -> None:
        package, _, last = (name or "").rpartition(".")
        if last in GONE_ERRORS and package in ("raftoral_nb", "raftoral_nb.errors"):
            self._find(node, _short(node), GONE)
        elif is_for_one_loop(thing):
            self._find(node, _short(node), SHARED)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Skip a function within: it is looked into when it is called, or made a branch."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Skip it as a synchronous one, unless a decorator makes it a handler of updates."""
        for decorator in node.decorator_list:
            match decorator:
                case ast.Call(func=ast.Attribute(attr="on_update")):
                    self._enter(node, node.name)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Skip it as a function."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Skip a class: what its methods do is not known."""

    # --- generators that are left, and cancellations

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        """Check a loop over an async generator, which is left early and not closed."""
        made = self._generator(node.iter)
        if made is not None and shapes.leaves_early(node) and shapes.cleans_up(made):
            self._find(node, f"async for ... in {_short(node.iter)}", LEFT_GENERATOR)
        self.generic_visit(node)

    def _generator(self, node: ast.expr | None) -> FunctionNode | None:
        """Return the function whose async generator this certainly is, if nothing in this function closes it."""
        match node:
            case ast.Call(func=func):
                _, thing = self._resolve(func)
                made = node_of(thing) if isinstance(thing, types.FunctionType) else thing
                return made if isinstance(made, FunctionNode) and shapes.is_async_generator(made) else None
            case ast.Name(id=name):
                for scope in reversed(self._scopes):
                    if name in scope.bound:
                        values = scope.values.get(name, [])
                        known = len(values) == 1 and name not in scope.closed and not isinstance(values[0], ast.Name)
                        return self._generator(values[0]) if known else None
        return None

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        """Check what is caught: cancellations are no exceptions, and their text is not the same everywhere."""
        for handler in node.handlers:
            kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            names = [None if kind is None else self._resolve(kind)[0] for kind in kinds]
            if names == ["builtins.Exception"] and shapes.expects_cancellation(handler) and handler.type is not None:
                self._find(handler.type, "except Exception", MISSES_CANCELLATION)
            if names == ["asyncio.CancelledError"]:
                for use in shapes.uses_of_text(handler):
                    self._find(use, _short(use), CANCEL_TEXT)
        self.generic_visit(node)

    visit_TryStar = visit_Try  # noqa: N815 - ast.NodeVisitor's name

    # --- the node's number

    def _check_node(self, node: ast.expr) -> None:
        for inner in ast.walk(node):
            match inner:
                case ast.Attribute(value=ast.Name(id=name), attr="node") if name in self._contexts:
                    self._find(inner, f"{name}.node", NODE)

    def visit_If(self, node: ast.If) -> None:
        """Check the condition."""
        self._check_node(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """Check the condition."""
        self._check_node(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Check the condition."""
        self._check_node(node.test)
        self.generic_visit(node)

    def visit_Match(self, node: ast.Match) -> None:
        """Check the condition."""
        self._check_node(node.subject)
        self.generic_visit(node)

    # --- globals

    def _global_container(self, node: ast.expr) -> str | None:
        """Return the name of a container that is neither local nor passed in."""
        if isinstance(node, ast.Name) and not self._is_local(node.id):
            _, thing = self._lookup(node.id)
            if isinstance(thing, _CONTAINERS):
                return node.id
        return None

    def _check_change(self, node: ast.Call, func: ast.Attribute) -> None:
        name = self._global_container(func.value)
        if name is not None and func.attr in CHANGES:
            self._find(node, f"{name}.{func.attr}()", GLOBAL)

    def _check_target(self, target: ast.expr) -> None:
        match target:
            case ast.Name(id=name) if any(name in scope.globals for scope in self._scopes):
                self._find(target, f"global {name}", GLOBAL)
            case ast.Subscript(value=value) if (container := self._global_container(value)) is not None:
                self._find(target, f"{container}[...] = ", GLOBAL)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._check_target(part)
            case _:
                pass

    def visit_Assign(self, node: ast.Assign) -> None:
        """Check what is assigned to."""
        for target in node.targets:
            self._check_target(target)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Check what is assigned to."""
        self._check_target(node.target)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        """Check what is deleted."""
        for target in node.targets:
            self._check_target(target)
        self.generic_visit(node)

    # --- the order of sets

    def _is_set(self, node: ast.expr | None, depth: int = 0) -> bool:
        """Return whether it is certain that this is a set whose order may differ."""
        if node is None or depth > 8:
            return False
        match node:
            case ast.Set() | ast.SetComp() if shapes.makes_tasks(node):
                return False
            case ast.Set(elts=parts):
                return not all(isinstance(part, ast.Constant) and type(part.value) in (int, bool) for part in parts)
            case ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id="set" | "frozenset" as name), args=[made]):
                return self._lookup(name)[0] == f"builtins.{name}" and not self._are_tasks(made)
            case ast.Call(
                func=ast.Attribute(
                    value=inner, attr="union" | "intersection" | "difference" | "symmetric_difference" | "copy"
                )
            ):
                return self._is_set(inner, depth + 1)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.BitXor() | ast.Sub(), right=right):
                return self._is_set(left, depth + 1) or self._is_set(right, depth + 1)
            case ast.Name(id=name):
                for scope in reversed(self._scopes):
                    if name in scope.bound:
                        values = scope.values.get(name, [None])
                        return all(self._is_set(value, depth + 1) for value in values)
                _, thing = self._lookup(name)
                return isinstance(thing, set | frozenset) and not all(type(part) in (int, bool) for part in thing)
            case _:
                return False

    def _are_tasks(self, node: ast.expr) -> bool:
        """Return whether it is certain that these are the workflow's own tasks or futures, whose hashes are ordinals."""
        if isinstance(node, ast.Name):
            for scope in reversed(self._scopes):
                if node.id in scope.bound:
                    values = scope.values.get(node.id, [])
                    return bool(values) and all(shapes.makes_tasks(value) for value in values)
        return shapes.makes_tasks(node)

    def _check_order(self, node: ast.Call, name: str | None, method: str) -> None:
        short = (name or "").removeprefix("builtins.")
        if short in ORDERLESS:
            self._orderless.update(node.args)
            return
        if node in self._orderless:
            return
        if (
            short in ORDERED
            or method in ("join", "map")
            or name == "asyncio.as_completed"
            or (method in BRANCH_METHODS and any(isinstance(one, ast.Starred) for one in node.args))
        ):
            for argument in node.args:
                inner = argument.value if isinstance(argument, ast.Starred) else argument
                if self._is_set(inner):
                    self._find(node, f"{_short(node.func)}() of a set", SET_ORDER)
        if method == "pop" and not node.args and isinstance(node.func, ast.Attribute) and self._is_set(node.func.value):
            self._find(node, f"{_short(node.func)}() of a set", SET_ORDER)

    def visit_For(self, node: ast.For) -> None:
        """Check a loop over a set, which matters if what it does depends on the order."""
        if self._is_set(node.iter) and any(_keeps_order(inner) for part in node.body for inner in ast.walk(part)):
            self._find(node, f"for ... in {_short(node.iter)}", SET_ORDER)
        self.generic_visit(node)

    def _check_comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp | ast.SetComp) -> None:
        ordered = isinstance(node, ast.ListComp | ast.GeneratorExp) and node not in self._orderless
        for generator in node.generators:
            if (ordered or _awaits(node)) and self._is_set(generator.iter):
                self._find(node, f"for ... in {_short(generator.iter)}", SET_ORDER)
        self.generic_visit(node)

    visit_ListComp = _check_comprehension  # noqa: N815 - ast.NodeVisitor's name
    visit_GeneratorExp = _check_comprehension  # noqa: N815 - ast.NodeVisitor's name
    visit_DictComp = _check_comprehension  # noqa: N815 - ast.NodeVisitor's name
    visit_SetComp = _check_comprehension  # noqa: N815 - ast.NodeVisitor's name


def _awaits(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Await) for inner in ast.walk(node))


def _keeps_order(node: ast.AST) -> bool:
    match node:
        case ast.Await() | ast.Return() | ast.Break() | ast.Yield():
            return True
        case ast.Call(func=ast.Attribute(attr="append" | "extend" | "insert")):
            return True
        case _:
            return False


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:39] + "…"

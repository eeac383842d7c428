"""Shapes in a syntax tree that the check looks for, where no name needs to be looked up: loops that are left, texts of exceptions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from .rules import GONE_ERRORS, RETRY_CHANCE, RETRY_CLOCK, TASK_MAKERS, Rule

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_INNER: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_TEXT_CALLS: Final = frozenset({"ascii", "format", "repr", "str"})
_SHOWN_BY: Final = frozenset({"critical", "debug", "error", "exception", "info", "log", "print", "warning"})
_NEVER_CAUGHT: Final = GONE_ERRORS | {"CancelledError"}


def own_nodes(nodes: list[ast.stmt] | list[ast.expr]) -> Iterator[ast.AST]:
    """Return these nodes and all within them, those of functions and classes within left out."""
    waiting: list[ast.AST] = list(nodes)
    while waiting:
        one = waiting.pop()
        yield one
        if not isinstance(one, _INNER):
            waiting.extend(ast.iter_child_nodes(one))


def _body(node: FunctionNode) -> list[ast.stmt] | list[ast.expr]:
    return node.body if isinstance(node.body, list) else [node.body]


def leaves_early(loop: ast.AsyncFor) -> bool:
    """Return whether a loop can end by its own `break`, or by a `return`."""
    waiting: list[tuple[ast.AST, bool]] = [(statement, True) for statement in loop.body]
    while waiting:
        one, breaks_this = waiting.pop()
        if isinstance(one, ast.Return) or (isinstance(one, ast.Break) and breaks_this):
            return True
        if not isinstance(one, _INNER):
            here = breaks_this and not isinstance(one, ast.For | ast.AsyncFor | ast.While)
            waiting.extend((inner, here) for inner in ast.iter_child_nodes(one))
    return False


def _yields(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Yield) for one in ast.walk(node))


def is_async_generator(node: FunctionNode) -> bool:
    """Return whether calling this function makes an async generator."""
    return isinstance(node, ast.AsyncFunctionDef) and any(isinstance(one, ast.Yield) for one in own_nodes(node.body))


def cleans_up(node: FunctionNode) -> bool:
    """Return whether a generator has something to do when it is closed: it yields within a `with`, or a `try` with `finally`."""
    return any(
        (isinstance(one, ast.With | ast.AsyncWith) or (isinstance(one, ast.Try) and bool(one.finalbody)))
        and any(_yields(statement) for statement in one.body)
        for one in own_nodes(_body(node))
    )


def expects_cancellation(handler: ast.ExceptHandler) -> bool:
    """Return whether the body of `except Exception` asks whether what it caught is a cancellation, which it never is."""
    if not handler.name:
        return False
    for one in own_nodes(handler.body):
        match one:
            case ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=name), kinds]) if name == handler.name:
                asked = ast.walk(kinds)
            case ast.Compare(left=left, comparators=comparators):
                if not any(isinstance(part, ast.Name) and part.id == handler.name for part in ast.walk(left)):
                    continue
                asked = (part for each in comparators for part in ast.walk(each))
            case _:
                continue
        if any(_named(part) in _NEVER_CAUGHT for part in asked):
            return True
    return False


def _named(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
            return name
        case _:
            return ""


def uses_of_text(handler: ast.ExceptHandler) -> Iterator[ast.expr]:
    """Return where the body of an `except ... as name` makes a text of what it caught, other than to show it."""
    if handler.name is None:
        return
    shown: set[ast.AST] = set()
    for one in own_nodes(handler.body):
        if isinstance(one, ast.Call) and _named(one.func) in _SHOWN_BY:
            shown.update(inner for argument in one.args for inner in ast.walk(argument))
    for one in own_nodes(handler.body):
        if one in shown:
            continue
        match one:
            case ast.Call(func=ast.Name(id=called), args=[ast.Name(id=name), *_]) if called in _TEXT_CALLS:
                pass
            case ast.FormattedValue(value=ast.Name(id=name)):
                pass
            case ast.Attribute(value=ast.Name(id=name), attr="args"):
                pass
            case _:
                continue
        if name == handler.name and isinstance(one, ast.expr):
            yield one


def makes_task(node: ast.expr) -> bool:
    """Return whether this is a task or a future of the workflow's loop: sets of these have the same order everywhere."""
    return isinstance(node, ast.Call) and _named(node.func) in TASK_MAKERS


def makes_tasks(node: ast.expr | None) -> bool:
    """Return whether this is a collection of such tasks and nothing else."""
    match node:
        case ast.List(elts=parts) | ast.Set(elts=parts) | ast.Tuple(elts=parts):
            return bool(parts) and all(makes_task(part) for part in parts)
        case ast.ListComp(elt=part) | ast.SetComp(elt=part) | ast.GeneratorExp(elt=part):
            return makes_task(part)
        case _:
            return False


def stamina_rule(call: ast.Call) -> Rule | None:
    """Return the rule that a retry of stamina breaks: unless told otherwise, it waits at random, and by the clock."""
    given = {one.arg: one.value for one in call.keywords}
    if None in given:  # **options
        return None
    match given.get("wait_jitter"):
        case ast.Constant(value=0 | 0.0):
            pass
        case ast.Constant() | None:
            return RETRY_CHANCE
    match given.get("timeout", ast.Constant(45.0)):
        case ast.Constant(value=value) if value is not None:
            return RETRY_CLOCK
    return None

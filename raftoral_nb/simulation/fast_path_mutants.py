"""The fast path with one of its conditions left out: a piece of its source is replaced, and the method compiled anew."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from ..errors import InternalError
from ..raft import fast_path
from ..raft.fast_path import FastPath

Replaced = tuple[Any, str, Any]
"""An object, the name of its attribute, and what to put there (`mutants.Patch`)."""


def conditions(method: str) -> set[str]:
    """Return the conditions in a method of `FastPath`: whatever it compares, and whatever stands beside an `and`."""
    found: set[str] = set()
    for node in ast.walk(_parsed(method)):
        if isinstance(node, ast.Compare):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.BoolOp):
            found.update(map(ast.unparse, node.values))
    return found


def altered(method: str, piece: str, instead: str = "True") -> Callable[[], list[Replaced]]:
    """Return what makes the patches for a method in which `instead` stands in place of an expression.

    They raise `InternalError` if the method has no such expression.
    """

    def patches() -> list[Replaced]:
        tree = _parsed(method)
        replacer = _Replacer(piece, ast.parse(instead, mode="eval").body)
        replacer.visit(tree)
        if not replacer.found:
            raise InternalError(f"FastPath.{method} has no {piece!r}")
        names: dict[str, Any] = {}
        exec(compile(ast.fix_missing_locations(tree), f"<{method} without {piece}>", "exec"), vars(fast_path), names)  # noqa: S102
        return [(FastPath, method, names[method])]

    return patches


def _parsed(method: str) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(getattr(FastPath, method))))


class _Replacer(ast.NodeTransformer):
    """Puts an expression in place of each that is written as another."""

    def __init__(self, piece: str, instead: ast.expr) -> None:
        self._piece = ast.unparse(ast.parse(piece, mode="eval"))
        self._instead = instead
        self.found = False

    def visit(self, node: ast.AST) -> Any:
        """Replace it, or look inside of it."""
        if isinstance(node, ast.expr) and ast.unparse(node) == self._piece:
            self.found = True
            return ast.copy_location(self._instead, node)
        return self.generic_visit(node)

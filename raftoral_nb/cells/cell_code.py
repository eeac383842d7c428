"""What can be said of a cell by its code alone: the names that it reads and binds, and what of it cannot be recorded. Pure.

Names are those of the notebook: the globals of its cells. What the code does not say (`exec`, `globals()`) is told as `unseen`.
"""

from __future__ import annotations

import ast
import dis
import re
import types
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

_READS: Final = frozenset({"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"})
_BINDS: Final = frozenset({"STORE_NAME", "STORE_GLOBAL"})
_ANYTHING: Final = frozenset({"exec", "eval", "globals", "locals", "vars"})
"""Built-in functions by which code may read whatever there is."""

_RUNS_CODE: Final = frozenset({"time", "timeit", "prun", "capture", "memit", "mprun", "lprun"})
"""Magics that run the Python that they are given."""

_IDENTIFIER: Final = re.compile(r"[^\W\d]\w*")
_MENTIONED: Final = re.compile(r"@([^\W\d]\w*)")
"""A variable of the notebook within a text, as `DataFrame.query` has it."""

_NOT_RECORDED: Final = {
    "open": "an open file",
    "connect": "a connection",
    "socket": "a connection",
    "create_connection": "a connection",
    "Lock": "a lock",
    "RLock": "a lock",
    "Condition": "a lock",
    "Semaphore": "a lock",
    "Thread": "a thread",
    "ThreadPoolExecutor": "a pool of threads",
    "ProcessPoolExecutor": "a pool of processes",
    "Pool": "a pool of processes",
    "Popen": "a process",
    "iter": "an iterator",
}
"""What calls of these names make, by the last part of what is called."""


class Suspect(msgspec.Struct, frozen=True):
    """A name that will not be recorded, as the code already says."""

    name: str
    what: str
    """What it will be: `an open file`."""
    line: int
    """Of the cell, from 1."""


class CellCode(msgspec.Struct, frozen=True, kw_only=True):
    """What the code of a cell says."""

    digest: str
    """The same for every layout of the code, and whatever its comments."""
    reads: frozenset[str]
    """Names that are read as they are before the cell."""
    may_read: frozenset[str]
    """Names that the cell binds, and perhaps reads before that, or perhaps leaves as they are."""
    binds: dict[str, int]
    """Names that it may bind, with the line (from 1) of the last place."""
    deletes: frozenset[str]
    unseen: tuple[str, ...]
    """By what it may read names that are not told here: `exec`, say."""
    suspects: tuple[Suspect, ...]
    definitions: tuple[str, ...]
    """Names that a plain `def`, `class` or `lambda` of the cell binds, and nothing else in it: running that statement again gives the same."""
    methods: dict[str, frozenset[str]]
    """Of each of these definitions: the names whose values are called or used when the statement itself runs."""


def analyse(source: str) -> CellCode:
    """Return what the code of a cell says; it is plain Python, magics rewritten. Raises `SyntaxError`."""
    tree = parse(source)
    flow = _Flow()
    flow.block(tree.body)
    may_read = flow.may_read | flow.perhaps_left() | {name for name in flow.deferred if name in flow.binds}
    reads = flow.reads | {name for name in flow.deferred if name not in flow.binds}
    plain, used = _definitions(tree, flow)
    return CellCode(
        digest=blake2b(ast.dump(tree).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest(),
        reads=frozenset(reads - _ANYTHING),
        may_read=frozenset(may_read - reads),
        binds=flow.binds,
        deletes=frozenset(flow.deletes),
        unseen=tuple(sorted((reads & _ANYTHING) | flow.unseen)),
        suspects=tuple(_suspects(tree)),
        definitions=plain,
        methods=used,
    )


def parse(source: str) -> ast.Module:
    """Return the tree of a cell. Raises `SyntaxError`."""
    return ast.parse(source)


def kept_statements(tree: ast.Module, definitions: Iterable[str]) -> list[ast.stmt]:
    """Return the statements that are run again where a cell is restored: its imports, and these definitions, in their order."""
    wanted = set(definitions)
    return [
        one
        for one in tree.body
        if isinstance(one, ast.Import | ast.ImportFrom) or (_defined(one) is not None and _defined(one) in wanted)
    ]


class _Flow:
    """One pass over a cell, in the order in which it runs."""

    def __init__(self) -> None:
        self.reads: set[str] = set()
        self.may_read: set[str] = set()
        self.deferred: set[str] = set()
        """Read by functions, whenever they are called, and not bound for certain when these are defined."""
        self.binds: dict[str, int] = {}
        self.deletes: set[str] = set()
        self.unseen: set[str] = set()
        self._bound: set[str] = set()
        """Bound for certain, at the place where the pass is."""
        self._perhaps: set[str] = set()
        self._in_loops: set[str] = set()
        """Bound for certain, if each loop runs at least once."""

    def perhaps_left(self) -> set[str]:
        """Return the names that the cell may bind, and may leave as they are.

        Loops count as if they ran: else a cell would depend on what its loops' names meant in other cells.
        """
        return self.binds.keys() - self._bound - self._in_loops

    # --- names

    def read(self, name: str) -> None:
        """Note that a name is read here."""
        if name in self._bound:
            return
        (self.may_read if name in self._perhaps else self.reads).add(name)

    def bind(self, name: str, line: int) -> None:
        """Note that a name is bound here."""
        self.binds[name] = line
        self._bound.add(name)

    def _delete(self, name: str) -> None:
        self.read(name)  # it has to be there
        self.deletes.add(name)
        self._bound.discard(name)

    # --- statements

    def block(self, body: Iterable[ast.stmt]) -> None:
        """Take statements that run one after the other."""
        for statement in body:
            self._statement(statement)

    def _branch(self, body: Sequence[ast.stmt]) -> set[str]:
        """Take statements that may not run; return what is bound for certain behind them if they do."""
        before = set(self._bound)
        self.block(body)
        after, self._bound = self._bound, before & self._bound
        self._perhaps |= after - self._bound
        if body and isinstance(body[-1], ast.Raise):
            return after | self.binds.keys()  # nothing comes behind them
        return after

    def _loop(self, body: Sequence[ast.stmt]) -> None:
        self._in_loops |= self._branch(body)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._scope(node)
                self.bind(node.name, node.lineno)
            case ast.If(test=test, body=body, orelse=orelse):
                self._expression(test)
                one, other = self._branch(body), self._branch(orelse)
                self._bound |= one & other
            case ast.For() | ast.AsyncFor():
                self._expression(node.iter)
                self._for(node)
            case ast.While(test=test, body=body, orelse=orelse):
                self._expression(test)
                self._loop(body)
                self._branch(orelse)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._expression(item.context_expr)
                    if item.optional_vars is not None:
                        self._expression(item.optional_vars)
                self.block(node.body)
            case ast.Try() | ast.TryStar():
                self._try(node)
            case ast.Match(subject=subject, cases=cases):
                self._expression(subject)
                for case in cases:
                    self._branch([*_pattern(case), *([ast.Expr(case.guard)] if case.guard else []), *case.body])
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                self.read(name)
                self._expression(value)
                self.bind(name, node.lineno)
            case ast.Assign(targets=targets, value=value):
                self._expression(value)
                for target in targets:
                    self._expression(target)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                self._expression(annotation)
                if value is not None:
                    self._expression(value)
                    self._expression(target)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                self._import(node, names)
            case ast.Delete(targets=targets):
                for target in targets:
                    self._expression(target)
            case _:
                self._expression(node)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        names = [one for one in ast.walk(node.target) if isinstance(one, ast.Name)]
        held = ast.Assign(targets=[node.target], value=ast.copy_location(ast.Constant(None), node.target))
        self._loop([ast.copy_location(held, node), *node.body])
        for one in names:
            self.binds.setdefault(one.id, one.lineno)
        self._branch(node.orelse)

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        if not node.handlers:  # what fails in it ends the cell
            self.block([*node.body, *node.orelse, *node.finalbody])
            return
        after = self._branch([*node.body, *node.orelse])
        for handler in node.handlers:
            if handler.type is not None:
                self._expression(handler.type)
            name = handler.name  # bound within the handler, and deleted behind it
            had = name is None or name in self._bound
            if name is not None:
                self._bound.add(name)
            after &= self._branch(handler.body)
            if not had and name is not None:
                self._bound.discard(name)
                after.discard(name)
        self._bound |= after
        self.block(node.finalbody)

    def _import(self, node: ast.Import | ast.ImportFrom, names: list[ast.alias]) -> None:
        for alias in names:
            if alias.name == "*":
                self.unseen.add(f"from {getattr(node, 'module', '')} import *")
            else:
                name = alias.asname or (
                    alias.name if isinstance(node, ast.ImportFrom) else alias.name.partition(".")[0]
                )
                self.bind(name, node.lineno)

    # --- expressions

    def _scope(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        code = compiled(ast.Module(body=[node], type_ignores=[]))
        now, later, bound = _names_of(code, node.name)
        for name in now:
            self.read(name)
        self.deferred |= later - self._bound
        for name in bound:
            self.binds.setdefault(name, node.lineno)
            self._perhaps.add(name)

    def _expression(self, node: ast.AST) -> None:
        """Take an expression, or a statement without others in it, in the order in which it is evaluated."""
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                self.read(name)
            case ast.Name(id=name, ctx=ast.Store()):
                self.bind(name, node.lineno)
            case ast.Name(id=name):
                self._delete(name)
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                now, later, bound = _names_of(compiled(ast.Expression(node)), "")
                if isinstance(node, ast.Lambda):
                    self.deferred |= later - self._bound
                else:
                    now = [*now, *later]
                for name in bound:
                    self.binds.setdefault(name, node.lineno)
                    self._perhaps.add(name)
                for name in now:
                    self.read(name)
            case ast.NamedExpr(target=target, value=value):
                self._expression(value)
                self._expression(target)
            case ast.Constant(value=str(text)):
                for name in _MENTIONED.findall(text):
                    self.read(name)
            case ast.Call() if (magic := _magic(node)) is not None:
                self._magic(*magic)
            case _:
                for child in ast.iter_child_nodes(node):
                    self._expression(child)

    def _magic(self, name: str, texts: list[str]) -> None:
        """Take a magic, or a shell command: what its text mentions may be read."""
        for text in texts:
            try:
                body = ast.parse(text).body if name in _RUNS_CODE else None
            except SyntaxError:  # options stand before the code
                body = None
            if body is not None:
                self.block(body)
                continue
            for word in _IDENTIFIER.findall(text):
                self.read(word)
            if name in _RUNS_CODE:
                with_options = re.sub(r"^\s*(?:-\w+\s+(?:\d+\s+)?)+", "", text)
                for target in re.finditer(r"^\s*([^\W\d]\w*)\s*=[^=]", with_options, re.MULTILINE):
                    self.binds.setdefault(target[1], 1)
                    self._perhaps.add(target[1])


def _magic(node: ast.Call) -> tuple[str, list[str]] | None:
    """Return the name of the magic that a call carries out, with the texts that it is given; None if it is no such call."""
    function = node.func
    if not (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Call)
        and isinstance(function.value.func, ast.Name)
        and function.value.func.id == "get_ipython"
    ):
        return None
    texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    if function.attr in {"run_line_magic", "run_cell_magic"} and texts:
        return texts[0], texts[1:]
    return function.attr, texts


def _pattern(case: ast.match_case) -> list[ast.stmt]:
    """Return statements that bind what a pattern binds, and read what it reads."""
    found: list[ast.stmt] = []
    for node in ast.walk(case.pattern):
        name = getattr(node, "name", None) or getattr(node, "rest", None)
        if isinstance(node, ast.MatchAs | ast.MatchStar | ast.MatchMapping) and isinstance(name, str):
            target = ast.Name(id=name, ctx=ast.Store(), lineno=node.lineno, col_offset=0)
            found.append(ast.Assign(targets=[target], value=ast.Constant(None), lineno=node.lineno, col_offset=0))
        elif isinstance(node, ast.MatchValue):
            found.append(ast.Expr(node.value))
        elif isinstance(node, ast.MatchClass):
            found.append(ast.Expr(node.cls))
    return found


def compiled(tree: ast.Module | ast.Expression) -> types.CodeType:
    """Return the code object of a part of a cell, which may `await` at its top level."""
    mode = "eval" if isinstance(tree, ast.Expression) else "exec"
    try:
        code: types.CodeType = compile(
            ast.fix_missing_locations(tree),
            "<cell>",
            mode,
            ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
    except SyntaxError:  # something that only stands within a function: the whole cell will say so itself
        return compile("None", "<cell>", "eval")
    return code


def _names_of(code: types.CodeType, own: str) -> tuple[list[str], set[str], set[str]]:
    """Return the globals that a statement reads when it runs, those that functions in it read later, and those it binds.

    `own` is the name that the statement itself binds, which is left out.
    """
    now: list[str] = []
    later: set[str] = set()
    bound: set[str] = set()
    _collect(code, now, later, bound, top=True)
    bound.discard(own)
    return now, later - {own}, bound


def _collect(code: types.CodeType, now: list[str], later: set[str], bound: set[str], *, top: bool) -> None:
    """Add the names of a code object and of those nested in it.

    The body of a class runs with the statement; that of a function later.
    """
    is_class = not top and not code.co_flags & 0x1  # no fast locals
    local: set[str] = set()
    for one in dis.get_instructions(code):
        if one.opname in _READS and one.argval not in local:
            if top or is_class:
                now.append(one.argval)
            else:
                later.add(one.argval)
        elif one.opname in _BINDS:
            if is_class and one.opname == "STORE_NAME":
                local.add(one.argval)
            else:
                bound.add(one.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_name in {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"} and (top or is_class):
                inner: set[str] = set()
                _collect(constant, now, inner, bound, top=False)
                now += sorted(inner)
            else:
                _collect(constant, now, later, bound, top=False)


def global_reads(code: types.CodeType) -> set[str]:
    """Return the names of all globals that a function's code reads, those nested in it included."""
    now: list[str] = []
    later: set[str] = set()
    _collect(code, now, later, set(), top=False)
    return {*now, *later}


# --- what cannot be recorded, and what need not be


def _suspects(tree: ast.Module) -> Iterator[Suspect]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        what = _unrecordable(node.value)
        if what is not None:
            for target in targets:
                if isinstance(target, ast.Name):
                    yield Suspect(target.id, what, node.lineno)


def _unrecordable(value: ast.expr) -> str | None:
    if isinstance(value, ast.GeneratorExp):
        return "a generator"
    if isinstance(value, ast.Call):
        called = value.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return _NOT_RECORDED.get(name)
    return None


def _defined(node: ast.stmt) -> str | None:
    """Return the name that a statement defines: `def`, `class`, or a `lambda` that is given a name."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda()):
            return name
    return None


def _definitions(tree: ast.Module, flow: _Flow) -> tuple[tuple[str, ...], dict[str, frozenset[str]]]:
    """Return the plain definitions of a cell, with what each uses when its statement runs."""
    counts: dict[str, int] = {}
    for node in ast.walk(tree):
        for name in _stored(node):
            counts[name] = counts.get(name, 0) + 1
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for one in tree.body
        if isinstance(one, ast.Import | ast.ImportFrom)
        for alias in one.names
    }
    plain: list[str] = []
    used: dict[str, frozenset[str]] = {}
    for one in tree.body:
        found = _defined(one)
        if found is None or counts.get(found, 0) != 1 or found in flow.deletes:
            continue
        now, _, bound = _names_of(compiled(ast.Module(body=[one], type_ignores=[])), found)
        ready = {name for name in now if name in plain or name in imported or name not in flow.binds}
        if not bound and ready == set(now):
            plain.append(found)
            used[found] = frozenset(now)
    return tuple(plain), used


def _stored(node: ast.AST) -> Iterator[str]:
    """Return the names that a node binds, wherever it stands: too many are counted rather than too few."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            for alias in names:
                yield (alias.asname or alias.name).partition(".")[0]
        case ast.Global(names=declared):
            yield from declared

"""How long a function and a module may be, in Python and in the view's JavaScript, whatever files there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("raftoral_nb", "kernel_ext")

MAX_FUNCTION: Final = 70
"""Lines of a function, with its first and its last one."""
MAX_MODULE: Final = 600

LONG_TODAY: Final[frozenset[str]] = frozenset()
"""Functions of the engine that are still longer. None may be added."""


class Function(NamedTuple):
    """One function of a module: where it begins, and how many lines it has."""

    name: str
    line: int
    length: int


def python_functions(source: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            end = node.end_lineno or node.lineno
            yield Function(getattr(node, "name", "(lambda)"), node.lineno, end - node.lineno + 1)


# --- JavaScript

_BEFORE_A_PATTERN: Final = frozenset("(,=:[!&|?{};+-*%<>~^")
_NOT_FUNCTIONS: Final = frozenset({"if", "for", "while", "switch", "catch", "with"})
_PAIRS: Final = {")": "(", "]": "[", "}": "{"}


def _skipped_string(source: str, at: int) -> int:
    """The place behind the string or pattern that begins at `at`."""
    quote, inside = source[at], False
    at += 1
    while at < len(source) and (source[at] != quote or inside):
        if source[at] == "\\":
            at += 1
        elif quote == "/":  # a `/` in brackets does not end a pattern
            inside = source[at] == "[" or (inside and source[at] != "]")
        at += 1
    return at + 1


def plain(source: str) -> str:
    """The code with spaces in place of what strings, templates, patterns and comments say; lines stay where they are.

    What stands in `${}` of a template is code, and stays.
    """
    kept: list[str] = []
    at = 0
    templates: list[int] = []  # for each template that is open: how many braces are open in its `${}`
    last = ""  # the last character that is code

    def blank(end: int) -> None:
        nonlocal at
        kept.extend("\n" if one == "\n" else " " for one in source[at:end])
        at = end

    def to_end_of_template(begin: int) -> int:
        """The place behind the part of a template that begins here, up to its end or its next `${`."""
        end = begin
        while end < len(source) and source[end] != "`" and not source.startswith("${", end):
            end += 2 if source[end] == "\\" else 1
        return end

    def template(begin: int) -> None:
        end = to_end_of_template(begin)
        if source.startswith("${", end):
            templates.append(0)
            blank(end + 2)
        else:
            blank(end + 1)

    while at < len(source):
        one = source[at]
        if source.startswith("//", at):
            end = source.find("\n", at)
            blank(len(source) if end < 0 else end)
        elif source.startswith("/*", at):
            blank(source.index("*/", at) + 2)
        elif one in "\"'" or (one == "/" and (not last or last in _BEFORE_A_PATTERN or _ends_with_return(kept))):
            blank(_skipped_string(source, at))
            last = '"'
        elif one == "`":
            template(at + 1)
            last = '"' if not templates or templates[-1] else "{"
        elif one == "}" and templates and templates[-1] == 0:
            templates.pop()
            template(at + 1)
            last = '"'
        else:
            if templates and one in "{}":
                templates[-1] += 1 if one == "{" else -1
            kept.append(one)
            last = one if not one.isspace() else last
            at += 1
    return "".join(kept)


def _ends_with_return(kept: list[str]) -> bool:
    return "".join(kept[-12:]).rstrip().endswith("return")


def javascript_functions(source: str) -> Iterator[Function]:
    """Functions, methods and arrows, those with an expression as their body too."""
    code = plain(source)
    partner = _brackets(code)
    for found in re.finditer(r"=>|\{", code):
        at = found.start()
        before = _back_over_space(code, at)
        closed = code[before - 1 : before] == ")"
        if found[0] == "=>":
            begin = partner[before - 1] if closed else at
            yield _function("(arrow)", code, begin, _end_of_body(code, at + 2, partner))
        elif closed:
            head = _back_over_space(code, partner[before - 1])
            name = _last_word(code, head)
            if name and name not in _NOT_FUNCTIONS:
                yield _function(name, code, head, partner[at])


def _function(name: str, code: str, begin: int, end: int) -> Function:
    first = code.count("\n", 0, begin) + 1
    return Function(name, first, code.count("\n", 0, end) + 2 - first)


def _back_over_space(code: str, at: int) -> int:
    """The place behind the last character before `at` that is no space."""
    while at and code[at - 1].isspace():
        at -= 1
    return at


def _last_word(code: str, end: int) -> str:
    begin = end
    while begin and (code[begin - 1].isalnum() or code[begin - 1] in "_$"):
        begin -= 1
    return code[begin:end]


def _brackets(code: str) -> dict[int, int]:
    """The place of the other bracket, for each."""
    partner: dict[int, int] = {}
    opened: list[int] = []
    for at, one in enumerate(code):
        if one in "([{":
            opened.append(at)
        elif one in _PAIRS:
            begin = opened.pop()
            assert code[begin] == _PAIRS[one], f"line {code.count(chr(10), 0, at) + 1}: {one} closes a {code[begin]}"
            partner[begin], partner[at] = at, begin
    assert not opened
    return partner


def _end_of_body(code: str, at: int, partner: dict[int, int]) -> int:
    while at < len(code) and code[at].isspace():
        at += 1
    if code[at : at + 1] == "{":
        return partner[at]
    while at < len(code) and code[at] not in ",;)]}":
        at = partner.get(at, at) + 1
    return at - 1


# --- the rules


def modules() -> list[Path]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found += (path for path in (ROOT / "kernel_ext").rglob("*") if path.suffix in {".js", ".mjs"})
    assert {path.suffix for path in found} >= {".py", ".mjs"}
    return sorted(found)


def functions(path: Path) -> list[Function]:
    source = path.read_text("utf-8")
    return list(python_functions(source) if path.suffix == ".py" else javascript_functions(source))


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{one.name}": one.length
        for path in modules()
        for one in functions(path)
        if one.length > MAX_FUNCTION
    }
    assert all(name.startswith("raftoral_nb/") for name in LONG_TODAY)
    assert {name: length for name, length in long.items() if name not in LONG_TODAY} == {}
    assert long.keys() >= LONG_TODAY, "some are short by now, and can be taken from the list"


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert {name: length for name, length in lengths.items() if length > MAX_MODULE} == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("function a(x) {\n  return x;\n}\n", [("a", 1, 3)]),
        ("export async function b() {\n}\n", [("b", 1, 2)]),
        ("const c = (x) => {\n\n};\n", [("(arrow)", 1, 3)]),
        ("const c = x => x + 1;\n", [("(arrow)", 1, 1)]),
        ("const c = (\n  x,\n) => (\n  x\n);\n", [("(arrow)", 1, 5)]),
        ("all.map((x) => f(\n  x,\n  1)).join();\n", [("(arrow)", 1, 3)]),
        ("const d = {\n  e(x) {\n    return x;\n  },\n};\n", [("e", 2, 3)]),
        ("if (x) {\n}\nfor (const y of z) {\n}\nwhile (x) {\n}\nswitch (x) {\n}\n", []),
        ("try { } catch (e) {\n}\n", []),
        ("function f() {\n  const s = '}';  // }\n  /* } */\n}\n", [("f", 1, 4)]),
        (
            "function g() {\n  const t = `}\n${[1].map((x) => { return `{${x}`; })}{`;\n}\n",
            [("g", 1, 4), ("(arrow)", 3, 1)],
        ),
        ("function h() {\n  return /[}/]{/.test(x);\n}\n", [("h", 1, 3)]),
        ("function i() {\n  return a / b / c;\n}\n", [("i", 1, 3)]),
        ("function j() {\n  const k = () => {\n  };\n}\n", [("j", 1, 4), ("(arrow)", 2, 2)]),
    ],
)
def test_a_function_of_javascript_is_found_with_its_lines(source: str, expected: list[tuple[str, int, int]]) -> None:
    assert [tuple(one) for one in javascript_functions(source)] == expected


def test_every_declared_function_of_the_view_is_found() -> None:
    for path in modules():
        if path.suffix != ".mjs":
            continue
        source = path.read_text("utf-8")
        named = {one.name for one in functions(path)}
        declared = {
            line.partition("function ")[2].partition("(")[0]
            for line in source.splitlines()
            if line.startswith(("function ", "export function ", "async function "))
        }
        assert declared <= named, path.name


def test_a_function_of_python_is_found_with_its_lines() -> None:
    source = "class A:\n    async def b(self):\n        def c():\n            pass\n        return c\n"
    assert {tuple(one) for one in python_functions(source)} == {("b", 2, 4), ("c", 3, 2)}

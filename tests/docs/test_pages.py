"""The pages: their links lead to something, the index lists them all, and README stays short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(path: Path) -> frozenset[str]:
    """What may stand behind `#`: the headings of a page, as GitHub writes them, or the tests of a module."""
    if path.suffix == ".py":
        tree = ast.parse(path.read_text(encoding="utf-8"))
        return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def targets(page: Path) -> Iterator[str]:
    """What a page links to, and the pictures it shows, of what is in this repository."""
    text = prose(page)
    for target in [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r' src(?:set)?="([^"]+)"', text)]:
        if "://" not in target:
            yield target


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_of_a_page_leads_to_a_file_and_to_a_heading_or_test_in_it(page: Path) -> None:
    for target in targets(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def test_the_index_lists_each_page_once() -> None:
    index = ROOT / "docs" / "index.md"
    listed = [(index.parent / target).resolve() for target in targets(index)]
    assert len(listed) == len(set(listed))
    for page in PAGES:
        assert page == index or page in listed, page


def test_readme_is_short_and_leads_to_the_index() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 170
    assert "docs/index.md" in targets(readme)


def test_each_promise_of_readme_names_a_test() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("\n| it promises |")[2].partition("\n\n")[0]
    promises = [line for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(promises) == len(
        re.findall(r"^\d+\. ", (ROOT / "docs" / "promises.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for promise in promises:
        assert re.search(r"\]\(tests/[\w/]+\.py#test_\w+\)", promise), promise


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_no_magic_line_ends_with_a_comment_as_that_would_be_its_argument(page: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        assert not re.search(r"^(\w+ = )?%\w.*#", code, re.MULTILINE), code

"""The examples in the docstrings are run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MODULES = (
    "raftoral_nb.testing.workflow_tests",
    "raftoral_nb.testing.checking",
    "raftoral_nb.api.history_files",
    "raftoral_nb.api.run",
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_work(name: str) -> None:
    module = importlib.import_module(name)
    assert isinstance(module, ModuleType)
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert tried
    assert not failed


def test_the_tests_that_the_page_on_testing_shows_pass() -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    code = page.partition("```python")[2].partition("```")[0]
    space: dict[str, Any] = {"__name__": "page"}
    exec(code, space)
    tests = [value for name, value in space.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()

"""Outside programs that some tests need, and what happens where one is missing."""

from __future__ import annotations

import importlib
import os
import shutil
from typing import Any, NoReturn

import pytest


def missing(what: str, *, get_it: str) -> NoReturn:
    """Skip the test for want of something, saying how to get it; with RAFTORAL_REQUIRE_ALL_TOOLS=1 fail it instead."""
    message = f"{what} is not installed; to get it: {get_it}"
    if os.environ.get("RAFTORAL_REQUIRE_ALL_TOOLS") == "1":
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


def require_tool(*names: str, get_it: str) -> str:
    """The path of the first of these programs that is there; else the test is skipped, saying how to get it.

    With RAFTORAL_REQUIRE_ALL_TOOLS=1 a missing tool fails the test instead.
    """
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    missing(" or ".join(names), get_it=get_it)


def require_module(name: str, *, get_it: str) -> Any:
    """The module of that name, of an optional package; what happens where it is missing is as in `require_tool`."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(name, get_it=get_it)

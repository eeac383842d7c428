"""The likely cause of a difference names the version of Python, if the workflow was registered with another."""

from __future__ import annotations

import platform

import pytest

from raftoral_nb.workflow.execution import divergence


@pytest.mark.parametrize(("python", "named"), [("3.11.0", True), (platform.python_version(), False), (None, False)])
def test_the_version_of_python_is_named_if_it_differs(python: str | None, named: bool) -> None:
    assert platform.python_version() != "3.11.0"
    cause = divergence.explain("it differs", None, None, python=python).cause
    assert ("registered with Python 3.11.0" in cause) == named
    assert (f"this node runs {platform.python_version()}" in cause) == named
    assert cause.startswith("nothing in the code"), "what the code suggests comes first"

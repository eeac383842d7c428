"""The pytest plugin: the fixture `workflow_test`. pytest finds it by itself; nothing else of the package imports pytest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .workflow_tests import WorkflowTest


@pytest.fixture(name="workflow_test")
def workflow_test_fixture() -> Iterator[WorkflowTest]:
    """Give a started cluster of three nodes in memory on a virtual clock; see `raftoral_nb.testing.WorkflowTest`.

    `with workflow_test(nodes=5) as test:` makes another, as the function that `raftoral_nb.testing` has under that name.
    """
    from .workflow_tests import workflow_test

    with workflow_test() as test:
        yield test


def pytest_runtest_setup() -> None:
    """Begin a test: from here to its end the imported `workflow_test` can stand for the fixture."""
    if (factory := _factory()) is not None:
        factory.begin_test()


def pytest_runtest_teardown() -> None:
    """End the test."""
    if (factory := _factory()) is not None:
        factory.end_test()


def _factory() -> Any:
    """Return the imported `workflow_test`; None if nobody has imported it: then it is not to be loaded for this."""
    module = sys.modules.get(f"{__package__}.workflow_tests")
    return None if module is None else module.workflow_test

"""The pytest plugin: the fixture `workflow_test`. pytest finds it by itself; nothing else of the package imports pytest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .workflow_tests import WorkflowTest


@pytest.fixture(name="workflow_test")
def workflow_test_fixture() -> Iterator[WorkflowTest]:
    """A started cluster of three nodes in memory on a virtual clock; see `raftoral_nb.testing.WorkflowTest`."""
    from .workflow_tests import workflow_test

    with workflow_test() as test:
        yield test

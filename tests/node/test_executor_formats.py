"""A run keeps the format of its records when it begins anew."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import Mock

import pytest

from raftoral_nb.core.records import Definition
from raftoral_nb.node.executor import Executor
from raftoral_nb.threads.step_threads import InlineSteps
from raftoral_nb.workflow.execution.inbox import RunContinued, RunStarted


@pytest.mark.parametrize("record_format", [1, 2])
def test_a_run_that_begins_anew_is_of_the_format_in_which_it_was_recorded(record_format: int) -> None:
    """Else a log of an earlier version would be executed, from the second generation of a run on."""
    executor = Executor(1, cast("Any", Mock()), InlineSteps(), lambda: 0.0, lambda: 0.0)
    definition = Definition("w", 1, "f", "d", b"", {})
    executor.hand_over([RunStarted("r", definition, b"", 1, 0.0, record_format)])
    executor.hand_over([RunContinued("r", definition, 2, b"", 1.0, ())])
    execution = executor.execution("r")
    assert execution is not None
    assert (execution.generation, execution.format) == (2, record_format)

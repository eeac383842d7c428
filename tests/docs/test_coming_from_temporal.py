"""What `docs/coming-from-temporal.md` shows works, and is linked."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from raftoral_nb import Retry, WorkflowContext, step
from raftoral_nb.testing import WorkflowTest, workflow_test

ROOT: Final = Path(__file__).resolve().parents[2]
TEXT: Final = (ROOT / "docs" / "coming-from-temporal.md").read_text(encoding="utf-8")


def shown() -> Any:
    space: dict[str, Any] = {"__name__": "temporal", "asyncio": asyncio, "step": step, "Retry": Retry}
    exec(TEXT.partition("```python\n")[2].partition("```")[0], space)
    return space["order"]


def told(test: WorkflowTest) -> Any:
    """A run of it that was told what it waits for, with a new leader in between."""
    run = test.start(shown(), "tea")
    run.signal("answer", "yes")
    test.advance(1)
    test.cluster.kill("leader")
    test.advance(5)
    run.signal("answer", "no")
    test.advance(1)
    return run


def test_the_order_is_told_and_shipped_under_another_leader() -> None:
    with workflow_test(nodes=3) as test:
        run = told(test)
        assert run.query("answers") == ["yes", "no"]
        assert run.update("ship to", "Lisbon") == "tea goes to Lisbon"
        assert test.finish(run) == "shipped to Lisbon, ['yes', 'no']"


def test_it_is_kept_if_nobody_says_where_to() -> None:
    with workflow_test(nodes=3) as test:
        run = told(test)
        test.advance(timedelta(days=2))
        assert test.finish(run) == "kept"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(?:await |raise )?ctx\.(\w+)", TEXT))))
def test_the_operations_that_it_names_are_there(name: str) -> None:
    assert hasattr(WorkflowContext, name)


def test_the_readme_leads_to_it() -> None:
    assert "(docs/coming-from-temporal.md)" in (ROOT / "README.md").read_text(encoding="utf-8")

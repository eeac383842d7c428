"""The workflow that `docs/runs.md` talks with does what it says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from raftoral_nb import UpdateRefusedError
from raftoral_nb.testing import workflow_test

ROOT: Final = Path(__file__).resolve().parents[2]


def positive(amount: int) -> None:
    if amount <= 0:
        raise ValueError("not that little")


def test_an_amount_is_changed_refused_looked_at_and_approved() -> None:
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    section = page.partition("\n## Talking with runs\n")[2]
    space: dict[str, Any] = {"__name__": "page", "check": int, "pay": "{} paid".format, "positive": positive}
    exec(section.partition("```python\n")[2].partition("```")[0], space)
    with workflow_test(nodes=3) as test:
        run = test.start(space["expense"], 120)
        test.settle()
        assert run.query("amount") == 120
        assert run.update("change", 80) == "noted"
        before = run.steps
        with pytest.raises(UpdateRefusedError, match="not that little"):
            run.update("change", -1)
        assert run.steps == before
        test.cluster.kill("leader")
        test.advance(5)
        assert run.query("amount") == 80
        run.signal("approve", True)
        test.finish(run)
        assert run.value("pay") == "80 paid"

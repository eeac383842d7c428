"""What equal calls of the same code share, in every process, and what tells calls apart."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from raftoral_nb.workflow.codec.digests import MAX_DIGEST_PARTS
from raftoral_nb.workflow.language import step_cache
from raftoral_nb.workflow.language.step_cache import key_of

MANY = [[number] for number in range(MAX_DIGEST_PARTS + 1)]


def fit_with(factor: Any) -> Callable[..., Any]:
    def fit(rows: Any, rate: float = 0.1) -> Any:
        return [factor, rows, rate]

    return fit


def other_fit(factor: Any) -> Callable[..., Any]:
    def fit(rows: Any, rate: float = 0.1) -> Any:
        return [factor, rows, rate, "more"]

    return fit


def test_the_same_code_and_equal_inputs_have_one_key() -> None:
    first = key_of(fit_with([1]), ({"a": 1, "b": {2, 3}},), {"rate": 0.5})
    assert first is not None
    assert first == key_of(fit_with([1]), ({"b": {3, 2}, "a": 1},), {"rate": 0.5})


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (fit_with([1]), ([1, 2, 4],), {}),
        (fit_with([1]), ((1, 2, 3),), {}),
        (fit_with([1]), ([1.0, 2, 3],), {}),
        (fit_with([1]), ([1, 2, 3],), {"rate": 0.2}),
        (fit_with([2]), ([1, 2, 3],), {}),
        (other_fit([1]), ([1, 2, 3],), {}),
        (str, ([1, 2, 3],), {}),
    ],
)
def test_other_inputs_other_code_and_other_captured_values_have_other_keys(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    found = key_of(fn, args, kwargs)
    assert found is not None
    assert found != key_of(fit_with([1]), ([1, 2, 3],), {})


def test_what_a_closure_holds_counts_as_it_is_now() -> None:
    rows = [1]

    def total() -> int:
        return sum(rows)

    before = key_of(total, (), {})
    rows.append(2)
    assert None is not before != key_of(total, (), {})


@pytest.mark.parametrize("captured", [threading.Lock(), MANY], ids=["no digest", "too large for one"])
def test_what_captured_something_that_cannot_be_told_from_others_has_no_key(captured: Any) -> None:
    assert key_of(fit_with(captured), ([1],), {}) is None


@pytest.mark.parametrize("given", [threading.Lock(), [threading.Lock()], MANY], ids=["a lock", "in a list", "many"])
def test_inputs_without_a_digest_have_no_key(given: Any) -> None:
    assert key_of(fit_with(1), (given,), {}) is None


def test_inputs_that_are_too_large_to_be_copied_have_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_cache, "MAX_COPIED_BYTES", 1000)
    assert key_of(fit_with(1), (bytes(2000),), {}) is None
    assert key_of(fit_with(1), (bytes(200),), {}) is not None


def model(code: str) -> type:
    """A class as a cell defines it: of the same name, with other code."""
    namespace: dict[str, Any] = {"dataclass": dataclass, "__name__": "__main__"}
    exec(f"@dataclass\nclass Model:\n    size: int\n    def area(self): return {code}\n", namespace)
    found: type = namespace["Model"]
    return found


def test_the_code_of_the_notebooks_classes_that_inputs_are_made_of_counts() -> None:
    """The function asks its argument for what it does not know itself."""

    def area(one: Any) -> Any:
        return one.area()

    square, again, double = model("self.size ** 2"), model("self.size ** 2"), model("self.size * 2")
    assert key_of(area, (square(3),), {}) == key_of(area, (again(3),), {})
    assert key_of(area, ([square(3)],), {}) != key_of(area, ([double(3)],), {})


SCRIPT = """
import dis, json
from dataclasses import dataclass
from raftoral_nb.workflow.language.step_cache import key_of
from raftoral_nb.workflow.shipping import definitions

@dataclass
class Rows:
    names: set

factor = {"b": 2, "a": 1}

def fit(rows, rate=0.1):
    "Fits."
    import msgspec
    return [factor, rows, rate, json.dumps(1), msgspec]

async def work(ctx, given):
    return await ctx.compute("fit", fit, given)

copy = definitions.load_all(definitions.build("work", 1, work)[0]).function
for one in (fit, copy.__globals__["fit"]):
    print(key_of(one, (Rows({"x", "y", "z"}),), {"rate": 0.5}))
"""


def test_keys_are_the_same_in_processes_with_other_hash_seeds_and_on_nodes_that_load_the_code() -> None:
    """Which is how a result is found again after the kernel was restarted."""
    found = set()
    for seed in ("1", "4242"):
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        found.update(ran.stdout.split())
    assert len(found) == 1
    assert "None" not in found

"""Recorded histories replayed in other processes, whose sets and hashes have another order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

WORKFLOWS: Final = '''
import dataclasses, enum, json, sys
import numpy as np, pandas as pd

WORDS = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"}

class Kind(enum.Enum):
    ONE = "one"
    TWO = "two"

@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    tags: frozenset

class Plain:
    def __init__(self, words):
        self.words = words
    def __eq__(self, other):
        return self.words == other.words
    def __hash__(self):
        return hash(frozenset(self.words))

async def careful(ctx, words):
    """Computes sets, dicts and the like on every node, and takes them in an order of its own."""
    seen = await ctx.var("seen", set(words))
    by_word = await ctx.var("by word", {word: len(word) for word in set(words)})
    await ctx.var("items", {Item(word, frozenset(words)) for word in words})
    await ctx.var("kinds", {Kind.ONE: set(words), Kind.TWO: float("nan")})
    await ctx.var("plain", Plain(set(words)))
    await ctx.var("frame", pd.DataFrame({"word": sorted(words), "value": [float("nan")] * len(words)}))
    await ctx.var("array", np.array([len(word) for word in sorted(words)]))
    for word in sorted(seen.value):
        await ctx.compute(word, len, word)
    await by_word.update(lambda known: {word: number + 1 for word, number in known.items()})
    return {frozenset(words), frozenset({"a", "b"})}, seen.value

async def careless(ctx, words):
    for word in words:
        await ctx.compute(word, len, word)

async def careless_value(ctx, words):
    await ctx.var("first", next(iter(words)))

async def careless_result(ctx, words):
    return list(words)
'''

RECORD: Final = (
    WORKFLOWS
    + """
from raftoral_nb.testing import workflow_test
for fn in (careful, careless, careless_value, careless_result):
    with workflow_test() as test:
        run = test.start(fn, WORDS)
        test.finish(run)
        run.save_history(f"{sys.argv[1]}/{fn.__name__}.json")
"""
)

REPLAY: Final = (
    WORKFLOWS
    + """
import warnings
from raftoral_nb import NonDeterminismError
from raftoral_nb.testing import replay_history
warnings.simplefilter("ignore")
told = {}
for fn in (careful, careless, careless_value, careless_result):
    try:
        told[fn.__name__] = f"{replay_history(f'{sys.argv[1]}/{fn.__name__}.json', fn).steps} steps fit"
    except NonDeterminismError as error:
        told[fn.__name__] = error.difference.reason
print(json.dumps(told))
"""
)


def in_a_process(code: str, folder: Path, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_history_fits_in_a_process_with_other_hashes_unless_the_code_depends_on_their_order(tmp_path: Path) -> None:
    in_a_process(RECORD, tmp_path, "1")
    same = json.loads(in_a_process(REPLAY, tmp_path, "1"))
    assert same == {
        "careful": "18 steps fit",
        "careless": "10 steps fit",
        "careless_value": "1 steps fit",
        "careless_result": "0 steps fit",
    }
    other = json.loads(in_a_process(REPLAY, tmp_path, "4242"))
    assert other.pop("careful") == same["careful"]
    assert "the workflow asked for compute" in other["careless"]
    assert "first" in other["careless_value"]
    assert "result" in other["careless_result"]

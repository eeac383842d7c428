"""What is not deterministic in a workflow's code is pointed at; ordinary code is left alone."""

from __future__ import annotations

import ast
import json
import types
from pathlib import Path
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from raftoral_nb.workflow.lint.checker import Finding, findings
from tests.workflow.conftest import RunCell

ROOT = Path(__file__).parents[3]

IMPORTS = """
import asyncio, datetime, os, random, time, uuid, threading, subprocess, socket, hashlib, json, math, functools
import datetime as dates
import numpy as np
import pandas as pd
from datetime import datetime as clock, timedelta
from pathlib import Path
from random import choice
from time import time as now
from raftoral_nb import step as as_step
PRICES = {"A1": 9.0}
SEEN = []
TAGS = {"red", "green"}
NUMBERS = {3, 1, 2}
COUNT = 0

def helper(x):
    return x, time.time()

def pure(x):
    return x + 1

class Thing:
    def __init__(self): self.items = []
"""


def check(run_cell: RunCell, body: str) -> tuple[Finding, ...]:
    lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    space = run_cell(f"{IMPORTS}\nasync def flow(ctx, input):\n{lines}\n")
    return findings(space["flow"])


@pytest.mark.parametrize(
    ("code", "what", "instead"),
    [
        ("time.time()", "time.time()", "ctx.now()"),
        ("now()", "now()", "ctx.now()"),
        ("time.monotonic()", "time.monotonic()", "ctx.now()"),
        ("datetime.datetime.now()", "datetime.datetime.now()", "ctx.now()"),
        ("dates.date.today()", "dates.date.today()", "ctx.now()"),
        ("clock.now(tz=None) - timedelta(days=1)", "clock.now()", "ctx.now()"),
        ("time.sleep(3)", "time.sleep()", "asyncio.sleep"),
        ("random.random()", "random.random()", "ctx.random()"),
        ("choice([1, 2])", "choice()", "ctx.random()"),
        ("random.Random()", "random.Random()", "ctx.random()"),
        ("np.random.rand(3)", "np.random.rand()", "generator with a seed"),
        ("uuid.uuid4()", "uuid.uuid4()", "ctx.uuid4()"),
        ("import secrets\nsecrets.token_hex()", "secrets.token_hex()", "ctx.compute"),
        ("os.environ['HOME']", "os.environ", "ctx.compute"),
        ("os.getpid()", "os.getpid()", "ctx.compute"),
        ("open('x')", "open()", "ctx.compute"),
        ("Path('x').read_text()", "Path('x').read_text()", "ctx.compute"),
        ("pd.read_csv('x')", "pd.read_csv()", "ctx.compute"),
        ("import requests\nrequests.get('http://x')", "requests.get()", "ctx.compute"),
        ("import urllib.request as r\nr.urlopen('x')", "r.urlopen()", "ctx.compute"),
        ("socket.socket()", "socket.socket()", "ctx.compute"),
        ("subprocess.run(['ls'])", "subprocess.run()", "ctx.compute"),
        ("threading.Thread(target=pure).start()", "threading.Thread()", "ctx.compute"),
        ("input_ = input\nhash('x')", "hash()", "key made of the values"),
        ("breakpoint()", "breakpoint()", "before the run starts"),
        ("for tag in TAGS:\n    await ctx.compute(tag, pure, 1)", "for ... in TAGS", "sorted"),
        ("tags = set(input)\nx = [tag for tag in tags]", "for ... in tags", "sorted"),
        ("x = list({'a', *input})", "list() of a set", "sorted"),
        ("x = {y for y in input}\nreturn x.pop()", "x.pop() of a set", "sorted"),
        ("return ','.join(TAGS | {'blue'})", "','.join() of a set", "sorted"),
        ("SEEN.append(input)", "SEEN.append()", "ctx.var"),
        ("PRICES[input] = 2", "PRICES[...] = ", "ctx.var"),
        ("global COUNT\nCOUNT += 1", "global COUNT", "ctx.var"),
        ("if ctx.node == 1:\n    return 2", "ctx.node", "must not depend"),
    ],
)
def test_it_is_pointed_at_with_a_reason_and_a_replacement(
    run_cell: RunCell, code: str, what: str, instead: str
) -> None:
    (found,) = check(run_cell, code)
    assert found.what == what
    assert instead in found.instead
    assert found.reason
    assert found.function == "flow"


def test_the_line_is_that_of_the_cell_and_is_quoted(run_cell: RunCell) -> None:
    (found,) = check(run_cell, "x = 1\nif x:\n    y = time.time()  # now")
    first = IMPORTS.count("\n") + 2
    assert found.line == first + 3
    assert found.text == "y = time.time()  # now"
    assert str(found).startswith(f"cell:{found.line} in flow: time.time(): every node")


def test_functions_that_the_workflow_calls_outside_of_steps_are_looked_into(run_cell: RunCell) -> None:
    (found,) = check(run_cell, "return helper(input)")
    assert found.function == "helper"
    (found,) = check(run_cell, "return await ctx.map(helper, input)")
    assert found.function == "helper"
    (found,) = check(run_cell, "return await ctx.map(as_step(pure, timeout=time.time()), input)")
    assert found.what == "time.time()"
    (found,) = check(run_cell, "def inner(y):\n    return helper(y)\nreturn inner(input)")
    assert found.function == "helper"
    (found,) = check(run_cell, "async def branch(c):\n    return time.time()\nawait ctx.gather(branch)")
    assert found.function == "branch"
    (found,) = check(run_cell, "await ctx.gather(*[lambda c, n=n: time.time() for n in range(3)])")
    assert found.what == "time.time()"
    (found,) = check(run_cell, "return sorted(input, key=lambda x: random.random())")
    assert found.what == "random.random()"


@pytest.mark.parametrize(
    "code",
    [
        "return await ctx.compute('now', time.time)",
        "return await ctx.compute('now', lambda: time.time() + random.random())",
        "return await ctx.compute('help', helper, 3)",
        "return await ctx.compute('help', functools.partial(helper, 3))",
        "return await ctx.map(as_step(helper, timeout=3), input)",
        "return await ctx.gather(as_step(lambda: time.time()), as_step(helper))",
        "from raftoral_nb import step\nreturn await ctx.compute('help', step(helper), 3)",
        "def step():\n    return open('x').read()\nreturn await ctx.compute('read', step)",
        "step = lambda: uuid.uuid4()\nreturn await ctx.compute('id', step)",
        "steps = {'a': helper}\nreturn await ctx.compute('a', steps['a'], 1)",
        "v = await ctx.var('v', 0)\nawait v.update(lambda x: x + time.time())",
        "from raftoral_nb import ReplicatedVar\nawait ReplicatedVar.with_computation('v', ctx, lambda: time.time())",
        "total = 0\nfor tag in TAGS:\n    total += len(tag)\nreturn total",
        "for tag in sorted(TAGS):\n    await ctx.compute(tag, pure, 1)",
        "return sorted(x for x in TAGS), len(TAGS), max(TAGS), 'red' in TAGS, set(TAGS), sum(len(x) for x in TAGS)",
        "return sorted(list(TAGS))",
        "return [x for x in NUMBERS], list({1, 2, 3})",
        "return {x: PRICES.get(x, 1.0) for x in input}, PRICES['A1'], [x for x in PRICES]",
        "seen = []\nseen.append(1)\nthing = Thing()\nthing.items.append(2)\nreturn seen",
        "def add(x):\n    found = []\n    found.append(x)\n    return found\nreturn add(1)",
        "time = {'time': 3}\nreturn time.get('time')",
        "random = input['random']\nreturn random.random()",
        "open = input\nreturn open('x')",
        "rng = random.Random(42)\nreturn rng.random() + np.random.default_rng(7).random()",
        "return clock(2024, 1, 1), timedelta(days=1), datetime.date(2024, 1, 1), clock.fromisoformat('2024-01-01')",
        "return uuid.uuid5(uuid.NAMESPACE_DNS, 'x'), hashlib.sha256(b'x').hexdigest(), json.dumps({}), math.sqrt(2)",
        "return os.path.join('a', 'b'), Path('a') / 'b', Path('a').name, Path('a').with_suffix('.x')",
        "print(ctx.node, input)\nreturn f'{ctx.run_id}'",
        "x = set(input)\nx = sorted(x)\nreturn [y for y in x]",
        "try:\n    await ctx.compute('x', pure, 1)\nexcept asyncio.CancelledError:\n    raise",
        "frame = pd.DataFrame({'a': [1]})\nreturn np.mean([1, 2]), frame.sum()",
        "await ctx.sleep(3)\nn = await ctx.now()\nreturn ctx.random(), ctx.uuid4(), n",
        "match input:\n    case {'id': id}:\n        return id\nreturn hash",
        "with ctx.scope() as time:\n    return time.time()",
        "import raftoral_nb\n@raftoral_nb.workflow\nasync def step(c, x):\n    return time.time()\nreturn await step(ctx, 1)",
    ],
)
def test_ordinary_code_raises_no_alarm(run_cell: RunCell, code: str) -> None:
    assert check(run_cell, code) == ()


def test_a_value_in_the_closure_is_looked_up_there(run_cell: RunCell) -> None:
    space = run_cell(
        """
        import random, types
        def make(random):
            async def flow(ctx, input):
                return random.random()
            return flow
        fake = make(types.SimpleNamespace(random=lambda: 4))
        real = make(random)
        """
    )
    assert findings(space["fake"]) == ()
    assert [one.what for one in findings(space["real"])] == ["random.random()"]


def test_code_without_its_source_has_no_findings_and_does_no_harm(run_cell: RunCell) -> None:
    space = run_cell("import time\nasync def flow(ctx, input):\n    return time.time()", known=False)
    assert findings(space["flow"]) == ()
    assert findings(len) == ()


def test_functions_that_call_each_other_are_looked_into_once(run_cell: RunCell) -> None:
    space = run_cell(
        """
        import time
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return time.time() and even(n - 1)
        async def flow(ctx, input):
            return even(input) + odd(input)
        """
    )
    assert [one.function for one in findings(space["flow"])] == ["odd"]


# --- the corpus: what this project's own notebooks, demonstration and tests do as workflows


def is_workflow(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and value.__code__.co_varnames[:1] == ("ctx",)


TRANSFORMER: Any = TransformerManager()  # type: ignore[no-untyped-call]


def notebook_workflows() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = ""
        for cell in cells:
            text = "".join(cell["source"])
            if cell["cell_type"] != "code":
                continue
            first, _, rest = text.partition("\n")
            source += TRANSFORMER.transform_cell(rest if first.startswith("%%") else text) + "\n"
        found.append((path.name, source))
    return found


@pytest.mark.parametrize(("name", "source"), notebook_workflows())
def test_the_workflows_of_the_notebooks_raise_no_alarm(run_cell: RunCell, name: str, source: str) -> None:
    code = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    kept: list[Any] = [
        node
        for node in code.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
    ]
    space = run_cell(ast.unparse(ast.Module(kept, [])))
    flows: list[Any] = [fn for one in space.values() if is_workflow(fn := getattr(one, "fn", one))]
    written = {node.name for node in kept if isinstance(node, ast.AsyncFunctionDef) and takes_context(node)}
    assert {flow.__name__ for flow in flows} == written  # none of them was overlooked
    for flow in flows:
        # The reference shows what the check says of one, too.
        assert bool(findings(flow)) is (flow.__name__ == "careless_stamp")


def takes_context(node: ast.AsyncFunctionDef) -> bool:
    return [one.arg for one in node.args.args[:1]] == ["ctx"]


def test_the_notebooks_hold_workflows() -> None:
    assert sum("async def" in source for _, source in notebook_workflows()) >= 5


def test_the_demonstration_raises_no_alarm() -> None:
    from raftoral_nb.cli import demo

    for value in vars(demo).values():
        fn: Any = getattr(value, "fn", value)
        if is_workflow(fn):
            assert findings(fn) == ()

"""Places in the user's code, as they are shown, are those of the cell or the script that it came from.

What a test module defines is imported by every node, and would prove nothing: here code is a cell's or a script's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cloudpickle import cloudpickle as _cloudpickle

from raftoral_nb.workflow.codec import pickling, values
from raftoral_nb.workflow.shipping.fingerprints import fingerprint
from tests.kernel_ext.kernels import Kernel, new_kernel  # noqa: F401 - a fixture

RunCell = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]

FLOWS = """import threading, time, warnings
import raftoral_nb

def divide(x):
    return 1 / x  # the step's line

async def fails(ctx, x):
    if x is None:
        raise LookupError("none")  # the workflow's line
    await ctx.receive("go")  # it waits here
    return await ctx.compute("divide", divide, x)

async def differs(ctx, odd):
    await ctx.compute("odd" if ctx.node == odd else "even", lambda: 1)  # it differs here
    return time.time()  # not deterministic

async def blocks(ctx, _):
    import raftoral_nb
    raftoral_nb.gate_of_the_test.wait(60)  # it blocks here

def halve(x):
    return x / 2

async def echoes(ctx, function):
    return await ctx.compute("same", lambda: function)
"""

STORY = """
import json, traceback
from raftoral_nb import Cluster, NodeBlocked
from raftoral_nb.testing import workflow_test
from raftoral_nb.workflow.lint import checker as lint; from raftoral_nb.workflow.codec import pickling

warnings.simplefilter("ignore", raftoral_nb.NonDeterminismWarning)
facts = {}

def text_of(act):
    try:
        act()
    except Exception as error:
        return "".join(traceback.format_exception(error))

with workflow_test() as test:
    run = test.start(fails, 0)
    test.settle()
    code = run.code()
    facts["file"], facts["lines"] = code.file, code.lines
    facts["waits"] = [code.lines[place.line - code.first_line] for (place,) in code.places.values()]
    run.signal("go")
    facts["step"] = text_of(lambda: test.finish(run))
    facts["recorded"] = run.steps[-1].failure.traceback
    facts["run"] = text_of(lambda: test.finish(test.start(fails, None)))
    try:
        test.finish(test.start(differs, next(node for node in (1, 2, 3) if node != test.cluster.leader)))
    except raftoral_nb.NonDeterminismError as error:
        facts["differs"] = [error.difference.where, error.difference.line]
    facts["function"] = test.finish(test.start(echoes, halve)).__code__.co_filename == halve.__code__.co_filename
    facts["lint"] = [f"{one.line} {one.text}" for one in lint.findings(pickling.loads(pickling.dumps(differs, 10**6)))]

raftoral_nb.gate_of_the_test = threading.Event()
blocked, heard = [], threading.Event()
with Cluster(nodes=1) as cluster:
    cluster.subscribe(lambda event: (blocked.append(event.where), heard.set()) if isinstance(event, NodeBlocked) else None)
    run = cluster.start_workflow(blocks, None)
    assert heard.wait(60)
    facts["blocked"] = [*blocked, *(node.blocked for node in cluster.statistics().nodes.values())]
    raftoral_nb.gate_of_the_test.set()
    run.wait_for_completion(timeout=60)
print("FACTS " + json.dumps(facts))
"""


def line_of(text: str, mark: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if mark in line)


def check(facts: dict[str, Any], name: str, flows: str) -> None:
    """That the story told the places of `flows`, the text of a file that people know by `name`."""
    assert facts["file"] == name
    assert facts["lines"][0] == "async def fails(ctx, x):"
    assert [line.strip() for line in facts["waits"]] == ['await ctx.receive("go")  # it waits here'] * 3
    for text in (facts["step"], facts["recorded"]):
        assert "return 1 / x  # the step's line" in text
        assert f"line {line_of(flows, 'the step')}, in divide" in text
    assert 'raise LookupError("none")  # the workflow\'s line' in facts["run"]
    differs = line_of(flows, "it differs here")
    assert facts["differs"][0] == f"{name}:{differs} in differs"
    assert facts["differs"][1].endswith("# it differs here")
    assert facts["lint"] == [
        f"{differs} {facts['differs'][1]}",
        f"{differs + 1} return time.time()  # not deterministic",
    ]
    assert facts["function"]
    assert set(facts["blocked"]) == {f"{name}:{line_of(flows, 'it blocks here')} in blocks"}
    assert "dynamic-code" not in json.dumps(facts)


def facts_in(output: str) -> dict[str, Any]:
    (line,) = (line for line in output.splitlines() if line.startswith("FACTS "))
    found: dict[str, Any] = json.loads(line.removeprefix("FACTS "))
    return found


def test_of_code_of_a_script_every_place_is_shown_as_in_its_file(tmp_path: Path) -> None:
    script = tmp_path / "story.py"
    script.write_text(f"# A script.\n{FLOWS}\nif __name__ == '__main__':\n    exec({STORY!r})\n")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120,
        env={"PYTHONPATH": str(ROOT), "JUPYTER_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check(facts_in(done.stdout), "story.py", script.read_text())


def test_of_code_of_a_cell_every_place_is_shown_as_in_the_cell(new_kernel: Callable[[], Kernel]) -> None:  # noqa: F811
    kernel = new_kernel()
    kernel.run(FLOWS)
    printed, error = kernel.run(STORY)
    assert not error
    check(facts_in(printed), "cell", FLOWS)


# --- what cloudpickle makes of the name


@pytest.fixture(params=["its own name", "the file's name"])
def cloudpickles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of cloudpickle: from 3.1.3 on it writes a name of its own, before that the file's."""
    as_it_is = _cloudpickle._code_reduce

    def reduced(code: types.CodeType) -> Any:
        make, arguments, *_ = as_it_is(code)
        name = "<dynamic-code>" if request.param == "its own name" else code.co_filename
        return make, (*arguments[:10], name, *arguments[11:])

    monkeypatch.setattr(_cloudpickle, "_code_reduce", reduced)


NESTED = """
def outer(x):
    def inner():
        return [one for one in (lambda: x,)]
    return inner

class Tool:
    @property
    def sharp(self):
        return True
    @staticmethod
    def cut():
        return 1
"""


@pytest.mark.usefixtures("cloudpickles")
def test_values_keep_the_names_of_their_code_however_deep_it_is(run_cell: RunCell) -> None:
    cell = run_cell(NESTED)
    name = cell["outer"].__code__.co_filename
    outer, tool = pickling.loads(pickling.dumps([cell["outer"], cell["Tool"]], 10**6))
    codes = [outer.__code__, tool.sharp.fget.__code__, tool.cut.__code__]
    for code in codes:
        codes.extend(constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    assert len(codes) > 4
    assert {code.co_filename for code in codes} == {name}
    assert pickling.loads(pickling.dumps(outer(1), 10**6)).__code__.co_filename == name


@pytest.mark.usefixtures("cloudpickles")
@pytest.mark.parametrize("known", [(True, True), (False, False), (True, False)], ids=["text", "no text", "text of one"])
def test_the_name_of_a_file_never_counts_in_a_digest(run_cell: RunCell, known: tuple[bool, bool]) -> None:
    """Nor does it matter whether this process knows the file's text: the kernel before this one did."""
    one, two = (run_cell(NESTED, known=one)["outer"] for one in known)
    assert one.__code__.co_filename != two.__code__.co_filename
    assert values.digest({"f": one}) == values.digest({"f": two}) is not None
    assert values.digest(one(1)) == values.digest(two(1))
    assert values.digest(pickling.loads(pickling.dumps(one, 10**6))) == values.digest(two)
    if known[0] == known[1]:
        assert fingerprint(one) == fingerprint(two)

"""A notebook's kernel is killed (SIGKILL) at random moments, and the next kernel goes on from the data directory."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.lives import check_lives
from tests.kernel_ext.kernels import Kernel, new_kernel  # noqa: F401 - a fixture

STEPS = 60
START = "%load_ext raftoral_nb\n%raftoral start --data-dir lab --nodes 3"
WORKFLOW = f"""%%workflow
async def chain(ctx, file):
    made = []
    for number in range({STEPS}):
        before = made[-1] if made else "-"

        def effect(number=number, before=before, run=ctx.run_id):
            import os, secrets
            nonce = secrets.token_hex(8)
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, f"{{run}} {{number}} {{nonce}} {{before}}\\n".encode())
            os.close(descriptor)
            return nonce

        made.append(await ctx.compute("link", effect))
    return made"""
RUNS = """
while True:
    runs = []
    for _ in range(2):
        runs.append(cluster.start_workflow("chain", 1, "effects"))
        with open("started", "a") as file:
            file.write(runs[-1].run_id + "\\n")
    print("ready", flush=True)
    for run in runs:
        run.wait_for_completion(60)
"""
NO_PATIENCE = "from raftoral_nb.hosts import recovery_progress as recovering\nrecovering.QUIET_SECONDS = recovering.INTERVAL_SECONDS = 0.0"
LAST = """
import json
results = {run.run_id: run.wait_for_completion(60) for run in cluster.runs()}
storage = [node.storage_error for node in cluster.statistics().nodes.values()]
print(json.dumps({"results": results, "recovered": cluster.recovered.runs, "storage": storage}))
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning")
def test_no_recorded_step_is_done_again_and_nothing_acknowledged_is_lost_when_a_kernel_is_killed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    new_kernel: Callable[[], Kernel],  # noqa: F811
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    moments = request.config.getoption("--kernel-kill-moments")
    seed = request.config.getoption("--kernel-kill-seed")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"--kernel-kill-seed {seed}")
    dice = random.Random(seed)
    for moment in range(moments):
        kernel = new_kernel()
        kernel.begin(START)
        if moment == 0:
            kernel.begin(WORKFLOW)  # the only time that this cell is run
        kernel.begin(RUNS)
        if moment == 0 or dice.random() < 0.8:
            kernel.until_printed("ready")
            assert kernel.lives_for(dice.uniform(0.0, 0.8))
        else:  # perhaps while it recovers
            assert kernel.lives_for(dice.uniform(0.2, 1.5))
        kernel.kill()
    last = new_kernel()
    assert last.run(NO_PATIENCE)[1] == ""
    assert last.run(START)[1] == ""
    bars = [bundle for bundle in last.displayed if bundle["text/plain"].startswith("recovering [")]
    assert "application/vnd.jupyter.widget-view+json" in bars[0]
    assert bars[-1]["text/plain"].endswith("] 100%")
    assert len(bars) == 2  # between them the widget changes, and nothing is displayed
    printed, error = last.run(LAST)
    assert error == "", printed
    found = json.loads(printed)
    assert found["storage"] == [None] * 3
    assert found["recovered"] == len(found["results"])
    check_lives(tmp_path, found["results"], kills=moments)
    key_files = tmp_path / "runtime" / "raftoral"
    assert [file.name for file in key_files.iterdir()] == ["lab.json"]  # those of the dead kernels were cleared away
    assert last.leave() == 0
    assert list(key_files.iterdir()) == []

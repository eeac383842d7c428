"""A process with a cluster in a data directory, to be killed: `python killed_process.py FOLDER LEVEL first|again|last`.

Every effect is a line in FOLDER/effects, every acknowledged start one in FOLDER/started. Only `first` registers the workflow. `last` waits
for all runs and prints their results.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from raftoral_nb import Cluster, WorkflowContext
from raftoral_nb.raft.compaction import Compaction

STEPS = 30
RUNS_AT_ONCE = 2


def write(file: str, *what: object) -> None:
    """A line, in one call of the operating system."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, (" ".join(map(str, what)) + "\n").encode())
    finally:
        os.close(descriptor)


async def chain(ctx: WorkflowContext, file: str) -> list[str]:
    """Every step's effect says what it was told of the one before."""
    made: list[str] = []
    for number in range(STEPS):
        before = made[-1] if made else "-"

        def effect(number: int = number, before: str = before) -> str:
            nonce = secrets.token_hex(8)
            write(file, ctx.run_id, number, nonce, before)
            return nonce

        made.append(await ctx.compute("link", effect))
    return made


def main(folder: Path, level: Any, life: str) -> None:
    """Start or go on, begin some more runs, and wait for the end of them all."""
    # A snapshot every few steps, so that it is killed in the middle of those as well.
    small = Compaction(log_bytes=6000, kept_bytes=2000, piece_bytes=1500)
    with Cluster(data_dir=folder / "data", durability=level, compaction=small, network="memory") as cluster:
        if life == "first":
            cluster.register_workflow("chain", 1, chain)
        print("ready", flush=True)
        # The life before may have been killed before the workflow was recorded; then this one is as good as the first.
        if life != "last" and "chain" not in cluster.workflows:
            cluster.register_workflow("chain", 1, chain)
        while life != "last":
            runs = []
            for _ in range(RUNS_AT_ONCE):
                runs.append(cluster.start_workflow("chain", 1, str(folder / "effects")))
                write(str(folder / "started"), runs[-1].run_id)
            for run in runs:
                run.wait_for_completion(timeout=60)
        recovered = cluster.recovered
        assert recovered is not None
        assert all(node.storage_error is None for node in cluster.statistics().nodes.values())
        results = {run.run_id: run.wait_for_completion(timeout=60) for run in cluster.runs()}
        print(json.dumps({"results": results, "runs": recovered.runs, "steps": recovered.steps}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

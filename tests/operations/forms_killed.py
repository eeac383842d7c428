"""A process with a cluster in a data directory, to be killed: `python -m tests.operations.forms_killed FOLDER LIFE`.

Life number N finds the run as the life before left it, sends it one word, waits until every node's execution has noted that, prints what each
has seen before and after, and then waits to be killed. The last one lets the run end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from raftoral_nb import Cluster, WorkflowContext, WorkflowRun

WORDS = 4
PATIENCE = 60.0


async def listens(ctx: WorkflowContext, _: None) -> list[Any]:
    """Two plain tasks take words, share a counter and a lock, and sleep; each notes what it saw."""
    seen: list[Any] = []
    ctx.on_query("journal", lambda: list(seen))
    lock, count = asyncio.Lock(), 0

    async def one(name: str) -> None:
        nonlocal count
        for _ in range(WORDS // 2):
            word = await ctx.receive("word")
            async with lock, asyncio.timeout(3600):
                before = count
                told = await ctx.compute(name, str, word)
                await asyncio.sleep(0.02)
                count = before + 1
            seen.append([name, told, count])

    async with asyncio.TaskGroup() as group:
        group.create_task(one("a"))
        group.create_task(one("b"))
    return seen


def journals(cluster: Cluster, run: WorkflowRun[Any], length: int) -> list[Any]:
    """Return every node's journal, once they have that many entries."""
    until = time.monotonic() + PATIENCE
    while True:
        found = [run.query("journal", node=number) for number in cluster.nodes]
        if all(len(one) >= length for one in found):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.005)


def main(folder: Path, life: int) -> None:
    """Live one life."""
    with Cluster(data_dir=folder, durability="process", network="memory") as cluster:
        if life == 0:
            cluster.register_workflow("listens", 1, listens)
            run = cluster.start_workflow("listens", 1, None, run_id="run")
        else:
            run = cluster.run("run")
        before = journals(cluster, run, life)
        if life < WORDS - 1:
            run.signal("word", life, signal_id=f"word {life}")
            print(json.dumps([before, journals(cluster, run, life + 1)]), flush=True)
            sys.stdin.readline()  # for ever
        run.signal("word", life, signal_id=f"word {life}")
        result = run.wait_for_completion(PATIENCE)
        assert [node.result("run", timeout=PATIENCE) for node in cluster.nodes.values()] == [result] * len(
            cluster.nodes
        )
        print(json.dumps([before, journals(cluster, run, WORDS)]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

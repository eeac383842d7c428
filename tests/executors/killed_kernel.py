"""A process with a data directory and a step on Dask, Ray, or engines of ipyparallel: it is killed while the step runs, and started again."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from raftoral_nb import Cluster, current_step, ipyparallel_executor, ray_executor, step


def write_and_wait(folder: str) -> str:
    """Append a line to a file, and wait until another file is there."""
    with Path(folder, "begun").open("a") as file:
        print(current_step().idempotency_key, file=file)
    current_step().progress(0.5, "begun")
    until = time.monotonic() + 60
    while not Path(folder, "go").exists() and time.monotonic() < until:
        time.sleep(0.01)
    return "done"


async def flow(ctx: Any, given: tuple[str, bool]) -> str:
    folder, once = given
    found: str = await ctx.compute("write", step(write_and_wait, on="there", at_most_once=once), folder)
    return found


def main() -> None:
    data, address, folder, once, life = sys.argv[1:]
    there: Any = address
    if address.endswith(".json"):
        there = ipyparallel_executor(address)
    elif address.startswith("ray:"):
        there = ray_executor(address.removeprefix("ray:"))
    with Cluster(3, data_dir=data, executors={"there": there}) as cluster:
        if life == "first":
            cluster.start_workflow(flow, (folder, once == "once"), run_id="r")
        run = cluster.run("r")
        assert run is not None
        print(run.wait_for_completion(60), flush=True)


if __name__ == "__main__":
    main()

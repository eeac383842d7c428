"""Nodes whose folders are mounted read-only: `unshare -rm python read_only_folders.py FOLDER`. Prints `done` at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from raftoral_nb import Cluster, NotAcknowledgedError, StorageWriteError, WorkflowContext

PATIENCE = 30.0


async def double(ctx: WorkflowContext, value: int) -> int:
    """One step."""
    return await ctx.compute("double", lambda: 2 * value)


def mount(*arguments: object) -> None:
    """Mount something; only this process and its children see it."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def refused(folder: Path, what: Callable[[], object]) -> None:
    """It cannot be done, and it is said why."""
    said = ""
    try:
        what()
    except StorageWriteError as error:
        said = str(error)
    assert str(folder) in said, said or "it was started"
    assert "writable" in said, said


def main(path: Path) -> None:
    """Two of three folders become read-only, then the whole directory."""
    mount("-t", "tmpfs", "tmpfs", path)  # of this namespace's own: how it is mounted may be changed here
    data = path / "data"
    with Cluster(3, data_dir=data) as cluster:
        assert cluster.start_workflow(double, 1, run_id="before").wait_for_completion(PATIENCE) == 2
        leader = cluster.wait_for_leader()
        others = [number for number in cluster.nodes if number != leader]
        for number in others:
            folder = data / f"node-{number}"
            cluster.kill(number)
            mount("--bind", folder, folder)
            mount("-o", "remount,bind,ro", folder)
            refused(folder, lambda number=number: cluster.restart(number))  # type: ignore[misc]
        cluster._host.proposal_timeout = 0.5
        try:
            cluster.start_workflow("double", 3, run_id="unknown")
        except NotAcknowledgedError:
            pass
        else:
            raise AssertionError("something was acknowledged by one node of three")
        cluster._host.proposal_timeout = PATIENCE
        for number in others:
            mount("-o", "remount,bind,rw", data / f"node-{number}")
            cluster.restart(number)
        cluster.wait_for_leader(PATIENCE)
        assert cluster.start_workflow("double", 4, run_id="after").wait_for_completion(PATIENCE) == 8
    mount("--bind", data, data)
    mount("-o", "remount,bind,ro", data)
    refused(data, Cluster(data_dir=data).start)
    mount("-o", "remount,bind,rw", data)
    with Cluster(data_dir=data) as cluster:
        ended = {run.run_id: run.wait_for_completion(PATIENCE) for run in cluster.runs()}
        assert (ended["before"], ended["after"]) == (2, 8), ended
    print("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

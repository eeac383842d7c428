"""A data directory that becomes read-only: acknowledgements stop, it is said, nothing is lost, and it goes on when it can be written.

What can be written through files that are open already is not changed by permissions, and a file system with such files cannot be
made read-only but by the kernel itself, after an error of the disk. So under a running node it is SQLite that is made to refuse, as
it does then (`PRAGMA query_only`). Folders that are read-only when a node starts are real: mounted so, where that is allowed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import Cluster, NodeChanged, NotAcknowledgedError, StorageFailed, WorkflowContext
from raftoral_nb.hosts import disk_retry
from tests.cluster import read_only_folders
from tests.cluster.helpers import PATIENCE, Watch, engine
from tests.cluster.read_only_databases import read_only


async def double(ctx: WorkflowContext, value: int) -> int:
    return await ctx.compute("double", lambda: 2 * value)


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_a_disk_that_becomes_read_only_stops_acknowledgements_says_so_loses_nothing_and_ends_when_it_can_be_written(
    tmp_path: Path, durability: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_retry, "STORAGE_RETRY_SECONDS", (0.05, 0.1))
    with Cluster(3, data_dir=tmp_path, durability=durability, proposal_timeout=PATIENCE) as cluster:
        with Watch(cluster) as watch:
            cluster.register_workflow("double", 1, double)
            assert cluster.start_workflow("double", 1, run_id="before").wait_for_completion(PATIENCE) == 2
            with read_only(engine(cluster), monkeypatch):
                cluster._host.proposal_timeout = 0.5
                with pytest.raises(NotAcknowledgedError):
                    cluster.start_workflow("double", 5, run_id="unknown")
                first = watch.until(StorageFailed)
                second = watch.until(StorageFailed, lambda failed: failed.node != first.node)  # no majority is left
                for failed in (first, second):
                    assert "attempt to write a readonly database" in failed.reason
                    assert "make the folder writable" in failed.reason
                    assert str(tmp_path) in failed.reason
                dead = [one for one in cluster.statistics().nodes.values() if one.storage_error is not None]
                assert len(dead) >= 2
                assert {one.role for one in dead} == {"dead"}
                with pytest.raises(NotAcknowledgedError):
                    cluster.start_workflow("double", 6, run_id="nor this")
            for one in dead:
                watch.until(NodeChanged, lambda event, one=one: (event.node, event.change) == (one.node, "restarted"))  # type: ignore[misc]
        cluster._host.proposal_timeout = PATIENCE
        cluster.wait_for_leader(PATIENCE)
        assert cluster.start_workflow("double", 4, run_id="after").wait_for_completion(PATIENCE) == 8
        assert cluster.run("before").wait_for_completion(PATIENCE) == 2
        assert [one.storage_error for one in cluster.statistics().nodes.values()] == [None] * 3
    with Cluster(data_dir=tmp_path, durability=durability) as cluster:
        ended = {run.run_id: run.wait_for_completion(PATIENCE) for run in cluster.runs()}
        assert ended["before"] == 2
        assert ended["after"] == 8
        assert ended.get("unknown", 10) == 10  # no answer said whether it would be, so it may
        assert ended.get("nor this", 12) == 12


def test_a_folder_that_is_read_only_is_refused_and_named_and_serves_again_when_it_is_not(tmp_path: Path) -> None:
    """In a mount namespace of its own, where mounting is allowed to whoever runs the tests; skipped where it is not."""
    try:
        allowed = subprocess.run(["unshare", "-rm", "true"], capture_output=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here (util-linux), and so no folder can be made read-only for this test")
    if allowed.returncode != 0:
        pytest.skip(f"no mount namespace may be made here: {allowed.stderr.decode().strip()}")
    script = Path(read_only_folders.__file__)
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        cwd=script.parents[2],
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stdout + done.stderr

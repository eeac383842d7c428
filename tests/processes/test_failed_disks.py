"""A node whose disk fails, in its process: handles are told, as in one process, and bring it back when there is room again."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftoral_nb import Cluster, NodeChanged, NodeStateError, NotAcknowledgedError, StorageFailed, StorageWriteError
from raftoral_nb.hosts import disk_retry
from tests.cluster.helpers import Watch
from tests.cluster.read_only_databases import read_only
from tests.processes import flows
from tests.processes.helpers import PATIENCE
from tests.processes.here import node_here


def alive(cluster: Cluster) -> bool:
    return cluster.nodes[1].alive


def test_handles_are_told_why_a_node_stepped_aside_and_restart_it_when_its_disk_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_retry, "STORAGE_RETRY_SECONDS", (1000.0, 1000.0))  # it is not to be quicker than we are
    with node_here(tmp_path) as (node, file):
        cluster = Cluster.attach(file)
        try:
            with Watch(cluster) as watch:
                cluster.register_workflow(flows.waits)
                run = cluster.start_workflow("waits", None)
                asked = cluster._host.thread.call(lambda: cluster._host._connections.calls[1])  # type: ignore[attr-defined]
                with read_only(node, monkeypatch):
                    with pytest.raises(NotAcknowledgedError):
                        cluster.start_workflow("waits", None)
                    failed = watch.until(StorageFailed)
                    assert failed.node == 1
                    assert "attempt to write a readonly database" in failed.reason
                    watch.until(NodeChanged, lambda event: event == NodeChanged(1, "killed"))
                    assert not alive(cluster)
                    known = cluster.statistics().nodes[1]
                    assert (known.role, known.storage_error) == ("dead", failed.reason)
                    late = Cluster.attach(file)
                    try:
                        assert not alive(late)
                        assert late.statistics().nodes[1].storage_error == failed.reason
                        assert any(event == failed for _, event in late.history())
                    finally:
                        late.leave()
                    with pytest.raises(StorageWriteError, match="readonly"):
                        cluster.restart(1)
                    assert not alive(cluster)
                assert cluster.restart(1) == 1
                assert alive(cluster)
                with pytest.raises(NodeStateError, match="is alive"):
                    cluster.restart(1)
                watch.until(NodeChanged, lambda event: event == NodeChanged(1, "restarted"))
                cluster.wait_for_leader(PATIENCE)
                assert cluster.run(run.run_id).update("change", 4, timeout=PATIENCE) == 8
                assert cluster.statistics().nodes[1].storage_error is None
                assert not asked.closed, "clients stay while the node is away"
        finally:
            cluster.leave()

"""Notebooks and nodes with different versions of Python."""

from __future__ import annotations

import platform

import pytest

from raftoral_nb import Cluster, ExecutionStopped, VersionMismatchError
from raftoral_nb.hosts.remote import process_table
from raftoral_nb.workflow.shipping import versions
from tests.cluster.helpers import Watch
from tests.processes import flows


def test_code_that_nodes_could_not_load_is_refused_where_it_is_registered_and_where_it_would_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = platform.python_version()
    with Cluster(1, processes=True) as cluster:

        class Other:
            python_version = staticmethod(lambda: "3.99.1")

        with monkeypatch.context() as patched:
            patched.setattr(process_table, "platform", Other)
            with pytest.raises(VersionMismatchError, match=f"this is Python 3.99.1, and node 1 runs Python {here}"):
                cluster.register_workflow(flows.two_steps)

        with monkeypatch.context() as patched:
            patched.setattr(versions, "platform", Other)
            cluster.register_workflow(flows.two_steps)
        with Watch(cluster) as watch:
            run = cluster.start_workflow("two_steps", "x")
            stopped = watch.until(ExecutionStopped)
        assert f"registered with Python 3.99.1, and this node runs Python {here}" in stopped.reason
        assert (run.status, stopped.status) == ("running", "unreadable")
        assert any("3.99.1" in line.text for line in cluster.log(run.run_id))
        cluster.register_workflow(flows.two_steps)
        assert cluster.workflows["two_steps"] == (1,), "the code is the same, and registered as it is"

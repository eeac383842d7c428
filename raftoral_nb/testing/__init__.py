"""Tools for tests of workflows: a cluster in memory on a virtual clock, with faults at the steps you choose.

A workflow that sleeps thirty days is tested in milliseconds, without threads or sockets, the same way every time:

    from raftoral_nb.testing import workflow_test

    def test_the_card_is_charged_though_the_leader_dies():
        with workflow_test(nodes=3) as test:
            run = test.start(order, "A1")
            test.kill_leader_at("charge")
            assert test.finish(run) == "A1 paid"
            assert test.effects("charge") == 2

pytest gets a fixture of the same name, with three nodes, from the plugin that comes with the package.
"""

from __future__ import annotations

from ..api.history_files import replay_history
from ..node.replay_run import Replayed
from .checking import Checked, check_determinism
from .workflow_tests import WorkflowTest, workflow_test

__all__ = ["Checked", "Replayed", "WorkflowTest", "check_determinism", "replay_history", "workflow_test"]

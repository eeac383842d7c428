"""What `%load_ext` brings with it, and what it leaves until it is needed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

from kernel_ext.magics.formatters import formatters

LOAD = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
shell.run_line_magic("load_ext", "raftoral_nb")
print(json.dumps(sorted(sys.modules)))
"""


def test_the_engine_is_loaded_with_the_first_cluster_and_not_with_the_extension() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD], check=True, capture_output=True, text=True, timeout=120)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "kernel_ext.magics.raftoral_magics" in loaded
    heavy = {
        "raftoral_nb.api.cluster",
        "raftoral_nb.workflow.execution.execution",
        "pysyncobj",
        "cloudpickle",
        "anywidget",
        "prometheus_client",
        "rich",
    }
    assert not loaded & heavy


def test_the_types_that_are_shown_by_their_names_are_there_under_these_names() -> None:
    for name in formatters():
        module, _, kind = name.rpartition(".")
        found = getattr(importlib.import_module(module), kind)
        # IPython finds a type by these two.
        assert (found.__module__, found.__name__) == (module, kind)

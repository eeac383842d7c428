"""What importing the package, and starting a cluster in memory, leaves until it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HEAVY = {
    "asyncio",
    "anyio",
    "msgspec",
    "cloudpickle",
    "pysyncobj",
    "sqlite3",
    "ssl",
    "inspect",
    "ast",
    "logging",
    "dataclasses",
}
"""Each takes longer to import than all of what `import raftoral_nb` does."""

SELDOM = {
    *("email", "http", "importlib.metadata", "sqlite3", "zipfile", "csv"),
    *("prometheus_client", "opentelemetry", "trio", "IPython"),
    *("raftoral_nb.storage.data_directory", "raftoral_nb.observability.metrics_server"),
    *("raftoral_nb.hosts.remote.remote_backend", "raftoral_nb.testing", "raftoral_nb.simulation"),
}
"""What a cluster in memory has no use for until somebody asks for it."""


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_no_engine_and_no_library() -> None:
    loaded = modules_after("import raftoral_nb") - modules_after("pass")  # an editable install brings some by itself
    assert not loaded & HEAVY
    ours = {name for name in loaded if name.startswith("raftoral_nb")}
    assert ours == {
        "raftoral_nb",
        *("raftoral_nb.api", "raftoral_nb.api.running_clusters"),
        *("raftoral_nb.core", "raftoral_nb.core.version", "raftoral_nb.errors", "raftoral_nb.workflow"),
    }


@pytest.mark.parametrize(
    "code",
    [
        "from raftoral_nb import Cluster, workflow",
        "from raftoral_nb import Cluster\nwith Cluster(3) as cluster: pass",
    ],
)
def test_a_cluster_in_memory_imports_nothing_that_few_clusters_use(code: str) -> None:
    assert not modules_after(code) - modules_after("pass") & SELDOM


def test_a_nodes_own_process_imports_nothing_of_the_handles_side() -> None:
    loaded = modules_after("import raftoral_nb.hosts.remote.node_process")
    ours = {
        name for name in loaded if name.startswith(("raftoral_nb.api.", "raftoral_nb.faults", "raftoral_nb.testing"))
    }
    assert ours == {"raftoral_nb.api.running_clusters"}
    assert not loaded - modules_after("pass") & {"email", "http", "importlib.metadata", "IPython", "zipfile"}


def test_the_extension_makes_its_records_without_writing_code_for_each() -> None:
    """A dataclass compiles its methods, which takes some twenty times as long as to make a struct: it was half of `%load_ext`."""
    sources = [*(ROOT / "kernel_ext").rglob("*.py"), *(ROOT / "raftoral_nb" / "core").glob("*.py")]
    assert len(sources) > 60
    assert [path.name for path in sources if "from dataclasses import" in path.read_text(encoding="utf-8")] == []

"""A Ray cluster of one machine, in a group of processes of its own that ends with the test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.helpers import PATIENCE
from tests.executors.steps_elsewhere import ROOT
from tests.ports import free_ports

# Ray reads these when it is imported: import this module before.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def ray_cluster(folder: Path) -> Iterator[str]:
    """Yield the address of a cluster with two cores. Whoever connects from this process, or one that it starts, has its token."""
    (port,) = free_ports(1)
    settings = {
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # A socket's path may have 107 characters.
        "RAY_TMPDIR": f"/tmp/raftoral-{secrets.token_hex(4)}",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    with (folder / "ray.txt").open("ab") as log:
        head = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("ray")),
                "start",
                "--head",
                "--block",
                "--node-ip-address=127.0.0.1",
                f"--port={port}",
                "--num-cpus=2",
                "--include-dashboard=false",
                "--object-store-memory=100000000",
                f"--temp-dir={settings['RAY_TMPDIR']}",
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        head.send_signal(signal.SIGTERM)  # it ends what it has started
        try:
            head.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait(PATIENCE)
        shutil.rmtree(settings["RAY_TMPDIR"], ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

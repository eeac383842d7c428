"""Restate's server, one node or three that replicate to two, in a folder, on free ports of 127.0.0.1, with the settings it comes with.

Its log server syncs each group of records (`fdatasync` of RocksDB's log) before a step counts as done.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Servers:
    """The servers of one cluster. `start` begins them and returns at once; `ingress` are the ports to call services at."""

    def __init__(self, program: str, nodes: int, folder: Path) -> None:
        self._program = program
        self._folder = folder
        ports = _free_ports(3 * nodes)
        self.ingress, self.admin, self.fabric = ports[:nodes], ports[nodes : 2 * nodes], ports[2 * nodes :]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [one.pid for one in self.processes.values() if one.poll() is None]

    def start(self, *which: int) -> None:
        """Start these nodes (counted from 0), or all."""
        for number in which or range(len(self.ingress)):
            given = {
                "CLUSTER_NAME": "bench",
                "NODE_NAME": f"node-{number + 1}",
                "AUTO_PROVISION": "true" if number == 0 else "false",
                "DEFAULT_REPLICATION": str(len(self.ingress) // 2 + 1),
                "METADATA_CLIENT__ADDRESSES": json.dumps([f"http://127.0.0.1:{port}" for port in self.fabric]),
                "BIND_ADDRESS": f"127.0.0.1:{self.fabric[number]}",
                "ADVERTISED_ADDRESS": f"http://127.0.0.1:{self.fabric[number]}",
                "INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.ingress[number]}",
                "ADMIN__BIND_ADDRESS": f"127.0.0.1:{self.admin[number]}",
                "DISABLE_TELEMETRY": "true",
                "LOG_FILTER": "error",
            }
            self.processes[number] = subprocess.Popen(
                [self._program, "--base-dir", str(self._folder / "restate")],
                env=os.environ | {f"RESTATE_{name}": value for name, value in given.items()},
                cwd=self._folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def kill(self, number: int) -> None:
        """Kill a node (SIGKILL), and wait for its end."""
        self.processes[number].send_signal(signal.SIGKILL)
        self.processes[number].wait()

    def stop(self) -> None:
        """Stop all that run."""
        for one in self.processes.values():
            one.kill()
            one.wait()

    def deploy(self, service_port: int) -> None:
        """Tell the cluster where its services are, as soon as it answers."""
        until = time.monotonic() + 60
        while True:
            try:
                self._post(self.admin[0], "/deployments", {"uri": f"http://127.0.0.1:{service_port}"})
                return
            except (OSError, urllib.error.HTTPError) as error:
                if time.monotonic() > until:
                    raise TimeoutError(f"Restate took no deployment within 60 s: {error}") from error
                time.sleep(0.1)

    @staticmethod
    def _post(port: int, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports

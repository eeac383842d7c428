"""Kernels of their own, with cells run in them one by one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager


class Kernel:
    """A kernel, and cells run in it one by one."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.displayed: list[dict[str, Any]] = []
        """The MIME bundles of what cells displayed, first or anew."""
        self._client: Any = client  # partly untyped

    def run(self, cell: str, on_output: Callable[[], object] | None = None) -> tuple[str, str]:
        """What the cell printed, and the name of what it raised, or ""; `on_output` is called when it prints."""
        printed: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            if message["msg_type"] in {"display_data", "update_display_data"}:
                self.displayed.append(message["content"]["data"])
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])
                if on_output is not None:
                    on_output()

        reply = self._client.execute_interactive(cell, timeout=60, allow_stdin=False, output_hook=hook)
        return "".join(printed), reply["content"].get("ename", "")

    def begin(self, cell: str) -> None:
        """Sends a cell, and waits for nothing."""
        self._client.execute(cell, allow_stdin=False)

    def until_printed(self, word: str) -> None:
        """Waits until cells have printed a line that is this word. What one of them raises is raised here."""
        printed = ""
        while word not in printed.split("\n"):
            message = self._client.get_iopub_msg(timeout=60)
            if message["msg_type"] == "stream":
                printed += message["content"]["text"]
            assert message["msg_type"] != "error", message["content"]

    def lives_for(self, seconds: float) -> bool:
        """Whether its process is still there after so long; it waits no longer than that."""
        try:
            self.manager.provisioner.process.wait(seconds)  # type: ignore[union-attr]
        except subprocess.TimeoutExpired:
            return True
        return False

    def kill(self) -> None:
        """Ends its process at once, as the operating system does when memory is short."""
        process = self.manager.provisioner.process  # type: ignore[union-attr]
        process.kill()
        process.wait(60)

    def leave(self) -> int:
        """Asks the kernel to end; returns the exit code of its process."""
        self._client.shutdown()
        code: int = self.manager.provisioner.process.wait(60)  # type: ignore[union-attr]
        return code


@pytest.fixture
def new_kernel() -> Iterator[Callable[[], Kernel]]:
    """Starts kernels, in the current folder."""
    started: list[tuple[KernelManager, Any]] = []

    def start() -> Kernel:
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel()
        client: Any = manager.blocking_client()
        started.append((manager, client))
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return Kernel(manager, client)

    yield start
    for manager, client in started:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()

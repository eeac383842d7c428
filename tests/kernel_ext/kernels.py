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
        self.reply: dict[str, Any] = {}
        """What the kernel replied to the last cell that was waited for: of one that failed `ename`, `evalue` and `traceback`."""
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
        self.reply = reply["content"]
        return "".join(printed), self.reply.get("ename", "")

    def begin(self, cell: str, subshell: str | None = None) -> None:
        """Sends a cell to the main shell or a subshell, and waits for nothing."""
        if subshell is None:
            self._client.execute(cell, allow_stdin=False)
        else:
            self._send("execute_request", {"code": cell, "allow_stdin": False}, subshell)

    def until_printed(self, word: str) -> None:
        """Waits until cells have printed a line that is this word. What one of them raises is raised here."""
        printed = ""
        while word not in printed.split("\n"):
            message = self._client.get_iopub_msg(timeout=60)
            if message["msg_type"] == "stream":
                printed += message["content"]["text"]
            assert message["msg_type"] != "error", message["content"]

    def tell(self, comm_id: str, content: object, subshell: str | None = None) -> None:
        """Sends a widget what its page would, through the main shell or a subshell, and waits for nothing."""
        self._send("comm_msg", {"comm_id": comm_id, "data": {"method": "custom", "content": content}}, subshell)

    def until_told(self, comm_id: str, condition: Callable[[dict[str, Any], dict[str, Any]], bool]) -> dict[str, Any]:
        """The data that the page of a widget is told, as soon as the condition holds for data and the parent's header."""
        while True:
            message = self._client.get_iopub_msg(timeout=20)
            if message["msg_type"] == "comm_msg" and message["content"]["comm_id"] == comm_id:
                data: dict[str, Any] = message["content"]["data"]
                if condition(data, message["parent_header"]):
                    return data

    def new_subshell(self) -> str:
        """Creates a subshell; returns its id."""
        made: str = self._control("create_subshell_request")["subshell_id"]
        return made

    def end_subshell(self, subshell: str) -> None:
        """Deletes a subshell."""
        self._control("delete_subshell_request", subshell_id=subshell)

    def _control(self, kind: str, **content: str) -> dict[str, Any]:
        self._client.control_channel.send(self._client.session.msg(kind, content))
        reply: dict[str, Any] = self._client.control_channel.get_msg(timeout=60)["content"]
        assert reply["status"] == "ok", reply
        return reply

    def _send(self, kind: str, content: dict[str, Any], subshell: str | None) -> None:
        message = self._client.session.msg(kind, content)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(message)

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

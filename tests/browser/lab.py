"""JupyterLab in a headless Chromium, driven as a person would: open a notebook, run cells, look at what the page shows."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

START_SECONDS: Final = 90.0
"""How long the server, the page or a kernel may take to come up on a slow machine."""
CELL_SECONDS: Final = 120.0
"""How long one cell may run."""

# What a page is expected to show may take as long: Playwright's own five seconds are short for a busy machine.
expect.set_options(timeout=START_SECONDS * 1000)

LIGHT: Final = "JupyterLab Light"
DARK: Final = "JupyterLab Dark"

CHROMIUM_FLAGS: Final = [
    "--no-sandbox",  # as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

SERVER_ADDRESS: Final = re.compile(r"(http://127\.0\.0\.1:\d+(?:/user/[\w-]+)?)/lab")

# What is done inside the page, by JupyterLab's own objects.
OPEN_NOTEBOOK: Final = """async (path) => {
    const app = window.jupyterapp;
    await app.restored;
    window.raftoralTests?.panel.dispose();
    const panel = await app.commands.execute('docmanager:open', { path });
    await panel.context.ready;
    await panel.revealed;
    window.raftoralTests = { panel, cells: {} };
}"""
KERNEL_ANSWERS: Final = """async () => {
    const { sessionContext } = window.raftoralTests.panel;
    await sessionContext.ready;
    await sessionContext.session.kernel.info;
}"""
START_CELL: Final = """async (index) => {
    const { panel, cells } = window.raftoralTests;
    panel.content.deselectAll();
    panel.content.activeCellIndex = index;
    cells[index] = 'running';
    window.jupyterapp.commands.execute('notebook:run-cell').then(
        () => { cells[index] = 'done'; },
        (error) => { cells[index] = `failed: ${error}`; },
    );
}"""
ASK_KERNEL: Final = """async (code) => {
    const { kernel } = window.raftoralTests.panel.sessionContext.session;
    await kernel.requestExecute({ code, silent: true, store_history: false, stop_on_error: false }).done;
}"""
CELL_OUTPUTS: Final = """(index) => {
    const model = window.raftoralTests.panel.content.widgets[index].model;
    return model.outputs ? model.outputs.toJSON() : [];
}"""
CELL_SOURCES: Final = """() => window.raftoralTests.panel.content.widgets.map(
    (cell) => [cell.model.type, cell.model.sharedModel.getSource()])"""


class CellFailedError(AssertionError):
    """A cell of the notebook raised; the message is its traceback."""


class LabServer:
    """A JupyterLab server of its own on a free port of 127.0.0.1, with settings and state in a temporary folder.

    `notebooks` is the folder it shows; `state` takes configuration, workspaces and histories, so that nothing of the user's
    is read or written.
    """

    def __init__(self, notebooks: Path, state: Path) -> None:
        self.notebooks = notebooks
        self.token = secrets.token_hex(16)
        self.address = ""
        self._state = state
        self._lines: list[str] = []
        self._up = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, name="lab-server-output", daemon=True)

    def start(self) -> None:
        """Starts the server and waits until it says where it listens."""
        self._process = subprocess.Popen(
            self._command(),
            cwd=self.notebooks,
            env=self._environment(self._configure()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._reader.start()
        if not self._up.wait(START_SECONDS) or not self.address:
            self.stop()
            message = f"JupyterLab did not start:\n{self.log}"
            raise RuntimeError(message)

    def stop(self) -> None:
        """Ends the server with its kernels and waits for both."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    @property
    def pid(self) -> int:
        """The process id of the server that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All that the server and its kernels have printed."""
        return "".join(self._lines)

    def _configure(self) -> Path:
        """Makes the folder of configuration, and returns it."""
        config = self._state / "config"
        (config / "labconfig").mkdir(parents=True)
        # Without this, JupyterLab asks another host for news and shows a question about it.
        disabled = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        (config / "labconfig" / "page_config.json").write_text(json.dumps(disabled))
        return config

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "jupyterlab", "--no-browser"),
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=0",
            f"--ServerApp.root_dir={self.notebooks}",
            "--ServerApp.allow_root=True",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",
        ]

    def _environment(self, config: Path) -> dict[str, str]:
        own = {
            "HOME": self._state,
            "IPYTHONDIR": self._state / "ipython",
            "JUPYTER_CONFIG_DIR": config,
            "JUPYTER_DATA_DIR": self._state / "data",
            "JUPYTER_RUNTIME_DIR": self._state / "runtime",
            "JUPYTERLAB_SETTINGS_DIR": self._state / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": self._state / "workspaces",
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_TOKEN": self.token,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))}
        return kept | {name: str(value) for name, value in own.items()}

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            found = SERVER_ADDRESS.search(line)
            if found and not self.address:
                self.address = found[1]
                self._up.set()
        self._up.set()  # it ended


class Lab:
    """One notebook at a time, open in the page.

    Cells are counted from 0, Markdown cells among them. What went wrong in the page is kept in `errors` (exceptions that
    nothing caught, and what was written to the console as an error), and requests to any host but the server's own, all
    of which are refused, in `foreign_requests`.
    """

    def __init__(self, page: Page, server: LabServer) -> None:
        self.page = page
        self.server = server
        self.errors: list[str] = []
        self.foreign_requests: list[str] = []
        self._there = False
        page.set_default_timeout(START_SECONDS * 1000)
        page.on("pageerror", lambda error: self.errors.append(error.stack or str(error)))
        page.on("console", self._on_console)
        page.route(self._is_foreign, lambda route: route.abort())

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _do(self, script: str, argument: object = None) -> None:
        """Calls an async function in the page and waits for its end; Playwright itself would wait for ever."""
        self.page.evaluate(
            """([script, argument, milliseconds]) => Promise.race([
                eval(script)(argument),
                new Promise((_, reject) => setTimeout(
                    () => reject(new Error(`no end within ${milliseconds} ms: ${script}`)), milliseconds)),
            ])""",
            [script, argument, START_SECONDS * 1000],
        )

    def _is_foreign(self, url: str) -> bool:
        parts = urlsplit(url)
        foreign = (
            parts.scheme in {"http", "https", "ws", "wss"} and parts.netloc != urlsplit(self.server.address).netloc
        )
        if foreign:
            self.foreign_requests.append(url)
        return foreign

    def open(self, name: str) -> None:
        """Opens the notebook of that file name and waits until its kernel answers. One that was open is closed, not so its kernel."""
        if not self._there:
            self.page.goto(f"{self.server.address}/lab?token={self.server.token}&reset")
            self.page.wait_for_function("() => window.jupyterapp !== undefined")
            self._there = True
        self._do(OPEN_NOTEBOOK, name)
        self._do(KERNEL_ANSWERS)

    def cells(self) -> list[tuple[str, str]]:
        """Type ('code', 'markdown') and source of every cell."""
        return [(kind, source) for kind, source in self.page.evaluate(CELL_SOURCES)]

    def find_cell(self, text: str) -> int:
        """The first code cell that has this text in its source."""
        for index, (kind, source) in enumerate(self.cells()):
            if kind == "code" and text in source:
                return index
        message = f"no code cell contains {text!r}"
        raise LookupError(message)

    def start_cell(self, index: int) -> None:
        """Starts the cell and returns at once; `wait_for_cell` waits for its end."""
        self.page.evaluate(START_CELL, index)

    def wait_for_cell(self, index: int, seconds: float = CELL_SECONDS) -> None:
        """Waits until a started cell has ended; raises CellFailedError if it raised."""
        self.page.wait_for_function(
            "(index) => window.raftoralTests.cells[index] !== 'running'", arg=index, timeout=seconds * 1000
        )
        for output in self.outputs(index):
            if output["output_type"] == "error":
                raise CellFailedError(f"cell {index}\n" + "\n".join(output["traceback"]))
        ended = self.page.evaluate("(index) => window.raftoralTests.cells[index]", index)
        if ended != "done":
            raise CellFailedError(f"cell {index}: {ended}")

    def is_running(self, index: int) -> bool:
        """Whether a started cell has not ended yet."""
        return bool(self.page.evaluate("(index) => window.raftoralTests.cells[index] === 'running'", index))

    def run_cell(self, index: int, seconds: float = CELL_SECONDS) -> list[dict[str, Any]]:
        """Runs the cell, waits for its end and returns its outputs (nbformat); raises CellFailedError if it raised."""
        self.start_cell(index)
        self.wait_for_cell(index, seconds)
        return self.outputs(index)

    def run_cells(self, first: int = 0, last: int | None = None) -> None:
        """Runs the code cells from `first` up to and without `last`, one after the other."""
        for index, (kind, _) in list(enumerate(self.cells()))[first:last]:
            if kind == "code":
                self.run_cell(index)

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """What the cell has put out so far, as in the notebook's file."""
        outputs: list[dict[str, Any]] = self.page.evaluate(CELL_OUTPUTS, index)
        return outputs

    def output_text(self, index: int) -> str:
        """The plain text of all outputs: streams, results and displays."""
        parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in self.outputs(index)]
        return "".join("".join(part) for part in parts)

    def output_area(self, index: int) -> Locator:
        """The place in the page where the cell's outputs are drawn, views of widgets among them; scrolled into sight."""
        self.page.evaluate("(index) => window.raftoralTests.panel.content.scrollToItem(index, 'center')", index)
        return self.page.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{index}'] .jp-OutputArea").first

    def set_theme(self, theme: str) -> None:
        """Switches to LIGHT or DARK and waits until the page shows it."""
        self._do("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        # JupyterLab trips over its own feet when the next theme is asked for while it still shows its splash for this one.
        self.page.wait_for_function(
            """(theme) => document.body.dataset.jpThemeName === theme
                && !document.getElementById("jupyterlab-splash")""",
            arg=theme,
        )

    def restart_kernel(self) -> None:
        """Restarts the kernel without the question JupyterLab would ask, and waits until it answers."""
        self._do("async () => { await window.raftoralTests.panel.sessionContext.restartKernel(); }")
        self._do(KERNEL_ANSWERS)

    def ask_kernel(self, code: str) -> None:
        """Has the kernel run some Python that no cell holds, and waits for its end; what it shows or raises is dropped."""
        self._do(ASK_KERNEL, code)

    def clear(self) -> None:
        """Leaves the open notebook as it was opened: no cell runs, no output is shown, no cluster is running."""
        self.errors.clear()
        self.foreign_requests.clear()
        self.page.mouse.up()
        running = "() => Object.values(window.raftoralTests.cells).includes('running')"
        if self.page.evaluate(running):  # a test before has failed
            self.restart_kernel()
        else:
            self.ask_kernel("get_ipython().run_line_magic('raftoral', 'stop')")
        self.page.evaluate("() => { window.raftoralTests.cells = {}; }")
        self._do("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")

    def shutdown_kernel(self) -> None:
        """Ends the notebook's kernel, as closing the notebook for good does."""
        self._do("async () => { await window.raftoralTests.panel.sessionContext.shutdown(); }")

    def replace_kernel(self) -> None:
        """Ends the notebook's kernel, as closing the notebook for good does, and starts another one."""
        self.shutdown_kernel()
        self._do(
            """async () => {
                await window.raftoralTests.panel.sessionContext.changeKernel({ name: 'python3' });
            }"""
        )
        self._do(KERNEL_ANSWERS)

    def screenshot(self, path: Path) -> Path:
        """Writes a picture (PNG) of what is in sight."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        return path


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """The system's Chromium, headless; nothing is downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()

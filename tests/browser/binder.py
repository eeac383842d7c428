"""Does what Binder does with `binder/`, without Docker: `python -m tests.browser.binder`, or `make binder-check`.

The steps are replayed into a fresh environment, the server is started as Binder starts it (a token, a base URL, our default
URL), the index is opened in a headless Chromium as a link would open it, the first notebook is run, and the memory of the
server and its kernels is measured. With `--offline` nothing is downloaded: the packages are those of this environment.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from playwright.sync_api import Browser, expect

from tests.browser.binder_build import ROOT, BinderError, Built, Plan, build, read
from tests.browser.lab import Lab, LabServer, chromium

BASE_URL: Final = "/user/raftoral-nb-abc123/"
INDEX: Final = "notebooks/00_index.ipynb"
FIRST: Final = "notebooks/01_first_cluster.ipynb"
MEMORY_LIMIT: Final = 1_000_000_000
"""Bytes that server and kernels may take together; Binder ends what takes more than twice as much."""


class BinderServer(LabServer):
    """The server of a built checkout, started as Binder does."""

    def __init__(self, plan: Plan, built: Built, state: Path) -> None:
        super().__init__(built.checkout, state)
        self._plan = plan
        self._built = built

    def _configure(self) -> Path:
        config = self._state / "config"
        config.mkdir()
        return config

    def _command(self) -> list[str]:
        command = [
            str(self._built.prefix / "bin" / "jupyter-lab"),
            # BinderHub gives these, each under both names, and listens on every address of the container.
            "--ip=127.0.0.1",
            "--port=0",
            *(f"--{app}.base_url={BASE_URL}" for app in ("NotebookApp", "ServerApp")),
            *(f"--{app}.token={self.token}" for app in ("NotebookApp", "ServerApp")),
            *(f"--{app}.trust_xheaders=True" for app in ("NotebookApp", "ServerApp")),
            # Only this check needs these: it may run as root, has no use for a window, and drives the page by its objects.
            "--allow-root",
            "--no-browser",
            "--LabApp.expose_app_in_browser=True",
        ]
        if self._plan.start is not None:
            command.insert(0, str(self._built.checkout / "binder" / "start"))
        return command

    def _environment(self, config: Path) -> dict[str, str]:
        chosen = super()._environment(config)
        # Nothing of the environment that runs the check leads the server astray.
        return {name: value for name, value in chosen.items() if not name.startswith("PYTHON")} | {
            name: self._built.environment[name] for name in ("PATH", "VIRTUAL_ENV")
        }


@dataclass(frozen=True)
class Memory:
    """What the server and its kernels take, in bytes. What processes share is counted once."""

    server: int
    kernels: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.server + self.kernels

    def __str__(self) -> str:
        return f"server {self.server / 1e6:.0f} MB + kernels {self.kernels / 1e6:.0f} MB = {self.total / 1e6:.0f} MB"


def memory(server: LabServer) -> Memory:
    """The memory of the server and all that it started, as it is now."""
    process = psutil.Process(server.pid)
    return Memory(_size(process), sum(map(_size, process.children(recursive=True))))


def _size(process: psutil.Process) -> int:
    """Its proportional set size where the system knows it, else the resident one."""
    size = process.memory_full_info()
    return int(getattr(size, "pss", size.rss))


def visit(server: BinderServer, browser: Browser) -> Memory:
    """Opens the index as a Binder link does, runs the first notebook, and returns what that took. Raises AssertionError."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    lab = Lab(context.new_page(), server)
    try:
        lab.page.goto(f"{server.address}/?token={server.token}")
        lab.page.wait_for_url(f"**{BASE_URL}lab/tree/{INDEX}*")
        expect(lab.page.get_by_role("heading", name="raftoral-nb: the course")).to_be_visible()
        lab.open(FIRST)
        lab.run_cells()
        view = lab.page.locator(".raftoral-view").first
        lab.output_area(lab.find_cell("%raftoral start")).scroll_into_view_if_needed()
        expect(view).to_be_visible()
        expect(view.locator("svg").first).to_be_visible()
        taken = memory(server)
        assert not lab.foreign_requests, f"something is loaded from another host: {lab.foreign_requests}"
        assert lab.page.get_by_text("official Jupyter news").count() == 0, "JupyterLab asks for news"
        return taken
    finally:
        context.close()


def check(folder: Path, browser: Browser, *, offline: bool) -> Memory:
    """All of it, below `folder`. Raises `BinderError` or AssertionError; returns the memory that was taken."""
    plan = read(ROOT / "binder")
    began = time.monotonic()
    built = build(plan, folder, offline=offline)
    print(f"built in {time.monotonic() - began:.0f} s ({'packages of this environment' if offline else 'downloaded'})")
    state = folder / "state"
    state.mkdir()
    server = BinderServer(plan, built, state)
    server.start()
    try:
        taken = visit(server, browser)
    except BaseException:
        print(server.log)
        raise
    finally:
        server.stop()
    print(f"{FIRST} ran; {taken}")
    assert taken.total < MEMORY_LIMIT, f"more than {MEMORY_LIMIT / 1e6:.0f} MB: {taken}"
    return taken


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--offline", action="store_true", help="download nothing: use this environment's packages")
    options = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        print("this needs a Chromium: apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="binder-check-") as folder, chromium(executable) as browser:
        try:
            check(Path(folder), browser, offline=options.offline)
        except (BinderError, AssertionError) as problem:
            print(f"binder-check: {problem}", file=sys.stderr)
            return 1
    print("Binder would open the index, and the first notebook runs there")
    return 0


if __name__ == "__main__":
    sys.exit(main())

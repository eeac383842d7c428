"""Python 3.14, where no system has it: Pyodide is CPython 3.14 in WebAssembly, and runs under Node, without threads or processes.

What is pure, and workflows on the virtual clock, are tested there by the same tests as here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools import missing, require_tool

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

PYODIDE = "pyodide@314"
"""The newest of those that have Python 3.14."""

PURE = ("anyio", "cloudpickle", "idna", "iniconfig", "packaging", "pluggy", "pygments", "pysyncobj", "pytest", "sortedcontainers",
        "typing_extensions")  # fmt: skip
"""Taken as they are from the environment of the tests."""

COMPILED = ("hypothesis>=6.100", "msgspec>=0.21")
"""The newest that are built for WebAssembly."""

TESTS = (
    "tests/cli/test_course.py",
    "tests/core",
    "tests/faults",
    "tests/simulation/test_determinism.py",
    "tests/testing/test_shipped_hints.py",
    "tests/testing/test_workflow_test.py",
    "tests/workflow/shipping/test_fingerprints.py",
    "tests/workflow/codec/test_hints.py",
    "tests/workflow/shipping/test_input_types.py",
)
LEFT_OUT = (
    "tests/core/test_properties.py",  # takes minutes
    "tests/core/test_run_rules.py::test_a_node_that_begins_with_a_snapshot_knows_all_there_is",
    "tests/core/test_run_rules.py::test_an_executor_hears_the_same_of_a_snapshot_as_of_the_entries_that_it_stands_for",
    # These need threads:
    "tests/cli/test_course.py::test_a_door_is_the_same_one_wherever_it_is_shipped_to_and_lets_everybody_through_once_open",
    "tests/cli/test_course.py::test_a_watch_remembers_what_happened_before_it_is_waited_for",
    # and these a process, or an event loop of the system:
    "tests/testing/test_workflow_test.py::test_an_async_test_may_use_it_within_its_own_loop",
    "tests/testing/test_workflow_test.py::test_the_fixture_comes_with_the_plugin",
    "tests/testing/test_workflow_test.py::test_the_package_does_not_import_pytest",
    "tests/simulation/test_determinism.py::test_no_clock_of_the_machine_has_a_say_in_a_history",
    "tests/simulation/test_determinism.py::test_the_same_seed_gives_the_same_history_in_one_process",
    "tests/simulation/test_determinism.py::test_the_same_seed_gives_the_same_history_in_processes_with_other_hash_seeds",
)


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command's outcome, with all that it printed in `stdout`."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "npm_config_update_notifier": "false"},
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=500,
    )


def copy_installed(name: str, to: Path) -> None:
    """Copies the files of an installed package that is all Python."""
    for file in importlib.metadata.files(name) or ():
        if ".." not in file.parts and file.suffix != ".pyc":
            target = to / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(str(file.locate())).read_bytes())


@pytest.fixture(scope="module")
def in_pyodide(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script in Pyodide, with arguments; the checkout is mounted as `/checkout`."""
    node = require_tool("node", "nodejs", get_it="apt-get install nodejs")
    npm = require_tool("npm", get_it="apt-get install npm")
    place = tmp_path_factory.mktemp("pyodide")
    got = run(npm, "install", "--no-audit", "--no-fund", "--prefer-offline", "--prefix", place, PYODIDE, cwd=place)
    if got.returncode:
        missing("Pyodide", get_it=f"a network, or {PYODIDE} in npm's cache\n{got.stdout}")
    pyodide = place / "node_modules" / "pyodide"
    info = json.loads((pyodide / "pyodide-lock.json").read_text(encoding="utf-8"))["info"]
    packages = place / "packages"
    got = run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", packages,
        "--platform", f"pyemscripten_{info['abi_version']}_{info['arch']}", "--implementation", "cp",
        "--python-version", ".".join(info["python"].split(".")[:2]), *COMPILED,
        cwd=place,
    )  # fmt: skip
    if got.returncode:
        missing("what Pyodide needs", get_it=f"a network\n{got.stdout}")
    for name in PURE:
        copy_installed(name, packages)
    return lambda *command: run(node, HERE / "run.mjs", pyodide, packages, ROOT, *command, cwd=place)


def test_what_is_pure_and_workflows_on_the_virtual_clock_pass_their_tests_on_python_3_14_in_webassembly(
    in_pyodide: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    left_out = [f"--deselect={name}" for name in LEFT_OUT]
    done = in_pyodide("/checkout/tests/pyodide/inside.py", "-q", *left_out, *TESTS)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d{3} passed.* in ", done.stdout, re.MULTILINE), done.stdout


def test_what_fails_there_fails_here_with_its_traceback(
    in_pyodide: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = in_pyodide("/checkout/tests/pyodide/no_such_script.py")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stdout
    assert "FileNotFoundError" in done.stdout

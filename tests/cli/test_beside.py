"""Programs beside a kernel: their lines are kept and waited for, and none outlives who started it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from raftoral_nb import ClusterError, CompletionTimeoutError
from raftoral_nb.cli.beside import Beside
from tests.cluster.conftest import nothing_is_left

__all__ = ["nothing_is_left"]

pytestmark = pytest.mark.usefixtures("nothing_is_left")

Start = Callable[..., Beside]
ENDLESS = "import threading\nprint('here', flush=True)\nthreading.Event().wait()\n"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Beside] = []

    def begin(code: str, *arguments: str) -> Beside:
        file = tmp_path / "program.py"
        file.write_text(code)
        started.append(Beside(str(file), *arguments))
        return started[-1]

    yield begin
    for program in started:
        program.kill()


def test_a_program_gets_its_arguments_and_its_lines_are_waited_for(start: Start) -> None:
    program = start("import sys\nfor word in sys.argv[1:]: print('heard', word)\nprint(__name__)\n" + ENDLESS, "a", "b")
    assert program.wait_for("heard", 2) == "heard b"
    program.wait_for("here")
    assert program.lines == ["heard a", "heard b", "__main__", "here"]
    assert "running" in repr(program)
    assert program.kill() == -signal.SIGKILL
    assert program.kill() == -signal.SIGKILL
    assert "ended" in repr(program)


def test_a_module_is_a_program_too() -> None:
    program = Beside("platform", "--terse")
    try:
        assert program.wait_for("-")
    finally:
        program.end()


def test_a_program_may_do_something_before_it_ends(start: Start) -> None:
    program = start(
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(print('swept')))\n"
        "print('here', flush=True)\nsignal.pause()\n"
    )
    program.wait_for("here")
    assert program.end() == 0
    assert program.lines == ["here", "swept"]


def test_whoever_waits_for_a_line_is_told_when_the_program_ended_without_it(start: Start) -> None:
    with pytest.raises(ClusterError, match=r"(?s)0 of 1 lines with 'here'.*ValueError: no luck"):
        start("raise ValueError('no luck')").wait_for("here")


def test_a_line_that_does_not_come_in_time_ends_the_wait(start: Start) -> None:
    program = start(ENDLESS)
    program.wait_for("here")
    with pytest.raises(CompletionTimeoutError, match=r"printed 1 of 2 lines with 'here' within 0\.01 s"):
        program.wait_for("here", 2, timeout=0.01)


def test_a_program_ends_with_the_process_that_started_it_however_that_ends(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import os\nprint('number', os.getpid())\n" + ENDLESS)
    starter = (
        "import sys\nfrom raftoral_nb.cli.beside import Beside\nprogram = Beside(sys.argv[1])\n"
        "program.wait_for('here')\nprint(program.wait_for('number').split()[1], flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter, str(tmp_path / "endless.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as kernel:
        assert kernel.stdout is not None
        program = psutil.Process(int(kernel.stdout.readline()))
        assert program.is_running()
        kernel.kill()
    program.wait(30)
    assert not program.is_running()

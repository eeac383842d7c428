"""`%%durable` in kernels that are killed, interrupted and started anew."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel_ext.kernels import Kernel, new_kernel  # noqa: F401 - a fixture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning")

LOAD = "%load_ext raftoral_nb"
WAIT = "import threading\nprint('waiting', flush=True)\nthreading.Event().wait(60)"


@pytest.fixture
def kernels(
    new_kernel: Callable[[], Kernel],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], Kernel]:
    """Starts kernels of one notebook in an empty folder, with the extension loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "my study.ipynb"))

    def start() -> Kernel:
        kernel = new_kernel()
        assert kernel.run(LOAD)[1] == ""
        return kernel

    return start


def said(kernel: Kernel, cell: str) -> list[str]:
    """What was said and displayed of a cell that must not fail: plain texts."""
    kernel.displayed.clear()
    printed, error = kernel.run(cell)
    assert error == "", kernel.reply
    return [*printed.splitlines(), *(bundle["text/plain"] for bundle in kernel.displayed)]


STUDY = [
    "%%durable load\nimport random\nwords = {f'w{i}' for i in range(50)}\nrows = [random.random() for _ in range(1000)]\nlst = [1]\nprint('loaded')",
    "%%durable change\nlst.append(3)\nfirst = sorted(words)[0]",
    "total = sum(rows)",
    "%%durable fit\nfitted = sum(rows) + len(lst)",
]


def test_after_a_sigkill_run_all_restores_what_was_recorded_and_goes_on_in_the_cell_that_died(
    kernels: Callable[[], Kernel], tmp_path: Path
) -> None:
    first = kernels()
    for cell in STUDY:
        said(first, cell)
    [expected] = said(first, "print(repr((total, fitted, lst, first)))")
    said(first, "%%durable long\nif False:\n    pass\ndone = len(rows)")
    first.begin(f"%%durable killed\nlst.append(4)\n{WAIT}")
    first.until_printed("waiting")
    first.kill()
    second = kernels()
    texts = [said(second, cell) for cell in STUDY]
    assert [text[-1].partition(" ")[0] for text in texts if text] == ["restored", "restored", "restored"]
    assert "loaded" in texts[0]
    assert said(second, "print(repr((total, fitted, lst, first)))") == [expected]
    [begun, *_, ended] = said(second, "%%durable killed\nlst.append(4)")
    assert begun.startswith("the kernel ended while this cell ran, which had begun at ")
    assert ended.startswith("ran ")
    assert said(second, "print(lst)") == ["[1, 3, 4]"]
    assert (tmp_path / ".raftoral" / "my_study" / "cluster.json").is_file()
    assert (tmp_path / ".raftoral" / ".gitignore").read_text("utf-8") == "*\n"
    assert second.leave() == 0


def test_a_kernel_that_is_killed_while_it_records_leaves_the_record_before(kernels: Callable[[], Kernel]) -> None:
    cell = "%%durable big\nimport numpy as np\nx = np.full(2_000_000, {})"
    first = kernels()
    said(first, cell.format(1.0))
    said(
        first,
        "import os, signal\nfrom raftoral_nb.cells.cell_log import CellLog\n"
        "CellLog.end = lambda *_: os.kill(os.getpid(), signal.SIGKILL)",
    )
    first.begin(cell.format(2.0))
    first.manager.provisioner.process.wait(60)  # type: ignore[union-attr]
    second = kernels()
    assert said(second, cell.format(1.0))[-1].startswith("restored ")
    assert said(second, "print(x.sum())") == ["2000000.0"]
    assert said(second, cell.format(2.0))[0].startswith("runs again, as its code changed")


OUTPUTS = """%%durable shows
%matplotlib inline
import asyncio, sys
import matplotlib.pyplot as plt
from IPython.display import HTML, display
print("to stdout")
print("to stderr", file=sys.stderr)
handle = display("first", display_id=True)
await asyncio.sleep(0)
!echo from a shell
handle.update("second")
display(HTML("<b>bold</b>"))
%time y = 6 * 7
plt.plot([1, 2])
plt.show()
y"""


def test_text_pictures_updates_and_the_last_value_are_shown_again(kernels: Callable[[], Kernel]) -> None:
    first = kernels()
    ran = said(first, OUTPUTS)
    pictures = [bundle["image/png"] for bundle in first.displayed if "image/png" in bundle]
    assert base64.b64decode(pictures[0]).startswith(b"\x89PNG")
    first.kill()
    second = kernels()
    restored = said(second, OUTPUTS)
    assert [bundle["image/png"] for bundle in second.displayed if "image/png" in bundle] == pictures
    assert [bundle["text/html"] for bundle in second.displayed if "<b>bold</b>" in bundle.get("text/html", "")] != []
    for text in ("to stdout", "to stderr", "from a shell", "'second'"):
        assert text in ran
        assert text in restored
    assert "'first'" not in restored
    assert any(line.startswith("Wall time") for line in restored)
    assert said(second, "print(_, In[-2][-2:], Out[max(Out)])") == ["42 ", "y 42"]


def test_output_of_a_progress_bar_is_shown_as_it_was_at_the_end(kernels: Callable[[], Kernel]) -> None:
    cell = "%%durable bar\nimport sys\nfor i in range(4):\n    print(f'\\r{i}/3 done', end='', file=sys.stderr, flush=True)"
    first = kernels()
    said(first, cell)
    first.kill()
    second = kernels()
    assert [text.strip("\r") for text in said(second, cell) if "done" in text] == ["3/3 done"]


def test_an_interrupted_cell_is_not_recorded(kernels: Callable[[], Kernel]) -> None:
    kernel = kernels()
    cell = f"%%durable slow\nlst = [1]\n{WAIT}"
    raised = kernel.run(cell, on_output=kernel.manager.interrupt_kernel)[1]
    assert raised == "KeyboardInterrupt"
    assert kernel.displayed[-1]["text/plain"] == "nothing is recorded of this cell, as it did not end"
    assert said(kernel, "%%durable slow\nlst = [2]")[-1].startswith("ran ")


def test_a_second_kernel_of_the_notebook_is_refused_and_says_why(kernels: Callable[[], Kernel]) -> None:
    first = kernels()
    said(first, "%%durable a\nx = 1")
    second = kernels()
    assert second.run("%%durable a\nx = 1")[1] == "CellError"
    assert "another kernel (process " in second.reply["evalue"]
    assert "run `%raftoral cells --close` in it" in second.reply["evalue"]
    assert second.run("print('x' in globals())")[0] == "False\n"
    first.kill()
    assert said(second, "%%durable a\nx = 1")[-1].startswith("restored ")


def test_what_is_damaged_and_too_large_to_be_checked_at_once_is_told_later(
    kernels: Callable[[], Kernel], tmp_path: Path
) -> None:
    cell = "%%durable big\nimport numpy as np\nx = np.zeros(3_000_000)"
    first = kernels()
    said(first, cell)
    first.kill()
    for file in (tmp_path / ".raftoral" / "my_study" / "cells").iterdir():
        if file.stat().st_size > 20_000_000:
            with file.open("r+b") as opened:
                opened.seek(12_000_000)
                opened.write(b"\xff")
    second = kernels()
    assert said(second, cell)[-1].startswith("restored ")
    wait = "import threading\n[one.join(60) for one in threading.enumerate() if one.name.endswith('-check')];"
    told = [*said(second, wait), *said(second, "1")]
    sentence = "what was recorded of big is damaged, and was dropped: `x` is wrong in memory. Execute it again, and what used it"
    assert sentence in told
    assert said(second, cell)[-1].startswith("ran ")


def test_a_subshell_runs_no_durable_cell_and_an_ordinary_one_counts_there_too(kernels: Callable[[], Kernel]) -> None:
    kernel = kernels()
    said(kernel, "%%durable a\nlst = [1]")
    subshell = kernel.new_subshell()
    kernel.begin(
        "try:\n    get_ipython().run_cell_magic('durable', 'b', 'y = 1')\nexcept Exception as error:\n    print(error)\nprint('tried')",
        subshell,
    )
    kernel.until_printed("tried")
    kernel.begin("lst.append(2)\nprint('appended')", subshell)
    kernel.until_printed("appended")
    kernel.end_subshell(subshell)
    assert said(kernel, "%%durable c\ns = sum(lst)")[-1].startswith("ran ")
    assert said(kernel, "print(s)") == ["3"]


def test_a_large_value_is_restored_in_a_moment(kernels: Callable[[], Kernel]) -> None:
    cell = "%%durable big\nimport numpy as np\nx = np.ones(12_500_000)"
    first = kernels()
    said(first, cell)
    first.kill()
    second = kernels()
    said(second, "%%durable other\nz = 1")  # the cluster is there
    said(second, "import time\nbegan = time.perf_counter()")
    assert "100 MB" in said(second, cell)[-1]
    [seconds] = said(second, "print(time.perf_counter() - began)")
    assert float(seconds) < 2  # it takes some 0.05 s: nothing is read; 100 MB took longer to be written


def test_a_cell_in_a_terminal_records_and_restores_as_well(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = tmp_path / "lines.ipy"
    script.write_text(
        "%load_ext raftoral_nb\nget_ipython().run_cell('%%durable a\\nprint(\"hello\")\\nx = 5\\nx')\nprint(x)\n",
        "utf-8",
    )
    outputs: list[Any] = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "IPython", "--no-banner", "--colors=nocolor", "lines.ipy"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        outputs.append(done.stdout)
    assert "ran " in outputs[0]
    assert "restored 1 variable" in outputs[1]
    assert all("hello" in output for output in outputs)
    assert (tmp_path / ".raftoral" / "ipython").is_dir()

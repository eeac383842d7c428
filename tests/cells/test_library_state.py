from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raftoral_nb.cells.library_state import LibraryState, restore_state


def test_what_did_not_change_is_not_recorded() -> None:
    assert LibraryState().changes() == {}


def test_chance_goes_on_where_it_was() -> None:
    before = LibraryState()
    random.seed(3)
    np.random.seed(3)
    changes = before.changes()
    expected = random.random(), np.random.rand()
    random.seed(4)
    np.random.seed(4)
    restore_state(changes)
    assert (random.random(), np.random.rand()) == expected


def test_a_folder_that_is_gone_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    restore_state({"os.getcwd()": str(tmp_path / "gone")})
    assert Path.cwd() == tmp_path


def test_numpys_chance_is_recorded_although_numpy_came_with_the_cell() -> None:
    program = (
        "from raftoral_nb.cells.library_state import LibraryState, NUMPY\nbefore = LibraryState()\n"
        "import numpy as np\nnp.random.seed(1)\nprint(NUMPY in before.changes())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"

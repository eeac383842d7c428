from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import current_cluster
from raftoral_nb.cells import cell_log
from raftoral_nb.cells.cell_blobs import CellBlob
from raftoral_nb.cells.cell_log import CellLog
from raftoral_nb.cells.cell_records import CellRecord, LostName, StoredBuffer, StoredGroup
from raftoral_nb.errors import CellError


def record(name: str, **changes: Any) -> CellRecord:
    blob = CellBlob("0" * 32, 5)
    fields: dict[str, Any] = {
        "name": name,
        "key": "k",
        "code": "c",
        "began": 1.5,
        "seconds": 2.0,
        "reads": {"x": "1"},
        "functions": {},
        "contents": {"y": "2"},
        "groups": (StoredGroup(("y", "z"), blob, 3, (StoredBuffer(-1, 7, CellBlob("1" * 32, 7)), StoredBuffer(0, 2))),),
        "shared": (("y", "z"),),
        "bound": ("y", "z"),
        "free": ("y",),
        "modules": {"np": "numpy"},
        "definitions": ("f",),
        "deleted": (),
        "lost": (LostName("h", "an open file", 3),),
        "output": blob,
        "source": "y = x",
        "filename": "",
        "versions": {},
    }
    return CellRecord(**{**fields, **changes})


def test_records_are_there_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    log = CellLog(tmp_path / "cells")
    log.begin("a", 1.5, ("x",))
    log.end("a", record("a"), "one")
    log.begin("b", 2.5, ())
    log.end("b", None, "failed")
    log.close()
    again = CellLog(tmp_path / "cells")
    assert again.records == {"a": record("a")}
    assert again.begun is None
    again.forget("a")
    again.begin("c", 3.5, ("x", "y"))
    again.close()
    last = CellLog(tmp_path / "cells")
    assert last.records == {}
    assert last.begun is not None
    assert (last.begun.name, last.begun.began, last.begun.reads) == ("c", 3.5, ("x", "y"))
    last.close()


def test_the_run_begins_anew_now_and_then_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_log, "STEPS", 3)
    log = CellLog(tmp_path / "cells")
    for number in range(8):
        log.end(f"cell{number}", record(f"cell{number}"), "")
    log.begin("last", 1.0, ())
    log.close()
    again = CellLog(tmp_path / "cells")
    assert list(again.records) == [f"cell{number}" for number in range(8)]
    assert again.begun is not None
    again.close()


def test_a_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    log = CellLog(tmp_path / "cells")
    who = rf"^another kernel \(process {os.getpid()}, since \d+-\d+-\d+ [\d:]+\) has the cells of this notebook, in .*: shut it down"
    with pytest.raises(CellError, match=who):
        CellLog(tmp_path / "cells")
    log.close()
    CellLog(tmp_path / "cells").close()


def test_a_damaged_log_is_named_and_can_be_put_aside(tmp_path: Path) -> None:
    folder = tmp_path / "cells"
    log = CellLog(folder)
    for number in range(5):
        log.end(f"cell{number}", record(f"cell{number}"), "")
    log.close()
    [file] = folder.glob("*/log.db")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(CellError, match=r"damaged.*: rename or remove .*cells; the cells then run again"):
        CellLog(folder)
    folder.rename(tmp_path / "aside")
    again = CellLog(folder)
    assert again.records == {}
    again.close()


def test_a_folder_that_cannot_be_made_is_named_with_what_sets_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        CellError, match=r"cannot be recorded in .*file.cells: set `%config RaftoralMagics.cells_dir = "
    ):
        CellLog(tmp_path / "file" / "cells")


def test_its_cluster_is_nobodys_current_one(tmp_path: Path) -> None:
    log = CellLog(tmp_path / "cells")
    assert current_cluster() is None
    log.close()
    log.close()


def test_the_size_of_a_record_counts_each_file_once_and_its_names_are_those_of_the_notebook() -> None:
    assert record("a").size == 12
    assert record("a").variables == ("f", "np", "y", "z")

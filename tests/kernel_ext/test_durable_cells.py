"""`%%durable` in a shell: what is recorded, what is restored, and when a cell runs again. What a kernel's death does is tested in a kernel."""

from __future__ import annotations

import io
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_ext.magics import durable_cells
from kernel_ext.magics.extension import _loaded
from raftoral_nb.cells import notebook_cells
from raftoral_nb.cells.cell_blobs import CellBlob, CellBlobs
from raftoral_nb.cells.cell_checks import BlobChecks
from raftoral_nb.hosts import observers
from raftoral_nb.storage.content_files import ContentFiles, Part
from tests.kernel_ext.conftest import Notebook


class Lasting:
    """A notebook whose cells are run from the top, with restarts between."""

    def __init__(self, notebook: Notebook, folder: Path) -> None:
        self.notebook = notebook
        self.space: dict[str, Any] = notebook.shell.user_ns
        notebook.ok(f"%config RaftoralMagics.cells_dir = {str(folder)!r}")

    @property
    def durable(self) -> Any:
        return _loaded[self.notebook.shell].magics.session.durable

    def restart(self) -> None:
        """As after a restart of the kernel: nothing is bound, and the folder is closed."""
        self.durable.close()
        self.close_files()
        self.notebook.shell.reset(new_session=False)

    def close_files(self) -> None:
        """Closes the files that the notebook left open."""
        for value in self.space.values():
            if isinstance(value, io.IOBase):
                value.close()

    def run(self, *cells: str) -> list[str]:
        """Runs cells; returns what became of the durable ones: the last line that was said of each."""
        return [self.said(cell) for cell in cells]

    def said(self, cell: str) -> str:
        """Runs a cell; returns all that was said of it, its own output left out."""
        ran = self.notebook.ok(cell)
        marks = (
            "ran ",
            "restored ",
            "runs again",
            "not recorded",
            "nothing is recorded",
            "line ",
            "`",
            "not there",
            "it uses ",
        )
        lines = [line for bundle in ran.bundles for line in bundle["text/plain"].splitlines()]
        return "\n".join(line for line in lines if line.startswith(marks))


@pytest.fixture
def lasting(notebook: Notebook, tmp_path: Path) -> Iterator[Lasting]:
    made = Lasting(notebook, tmp_path / "recorded")
    yield made
    made.close_files()


def kinds(said: list[str]) -> str:
    """`ran` or `restored` for each durable cell."""
    return " ".join("restored" if one.startswith("restored") else "ran" for one in said if one)


def test_a_cell_runs_once_and_its_names_are_there_after_a_restart(lasting: Lasting) -> None:
    cell = "%%durable numbers\nimport math\nx = [1, 2]\ny = math.pi"
    assert kinds(lasting.run(cell)) == "ran"
    lasting.restart()
    assert "x" not in lasting.space
    assert lasting.run(cell)[0].startswith("restored 3 variables, from ")
    assert lasting.space["x"] == [1, 2]
    assert lasting.space["y"] == lasting.space["math"].pi


def test_run_all_a_second_time_in_the_same_kernel_restores_every_cell(lasting: Lasting) -> None:
    cells = (
        "%%durable a\ntotal = 0\nfor i in range(3):\n    total += i",
        "%%durable b\nif total > 1:\n    found = total\nlast = found",
        "%%durable c\ndef half(x):\n    return x / k\nk = 2\nz = half(last)",
    )
    assert kinds(lasting.run(*cells)) == "ran ran ran"
    assert kinds(lasting.run(*cells)) == "restored restored restored"
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored restored restored"
    assert lasting.space["z"] == 1.5


def test_comments_and_layout_change_nothing_and_code_does(lasting: Lasting) -> None:
    lasting.run("%%durable a\nx = 1")
    assert kinds(lasting.run("%%durable a\n# one\nx  =  1")) == "restored"
    assert lasting.run("%%durable a\nx = 2")[0].startswith("runs again, as its code changed\nran ")


def test_a_changed_input_runs_what_depends_on_it_and_nothing_else(lasting: Lasting) -> None:
    def cells(rate: int) -> tuple[str, ...]:
        return (
            f"rate = {rate}",
            "%%durable a\nx = rate * 2",
            "%%durable b\ny = x + 1",
            "%%durable other\nz = 5",
        )

    lasting.run(*cells(1))
    lasting.restart()
    said = lasting.run(*cells(3))
    assert said[1].startswith("runs again, as `rate` changed\n")
    assert said[2].startswith("runs again, as `x` changed\n")
    assert said[3].startswith("restored ")
    assert lasting.space["y"] == 7


def test_a_cell_that_makes_the_same_again_runs_nothing_that_depends_on_it(lasting: Lasting) -> None:
    lasting.run("%%durable a\nx = {'k': [1, 2]}", "%%durable b\ny = sum(x['k'])")
    lasting.restart()
    assert kinds(lasting.run("%%durable a\nx = dict(k=[1] + [2])", "%%durable b\ny = sum(x['k'])")) == "ran restored"


def test_what_a_cell_changes_is_changed_once_however_often_all_is_run(lasting: Lasting) -> None:
    cells = ("%%durable a\nlst = [1]\nalias = lst", "%%durable b\nlst.append(3)", "%%durable c\ns = sum(alias)")
    said = lasting.run(*cells)
    assert "changed alias and lst" in said[1]
    for _ in range(2):
        lasting.restart()
        assert kinds(lasting.run(*cells)) == "restored restored restored"
        assert lasting.space["lst"] == [1, 3]
        assert lasting.space["alias"] is lasting.space["lst"]
        assert lasting.space["s"] == 4


def test_what_an_ordinary_cell_makes_and_a_durable_one_changes_is_the_same_again(lasting: Lasting) -> None:
    cells = ("lst = [1]", "%%durable b\nlst.append(3)", "print(lst)")
    lasting.run(*cells)
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored"
    assert lasting.space["lst"] == [1, 3]


def test_what_an_ordinary_cell_changes_counts_for_the_durable_ones_that_read_it(lasting: Lasting) -> None:
    first, last = "%%durable a\nlst = [1]\nbox = {'l': lst}", "%%durable b\ns = sum(lst)"
    lasting.run(first, "lst.append(5)", last)
    lasting.restart()
    assert kinds(lasting.run(first, "lst.append(5)", last)) == "restored restored"
    lasting.restart()
    said = lasting.run(first, "box['l'].append(6)", last)  # by another name
    assert said[2].startswith("runs again, as `box` and `lst` changed")
    assert lasting.space["s"] == 7


def test_an_ordinary_cell_that_only_looks_changes_nothing(lasting: Lasting) -> None:
    cells = ("%%durable a\nlst = [1, [2]]", "len(lst), lst[1]", "%%durable b\ns = len(lst)")
    lasting.run(*cells)
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored restored"


def test_x_plus_one_twice_by_hand_runs_twice(lasting: Lasting) -> None:
    lasting.run("%%durable a\nx = 1", "%%durable b\nx += 1")
    assert lasting.run("%%durable b\nx += 1")[0].startswith("runs again, as `x` changed")
    assert lasting.space["x"] == 3


def test_the_order_of_a_dict_counts_and_that_of_a_set_does_not(lasting: Lasting) -> None:
    cell = "%%durable b\ny = list(x)"
    lasting.run("x = {'a': 1, 'b': 2}", cell)
    assert lasting.run("x = {'b': 2, 'a': 1}", cell)[1].startswith("runs again, as `x` changed")
    lasting.run("x = {'p', 'q', 'r'}", cell)
    assert kinds(lasting.run("x = {'r', 'q', 'p'}", cell)) == "restored"


def test_a_name_that_a_cell_leaves_as_it_is_counts(lasting: Lasting) -> None:
    cell = "%%durable a\nif False:\n    x = 1"
    lasting.run("x = 5", cell)
    assert lasting.run("x = 6", cell)[1].startswith("runs again, as `x` changed")
    assert lasting.space["x"] == 6
    assert kinds(lasting.run("x = 6", cell)) == "restored"
    assert lasting.space["x"] == 6


def test_the_last_value_counts_for_a_cell_that_reads_it(lasting: Lasting) -> None:
    cell = "%%durable a\ny = _ + 1"
    lasting.run("40 + 1", cell)
    assert kinds(lasting.run("40 + 1", cell)) == "restored"
    assert lasting.run("50 + 1", cell)[1].startswith("runs again, as `_` changed")
    assert lasting.space["y"] == 52


# --- what else counts


def test_functions_and_what_they_use_count(lasting: Lasting) -> None:
    def cells(body: str, k: int) -> tuple[str, ...]:
        return (
            f"k = {k}",
            f"def inner(x):\n    return {body}",
            "def outer(x):\n    return inner(x)",
            "%%durable a\ny = outer(2)",
        )

    lasting.run(*cells("x * k", 3))
    assert kinds(lasting.run(*cells("x * k  # the same", 3))) == "restored"
    assert lasting.run(*cells("x + k", 3))[-1].startswith("runs again, as `outer` changed")
    assert lasting.run(*cells("x + k", 4))[-1].startswith("runs again, as `k` changed")
    assert lasting.space["y"] == 6


def test_what_a_function_changes_is_noticed(lasting: Lasting) -> None:
    cells = (
        "log = []\ncount = 0\ndef note(x):\n    global count\n    count += 1\n    log.append(x)",
        "%%durable a\nnote(7)",
    )
    lasting.run(*cells)
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored"
    assert lasting.space["log"] == [7]
    assert lasting.space["count"] == 1


def test_a_changed_class_counts_for_those_who_use_its_instances(lasting: Lasting) -> None:
    def cells(body: str) -> tuple[str, ...]:
        return (
            f"class Net:\n    w = 1\n    def fit(self):\n        self.w = {body}",
            "%%durable a\nnet = Net()",
            "%%durable b\nnet.fit()",
        )

    lasting.run(*cells("2"))
    lasting.restart()
    assert kinds(lasting.run(*cells("2"))) == "restored restored"
    assert type(lasting.space["net"]) is lasting.space["Net"]
    assert lasting.space["net"].w == 2
    lasting.restart()
    assert kinds(lasting.run(*cells("3"))) == "ran ran"
    assert lasting.space["net"].w == 3


def test_a_module_beside_the_notebook_counts(lasting: Lasting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "besidethenotebook.py"
    file.write_text("def f():\n    return 1\n", encoding="utf-8")
    cells = ("import besidethenotebook", "%%durable a\nx = besidethenotebook.f()")
    lasting.run(*cells)
    assert kinds(lasting.run(*cells)) == "restored"
    file.write_text("def f():\n    return 222\n", encoding="utf-8")
    sys.modules.pop("besidethenotebook")
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "ran"
    assert lasting.space["x"] == 222


def test_a_module_beside_the_notebook_that_the_cell_itself_imports_counts(
    lasting: Lasting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "importedbythecell.py"
    file.write_text("def f():\n    return 1\n", encoding="utf-8")
    cell = "%%durable a\nfrom importedbythecell import f\nx = f()"
    assert kinds(lasting.run(cell, cell)) == "ran restored"
    for text, became in (("return 222", "ran"), ("return 222  # as before", "restored")):
        file.write_text(f"def f():\n    {text}\n", encoding="utf-8")
        sys.modules.pop("importedbythecell")
        lasting.restart()
        assert kinds(lasting.run(cell)) == became
        assert lasting.space["x"] == 222


def test_what_another_extension_does_before_a_cell_is_done_before_the_cell_is_looked_at(lasting: Lasting) -> None:
    """As `%autoreload` does, which is loaded when this extension is there already."""
    cell = "%%durable a\nx = rate"
    lasting.space["rate"] = 1

    def reloads(_: object) -> None:
        lasting.space["rate"] = 2

    events = lasting.notebook.shell.events
    lasting.run(cell)
    events.register("pre_run_cell", reloads)
    try:
        lasting.run("1")
        lasting.space["rate"] = 1
        assert lasting.said(cell).startswith("runs again, as `rate` changed")
    finally:
        events.unregister("pre_run_cell", reloads)
    assert lasting.space["x"] == 2


def test_functions_of_random_stay_those_of_the_module(lasting: Lasting) -> None:
    cells = (
        "%%durable imports\nimport random\nfrom random import randint, shuffle\nfrom numpy.random import rand",
        "%%durable draw\nrandom.seed(1)\na = randint(0, 10**9)\nb = rand()\nc = [1, 2, 3]\nshuffle(c)",
    )
    lasting.run(*cells)
    a = lasting.space["a"]
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored restored"
    assert lasting.run("random.seed(1)\nagain = randint(0, 10**9)") == [""]
    assert lasting.space["again"] == a
    assert lasting.space["rand"] == sys.modules["numpy.random"].rand
    assert kinds(lasting.run(cells[1])) == "restored"


def test_what_a_cell_changes_of_a_class_or_a_function_is_restored_and_counts_as_changed(lasting: Lasting) -> None:
    cells = (
        "%%durable a\nclass Config:\n    rate = 1\n    seen = []\nConfig.rate = 2\ndef f():\n    f.calls += 1\nf.calls = 0\nf()",
        "%%durable b\nConfig.rate = 3\nConfig.seen.append(Config.rate)\nf()",
        "%%durable c\nx = Config.rate, f.calls",
    )
    assert lasting.run(*cells)[1].endswith("changed Config and f")
    for _ in range(2):
        lasting.restart()
        assert kinds(lasting.run(*cells)) == "restored restored restored"
        assert kinds(lasting.run(*cells)) == "restored restored restored"
        lasting.run("held = Config.rate, Config.seen, f.calls")
        assert lasting.space["held"] == (3, [3], 2)
        assert lasting.space["x"] == (3, 2)
    assert lasting.run("Config.rate = 7", cells[2])[1].startswith("runs again, as `Config` changed")


def test_what_a_closure_has_counted_is_restored(lasting: Lasting) -> None:
    counter = "def counter():\n    n = 0\n    def add():\n        nonlocal n\n        n += 1\n        return n\n    return add"
    cells = (f"%%durable a\n{counter}\nadd = counter()\nadd()", "%%durable b\nadd()")
    assert lasting.run(*cells)[1].endswith("changed add")
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored restored"
    lasting.run("n = add()")
    assert lasting.space["n"] == 3


def test_what_a_cell_sets_in_a_module_beside_the_notebook_is_restored(
    lasting: Lasting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "setbythecell.py").write_text(
        "rate = 1\nunit = ''\ndef use(one):\n    global unit\n    unit = one\ndef get():\n    return rate, unit\n",
        "utf-8",
    )
    cells = (
        "%%durable a\nimport setbythecell as m\nm.rate = 5\nm.use('m')",
        "%%durable b\nfrom setbythecell import get\nx = get()",
    )
    lasting.run(*cells)
    sys.modules.pop("setbythecell")
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored restored"
    lasting.run("held = get()")
    assert lasting.space["held"] == lasting.space["x"] == (5, "m")


def test_a_cell_that_sets_the_path_of_its_imports_is_restored(
    lasting: Lasting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "onthepath.py").write_text("def f():\n    return 1\n", "utf-8")
    cell = f"%%durable a\nimport sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport onthepath\nx = onthepath.f()"
    assert kinds(lasting.run(cell, cell)) == "ran restored"
    for _ in range(2):
        sys.modules.pop("onthepath")
        sys.path.remove(str(tmp_path))
        lasting.restart()
        assert kinds(lasting.run(cell, cell)) == "restored restored"
        assert sys.path[0] == str(tmp_path)
    sys.path.remove(str(tmp_path))


def test_who_logs_everything_is_told_nothing_of_the_node_that_records(
    lasting: Lasting, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        lasting.run("%%durable a\nx = 1")
        assert not caplog.records
        observers.logger.info("%s: %s", "another cluster", "event")
    assert len(caplog.records) == 1


def test_a_folder_that_was_removed_is_begun_anew(lasting: Lasting) -> None:
    cell = "%%durable a\nx = [1]"
    lasting.run(cell)
    shutil.rmtree(lasting.durable.folder)
    assert kinds(lasting.run(cell, cell)) == "ran restored"
    lasting.restart()
    assert kinds(lasting.run(cell)) == "restored"


def test_what_an_iterator_is_is_said_as_of_other_things(lasting: Lasting) -> None:
    lasting.run("gen = (x for x in range(3))")
    assert "`gen` is a generator: the cell runs each time" in lasting.said("%%durable a\nx = list(gen)")


def test_what_is_empty_is_shared_too(lasting: Lasting) -> None:
    box = (
        "class Box:\n    def __init__(self, items):\n        self.items = items\none = Box({})\nother = Box(one.items)"
    )
    cells = (
        f"%%durable a\nx = []\ny = x\n{box}\nadd = set().add\nheld = add.__self__",
        "%%durable b\nx.append(1)\none.items[1] = 2\nadd(3)",
    )
    lasting.run(*cells)
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored restored"
    assert lasting.space["y"] is lasting.space["x"]
    assert lasting.space["y"] == [1]
    assert lasting.space["other"].items == {1: 2}
    assert lasting.space["held"] == {3}


def test_what_a_librarys_class_gives_all_its_objects_does_not_make_them_one_thing(lasting: Lasting) -> None:
    made = (
        "import pandas as pd\none = pd.Series([1.0])\nother = pd.Series([{}])\ndef f(x: int = 1): ...\ng = [f]\nh = [f]"
    )
    use = "%%durable use\nn = one.sum(), len(g)"
    lasting.run(made.format(2), use)
    assert kinds(lasting.run(made.format(3) + "\nh.append(1)", use)) == "restored"


def test_a_query_and_a_magic_read_the_names_in_their_text(lasting: Lasting) -> None:
    cell = "%%durable a\nimport pandas as pd\nn = len(pd.DataFrame({'v': [1, 5]}).query('v > @lim'))\n%time m = lim + 1"
    lasting.run("lim = 2", cell)
    assert kinds(lasting.run("lim = 2", cell)) == "restored"
    assert lasting.run("lim = 7", cell)[1].startswith("runs again, as `lim` changed")
    assert lasting.space["n"] == 0
    assert lasting.space["m"] == 8


# --- what is restored


def test_a_view_shares_memory_with_its_array_again(lasting: Lasting) -> None:
    cells = (
        "%%durable a\nimport numpy as np\nbase = np.arange(12.0)",
        "%%durable b\nview = base[2:5]\nevery = base[::3]",
    )
    lasting.run(*cells)
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored restored"
    lasting.run("view[0] = -1\nevery[0] = -2")
    assert list(lasting.space["base"][:3]) == [-2, 1, -1]


def test_what_is_done_to_a_restored_view_is_done_to_its_array_after_another_restart(lasting: Lasting) -> None:
    make = "%%durable a\nimport numpy as np\nbig = np.arange(1000.)\nview = big[10:20]"
    bump = "%%durable b\nview += 1"
    lasting.run(make)
    lasting.restart()
    said = lasting.run(make, "big.sum()", bump)
    assert said[2].endswith("recorded 2 variables; changed big")
    lasting.restart()
    assert kinds(lasting.run(make, "big.sum()", bump)) == "restored restored"
    assert lasting.space["big"][10] == 11
    lasting.space["view"][0] = 5
    assert lasting.space["big"][10] == 5


def test_a_cell_is_restored_whether_or_not_the_array_of_a_view_was_looked_at(lasting: Lasting) -> None:
    make = "%%durable a\nimport numpy as np\nbig = np.arange(1000.)\nview = big[10:20]"
    use = "%%durable b\nprint(view.sum())"
    lasting.run(make, use)
    lasting.restart()
    assert kinds(lasting.run(make, use, "big.sum()", use, make, use)) == "restored restored restored restored restored"


def test_a_figure_that_is_only_looked_at_or_saved_again_is_not_changed(lasting: Lasting) -> None:
    pytest.importorskip("matplotlib")
    lasting.run("import io\nimport matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt")
    cells = (
        "%%durable a\nfig, ax = plt.subplots()\nax.plot([1, 2])\nfig.savefig(io.BytesIO())\nplt.close()",
        "fig.get_dpi();",
        "%%durable look\nsize = fig.get_size_inches()",
        "%%durable save\nfig.savefig(io.BytesIO())",
    )
    said = lasting.run(*cells, *cells[2:])
    assert "changed" not in "".join(said)
    assert kinds(said) == "ran ran ran restored restored"
    lasting.restart()
    lasting.run("import io\nimport matplotlib.pyplot as plt")
    assert kinds(lasting.run(*cells)) == "restored restored restored"
    assert lasting.run("%%durable more\nax.plot([3, 4]);")[0].endswith("changed ax and fig")


COUNTING = """
import itertools
class Counting:
    made = itertools.count()
    def __init__(self):
        self.rows = []
    def __reduce__(self):
        return make, (next(made), self.rows)
made = itertools.count()
def make(number, rows):
    one = Counting()
    one.rows = rows
    return one
"""


def test_what_has_another_pickle_each_time_is_not_called_changed_and_that_is_said(lasting: Lasting) -> None:
    lasting.run(COUNTING, "one = Counting()", "%%durable two\nother = Counting()")
    ordinary = lasting.run("%%durable a\nx = len(one.rows)", "%%durable a\nx = len(one.rows)")
    assert "`one` is __main__.Counting, whose pickle is another one each time: taken to be the same" in ordinary[0]
    assert "changed" not in "".join(ordinary)
    assert kinds(ordinary[1:]) == "restored"
    held = lasting.said("%%durable b\ny = len(other.rows)")
    assert "`other` has another pickle each time: if this cell changed it, that was not seen" in held
    assert "changed other" not in held
    assert kinds(lasting.run("%%durable b\ny = len(other.rows)")) == "restored"
    assert kinds(lasting.run("other.rows;", "%%durable b\ny = len(other.rows)")) == "restored"


def test_a_table_is_restored_and_two_that_share_columns_do_not_see_each_others_changes(lasting: Lasting) -> None:
    cell = (
        "%%durable a\nimport pandas as pd\nframe = pd.DataFrame({'n': range(200_000), 's': 'text'})\n"
        "column = frame['n']\nlike = frame.copy(deep=False)"
    )
    lasting.run(cell)
    lasting.restart()
    assert kinds(lasting.run(cell)) == "restored"
    before = lasting.space["column"].iloc[0]
    lasting.run("frame.iloc[0, 0] = 99\nframe.iloc[0, 1] = 'other'")
    assert lasting.space["column"].iloc[0] == before
    assert lasting.space["like"].iloc[0].tolist() == [0, "text"]
    assert lasting.space["frame"].iloc[0].tolist() == [99, "other"]


def test_a_changed_column_is_noticed_and_reading_a_table_changes_nothing(lasting: Lasting) -> None:
    make = "%%durable a\nimport pandas as pd\nframe = pd.DataFrame({'n': [1, 2, 3]})"
    read, change = (
        "%%durable b\nmean = frame['n'].mean()\nframe.describe()",
        "%%durable c\nframe['twice'] = frame['n'] * 2",
    )
    said = lasting.run(make, read, change)
    assert "changed" not in said[1]
    assert "changed frame" in said[2]
    lasting.restart()
    assert kinds(lasting.run(make, read, change)) == "restored restored restored"
    assert list(lasting.space["frame"].columns) == ["n", "twice"]


def test_functions_and_classes_of_the_cell_are_those_of_the_notebook_again(lasting: Lasting) -> None:
    cell = (
        "%%durable a\nimport dataclasses\nk = 3\n@dataclasses.dataclass\nclass Point:\n    x: int = 1\n"
        "def times(n):\n    return n * k\ndef make(n):\n    def add(x):\n        return x + n + k\n    return add\n"
        "add = make(10)\nshort = lambda x: x - k\np = Point(4)\nlate = [times, lambda: k]"
    )
    lasting.run(cell)
    lasting.restart()
    assert kinds(lasting.run(cell)) == "restored"
    assert type(lasting.space["p"]) is lasting.space["Point"]
    lasting.run("k = 100")
    assert [lasting.space[name](1) for name in ("times", "add", "short")] == [100, 111, -99]
    assert [lasting.space["late"][0](2), lasting.space["late"][1]()] == [200, 100]
    assert lasting.notebook.ok("import inspect\ninspect.getsource(times)").value == "def times(n):\n    return n * k\n"
    assert "return x + n + k" in lasting.notebook.ok("inspect.getsource(add)").value


def test_a_deleted_name_is_deleted_again(lasting: Lasting) -> None:
    cells = ("%%durable a\nx = 1\ny = 2", "%%durable b\ndel x\nz = y")
    lasting.run(*cells)
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored restored"
    assert "x" not in lasting.space
    assert lasting.space["z"] == 2


def test_two_names_of_a_notebook_are_one_object_again(lasting: Lasting) -> None:
    cell = "%%durable a\none = {'a': []}\ntwo = one\ninner = one['a']\nmany = [inner, inner]"
    lasting.run(cell)
    lasting.restart()
    lasting.run(cell, "inner.append(1)")
    assert lasting.space["two"] == {"a": [1]}
    assert lasting.space["one"] is lasting.space["two"]
    assert lasting.space["many"] == [[1], [1]]


def test_the_value_of_the_last_line_is_shown_and_is_the_last_value_again(lasting: Lasting) -> None:
    cell = "%%durable a\nx = [1, 2]\nx"
    lasting.run(cell)
    lasting.restart()
    ran = lasting.notebook.ok(cell)
    assert ran.value == [1, 2]
    assert lasting.space["_"] is lasting.space["x"]


def test_a_value_that_was_displayed_makes_nothing_depend_on_the_last_value(lasting: Lasting) -> None:
    cells = ("%%durable a\nx = [1]\nx", "%%durable b\ny = len(x)")
    lasting.run(*cells)
    lasting.notebook.ok("'another value'")
    assert kinds(lasting.run(*cells)) == "restored restored"
    lasting.restart()
    assert kinds(lasting.run(*cells)) == "restored restored"


def test_the_lines_of_the_cell_stand_in_the_history_and_in_tracebacks(lasting: Lasting) -> None:
    cell = "%%durable a\ndef f():\n    raise ValueError('here')"
    lasting.run(cell)
    lasting.restart()
    lasting.run(cell)
    assert "raise ValueError" in lasting.space["In"][-1]
    assert "restore" not in lasting.space["In"][-1]
    error: Any = lasting.notebook.run("f()").error
    assert error.__traceback__.tb_next.tb_next.tb_lineno == 3


def test_text_is_shown_again_as_it_was_at_the_end(lasting: Lasting) -> None:
    cell = "%%durable a\nprint('one')\nfor i in range(3):\n    print(f'\\r{i}', end='')\nprint()"
    assert lasting.notebook.ok(cell).stdout.startswith("one\n")
    lasting.restart()
    assert lasting.notebook.ok(cell).stdout == "one\n2\n"


def test_chance_the_folder_and_settings_of_plots_go_on_where_the_cell_left_them(
    lasting: Lasting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    lasting.run("import random, os, numpy as np, matplotlib")
    cell = (
        "%%durable a\nrandom.seed(1)\nnp.random.seed(1)\nfirst = random.random(), np.random.rand()\nos.chdir('sub')\n"
        "matplotlib.rcParams['lines.linewidth'] = 7.5"
    )
    after = "random.random(), np.random.rand(), os.getcwd(), matplotlib.rcParams['lines.linewidth']"
    lasting.run(cell)
    then = lasting.notebook.ok(after).value
    lasting.restart()
    monkeypatch.chdir(tmp_path)
    lasting.run("import random, os, numpy as np, matplotlib", "matplotlib.rcParams['lines.linewidth'] = 1.5", cell)
    assert lasting.notebook.ok(after).value == then
    monkeypatch.chdir(tmp_path)


# --- what cannot be recorded


def test_what_cannot_be_recorded_is_named_before_and_after_and_costs_the_others_nothing(lasting: Lasting) -> None:
    cell = "%%durable a\nx = 1\nhandle = open('/dev/null')\nodd = (i for i in 'ab')\nimport threading\nlocks = [threading.Lock()]"
    said = lasting.run(cell)[0].splitlines()
    assert said[:2] == [
        "line 3: `handle` is an open file, and will not be recorded",
        "line 4: `odd` is a generator, and will not be recorded",
    ]
    assert "not recorded: `handle` (line 3), an open file" in said
    assert "not recorded: `odd` (line 4), a generator" in said
    assert any(line.startswith("not recorded: `locks` (line 6), a list") for line in said)
    lasting.restart()
    said = lasting.run(cell)[0].splitlines()
    assert said[0].startswith("restored 2 variables")
    assert "not there: `handle`, an open file" in said


def test_a_cell_runs_again_if_a_later_one_reads_what_could_not_be_recorded(lasting: Lasting) -> None:
    cells = ("%%durable a\nhandle = open('/dev/null')\nx = 1", "%%durable b\ntext = handle.read()")
    lasting.run(*cells)
    lasting.restart()
    said = lasting.run(*cells)
    assert said[0].startswith("runs again, as b reads `handle`, which cannot be recorded")
    assert "`handle` is an open file: the cell runs each time" in said[1]


def test_a_new_cell_that_reads_what_was_not_restored_says_so_and_then_it_will_be(lasting: Lasting) -> None:
    first = "%%durable a\nhandle = open('/dev/null')\nx = 1"
    lasting.run(first)
    lasting.restart()
    lasting.run(first)
    message = lasting.notebook.fails("%%durable b\ntext = handle.read()")
    assert "`handle` is not there: it is an open file" in message
    assert lasting.run(first)[0].startswith("runs again, as what it could not record is needed")
    assert kinds(lasting.run("%%durable b\ntext = handle.read()")) == "ran"


def test_an_ordinary_cell_that_reads_what_was_not_restored_is_told_whose_it_is(lasting: Lasting) -> None:
    first = "%%durable a\nhandle = open('/dev/null')\nx = 1"
    lasting.run(first)
    lasting.restart()
    lasting.run(first)
    ran = lasting.notebook.run("handle.read()")
    assert isinstance(ran.error, NameError)
    assert "`handle` is not there: it is an open file, which could not be recorded when the cell a ran" in ran.text
    assert lasting.run(first)[0].startswith("runs again, as what it could not record is needed")
    assert lasting.notebook.ok("handle.read()").value == ""


def test_a_file_that_is_closed_is_missed_by_nobody(lasting: Lasting) -> None:
    said = lasting.run("%%durable a\nwith open('/dev/null') as file:\n    text = file.read()")
    assert "not recorded" not in said[0]


def test_what_cannot_be_compared_is_said(lasting: Lasting) -> None:
    lasting.run("import threading\nlock = threading.Lock()")
    assert (
        "`lock` is _thread.lock: taken to be the same each time" in lasting.run("%%durable a\nwith lock:\n    x = 1")[0]
    )
    assert kinds(lasting.run("%%durable a\nwith lock:\n    x = 1")) == "restored"


def test_what_a_command_ended_with_is_no_name_of_the_notebook(lasting: Lasting) -> None:
    assert lasting.run("%%durable a\n!true")[0].endswith("recorded its output")
    assert "_exit_code" in lasting.space


def test_code_that_may_read_anything_says_so(lasting: Lasting) -> None:
    lasting.run("a = 1")
    said = lasting.run("%%durable c\nb = eval('a') + 1")
    assert "it uses eval: it counts as reading every name of the notebook" in said[0]
    assert kinds(lasting.run("%%durable c\nb = eval('a') + 1")) == "restored"
    assert lasting.run("a = 5", "%%durable c\nb = eval('a') + 1")[1].startswith("runs again, as `a` changed")
    assert lasting.space["b"] == 6


# --- what fails


def test_a_cell_that_fails_is_not_recorded_and_says_what_it_has_changed(lasting: Lasting) -> None:
    lasting.run("%%durable a\nlst = [1]")
    ran = lasting.notebook.run("%%durable b\nlst.append(2)\n1 / 0")
    assert isinstance(ran.error, ZeroDivisionError)
    assert "It has changed lst: run the cells that make it again" in ran.text
    assert lasting.run("%%durable a\nlst = [1]", "%%durable b\nlst.append(2)")[1].startswith("ran ")
    assert lasting.space["lst"] == [1, 2]


def test_a_syntax_error_is_pythons_own(lasting: Lasting) -> None:
    assert isinstance(lasting.notebook.run("%%durable a\nx = (").error, SyntaxError)
    assert kinds(lasting.run("%%durable a\nx = 1")) == "ran"


def test_the_line_has_to_be_the_first_and_its_name_one_word(lasting: Lasting) -> None:
    assert "has to be the first line" in lasting.notebook.fails("%%time\n%%durable a\nx = 1")
    assert "one word that begins with a letter, not 'x = 1'" in lasting.notebook.fails("%%durable x = 1\ny = 2")


def test_a_damaged_file_has_the_cell_run_again_and_says_so(lasting: Lasting) -> None:
    cell = "%%durable a\nimport numpy as np\nx = np.arange(300_000.0)"
    lasting.run(cell)
    lasting.restart()
    for file in (lasting.durable.folder / "cells").iterdir():
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    assert lasting.run(cell)[0].startswith("runs again, as its record is damaged (")
    lasting.restart()
    assert kinds(lasting.run(cell)) == "restored"
    assert lasting.space["x"].sum() == sum(range(300_000))


def test_nothing_is_recorded_of_a_cell_that_read_a_damaged_file_before_its_check_had_ended(
    lasting: Lasting, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = "%%durable big\nimport numpy as np\na = np.zeros(300_000)"
    use = "%%durable use\ns = float(a[-1])"
    lasting.run(big)
    lasting.restart()
    [file] = [one for one in lasting.durable.folder.joinpath("cells").iterdir() if one.stat().st_size > 2_000_000]
    with file.open("r+b") as opened:
        opened.seek(-8, io.SEEK_END)
        opened.write(b"\x00\x00\x00\x00\x00\x00\xf8\x42")
    waited = threading.Event()
    check, wait = CellBlobs.check, BlobChecks.wait

    def checks(self: CellBlobs, blob: CellBlob) -> None:
        assert waited.wait(60)
        check(self, blob)

    def waits(self: BlobChecks, *names: Any, **more: Any) -> None:
        waited.set()
        wait(self, *names, **more)

    monkeypatch.setattr(notebook_cells, "CHECKED_BYTES", 1_000_000)
    monkeypatch.setattr(CellBlobs, "check", checks)
    monkeypatch.setattr(BlobChecks, "wait", waits)
    assert kinds(lasting.run(big)) == "restored"
    ran = lasting.notebook.ok(use)
    assert "the cell has run, and is not recorded: it read `a`, of which the recorded file is damaged" in ran.text
    assert lasting.space["s"] > 1
    assert (
        "what was recorded of big is damaged, and was dropped: `a` is wrong in memory, and use used that. "
        "Execute big and use again, in this order" in lasting.notebook.ok("1").text
    )
    assert kinds(lasting.run(big, use)) == "ran ran"
    assert lasting.space["s"] == 0
    lasting.restart()
    assert kinds(lasting.run(big, use)) == "restored restored"
    assert lasting.space["s"] == 0


def test_what_is_known_to_be_damaged_is_not_taken_for_what_was_recorded(
    lasting: Lasting, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = "%%durable big\nimport numpy as np\na = np.zeros(300_000)"
    use = "%%durable use\ns = float(a[-1])"
    lasting.run(big)
    lasting.restart()
    [file] = [one for one in lasting.durable.folder.joinpath("cells").iterdir() if one.stat().st_size > 2_000_000]
    with file.open("r+b") as opened:
        opened.seek(-8, io.SEEK_END)
        opened.write(b"\x00\x00\x00\x00\x00\x00\xf8\x42")
    monkeypatch.setattr(notebook_cells, "CHECKED_BYTES", 1_000_000)
    lasting.run(big)
    lasting.durable.opened()._checks.wait()
    lasting.run("1", use)
    assert lasting.space["s"] > 1
    said = lasting.run(big, use)
    assert said[1].startswith("runs again, as `a` changed")
    assert lasting.space["s"] == 0


def test_a_missing_file_has_the_cell_run_again(lasting: Lasting) -> None:
    cell = "%%durable a\nx = list(range(10))"
    lasting.run(cell)
    lasting.restart()
    for file in (lasting.durable.folder / "cells").iterdir():
        file.unlink()
    assert lasting.run(cell)[0].startswith("runs again, as its record is damaged (")


def test_a_disk_that_is_full_costs_the_record_and_not_the_cell(
    lasting: Lasting, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting.run("%%durable a\nx = 1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("raftoral_nb.storage.content_files.ContentFiles.begin", full)
        ran = lasting.notebook.ok("%%durable a\nx = 2")
    assert "the cell a has run, and is not recorded" in ran.text
    assert "No space left on device" in ran.text
    assert lasting.space["x"] == 2
    assert kinds(lasting.run("%%durable a\nx = 1")) == "restored"


def test_what_a_cell_changed_that_could_not_be_stored_is_not_taken_for_what_was_recorded(
    lasting: Lasting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    made, use = "%%durable a\nx = [1]", "%%durable use\nn = len(x)"
    lasting.run(made)
    with monkeypatch.context() as patched:
        patched.setattr("raftoral_nb.storage.content_files.ContentFiles.begin", full)
        lasting.notebook.ok("%%durable b\nx.append(2)")
    assert kinds(lasting.run(use)) == "ran"
    assert lasting.space["n"] == 2
    lasting.restart()
    assert kinds(lasting.run(made, use)) == "restored ran"
    assert lasting.space["n"] == 1


def test_what_a_thread_changes_while_it_is_written_costs_the_record_and_is_said(
    lasting: Lasting, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = ContentFiles.begin

    def changed(files: ContentFiles, digest: str) -> Part:
        lasting.space["x"][0] += 1
        return begin(files, digest)

    cell = "%%durable a\nimport numpy as np\nx = np.zeros(300_000)"
    with monkeypatch.context() as patched:
        patched.setattr(ContentFiles, "begin", changed)
        ran = lasting.notebook.ok(cell)
    assert "the cell a has run, and is not recorded: what it left changed while it was written" in ran.text
    assert kinds(lasting.run(cell)) == "ran"
    assert kinds(lasting.run(cell)) == "restored"


def test_whatever_fails_while_it_is_recorded_is_said(lasting: Lasting) -> None:
    ran = lasting.notebook.ok(
        "%%durable a\nclass Odd:\n    def __reduce__(self):\n        raise KeyboardInterrupt\nodd = Odd()"
    )
    assert "the cell has run, and is not recorded (its recording was interrupted)" in ran.text
    assert kinds(lasting.run("%%durable b\nx = 1")) == "ran"


def test_what_cannot_be_loaded_any_more_is_dropped_and_said(lasting: Lasting, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "%%durable a\nx = [1]"
    lasting.run(cell)
    lasting.restart()

    def gone(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'gone'")

    with monkeypatch.context() as patched:
        patched.setattr("raftoral_nb.cells.notebook_cells.load_group", gone)
        message = lasting.notebook.fails(cell)
    assert "what the cell a left cannot be loaded (ModuleNotFoundError: No module named 'gone')" in message
    assert "Its record was dropped: execute it again" in message
    assert lasting.run(cell)[0].startswith("ran ")


# --- the list


def test_cells_are_listed_and_one_can_be_forgotten_with_its_files(lasting: Lasting) -> None:
    assert lasting.notebook.ok("%raftoral cells").text.startswith("no cell is recorded here yet")
    lasting.run("%%durable big\nimport numpy as np\na = np.arange(500_000.0)", "%%durable small\nb = 1")
    lines = lasting.notebook.ok("%raftoral cells").text.splitlines()
    assert [line.split()[0] for line in lines] == ["cell", "big", "small"]
    assert "a and np" in lines[1]
    assert lines[1].endswith("4.0 MB")
    lasting.notebook.ok("%raftoral cells --forget big")
    assert sum(file.stat().st_size for file in (lasting.durable.folder / "cells").iterdir()) < 10_000
    assert kinds(lasting.run("%%durable small\nb = 1")) == "restored"
    assert kinds(lasting.run("%%durable big\nimport numpy as np\na = np.arange(500_000.0)")) == "ran"
    assert "no cell 'gone' is recorded" in lasting.notebook.fails("%raftoral cells --forget gone")


def test_a_cell_without_a_name_gets_one_of_what_it_binds(lasting: Lasting) -> None:
    lasting.run("%%durable\ntable = [1]", "%%durable\ntable = table + [2]")
    names = [line.split()[0] for line in lasting.notebook.ok("%raftoral cells").text.splitlines()[1:]]
    assert len({name for name in names if name.startswith("table-")}) == 2
    lasting.restart()
    assert kinds(lasting.run("%%durable\ntable = [1]", "%%durable\ntable = table + [2]")) == "restored restored"
    assert lasting.space["table"] == [1, 2]


@pytest.mark.parametrize("session", ["", "study.ipynb"])
def test_a_kernel_that_does_not_know_its_notebook_says_once_where_it_records(
    lasting: Lasting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str
) -> None:
    monkeypatch.setattr(durable_cells, "is_kernel", lambda shell: True)
    monkeypatch.setenv("JPY_SESSION_NAME", session)
    monkeypatch.setattr(lasting.durable, "_beside", tmp_path)
    lasting.notebook.ok("%config RaftoralMagics.cells_dir = ''")
    shown = [lasting.notebook.ok(f"%%durable a\nx = {number}").text for number in range(2)]
    told = [f"it records in {tmp_path / '.raftoral' / 'notebook'}" in text for text in shown]
    assert told == [session == "", False]
    assert ("%config RaftoralMagics.cells_dir" in shown[0]) == (session == "")


def test_the_cluster_of_the_cells_is_not_the_one_that_the_magics_drive(lasting: Lasting) -> None:
    lasting.run("%%durable a\nx = 1")
    assert "no cluster is running" in lasting.notebook.fails("%raftoral status")
    assert lasting.notebook.ok("import raftoral_nb\nraftoral_nb.current_cluster()").value is None


def test_a_value_larger_than_what_a_log_takes_is_restored_writeable(lasting: Lasting) -> None:
    cell = "%%durable a\nimport numpy as np\nx = np.zeros((3000, 1000))\ny = ['text'] * 2_000_000"
    said = lasting.run(cell)[0]
    assert " MB" in said
    lasting.restart()
    lasting.run(cell, "x += 1")
    assert lasting.space["x"].sum() == 3_000_000
    lasting.restart()
    lasting.run(cell)
    assert lasting.space["x"].sum() == 0


def test_durable_cells_go_on_when_the_extension_is_reloaded_and_are_plain_errors_when_it_is_gone(
    lasting: Lasting,
) -> None:
    lasting.run("%%durable a\nx = 1")
    lasting.notebook.ok("%reload_ext raftoral_nb")
    lasting.notebook.ok(f"%config RaftoralMagics.cells_dir = {str(lasting.durable.folder)!r}")
    assert kinds(lasting.run("%%durable a\nx = 1", "%%durable b\ny = x")) == "restored ran"
    lasting.notebook.ok("%unload_ext raftoral_nb")
    assert lasting.notebook.run("%%durable a\nx = 1").error is not None
    assert not [one for one in lasting.notebook.shell.ast_transformers if type(one).__module__.startswith("kernel_ext")]
    lasting.notebook.ok("%load_ext raftoral_nb")

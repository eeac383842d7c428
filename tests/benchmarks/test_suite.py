"""Each case of the suite works and computes what it should; the runner compares, refuses and draws."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import cases, curve, environments, keepsakes, run, targets
from benchmarks.cases import BY_NAME, CASES, Case
from benchmarks.environments import ROOT, Absent, Environments, Ready
from benchmarks.measuring import Found, Task
from benchmarks.own.measure import measure
from benchmarks.report import as_data, pictures, table
from benchmarks.rounds import Measured, Results, Rounds, ratio
from benchmarks.rounds import run as run_once
from benchmarks.sides import SIDES, Side, chosen, matches
from benchmarks.targets import TARGETS, Verdict, verdicts

OWN = [side for side in SIDES if side.module == "benchmarks.own" and side.place == "here"]
LEVELS = {"recovery": "process-1", "kills": "process-3", "late": "disk-3", "values": "disk-1", "long": "process-3"}
"""The side with which a case is tried; the others are tried with the first that can do it."""


def side_named(name: str) -> Side:
    return next(side for side in SIDES if side.name == name)


def tried(case: Case, side: Side, scratch: Path) -> Found:
    return measure(Task(case.name, dict(case.smoke), side.options, str(scratch)))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_each_case_measures_every_figure_and_computes_what_it_should(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # some cases start processes of their own
    side = side_named(LEVELS.get(case.name, next(one.name for one in OWN if matches(one.name, case.sides))))
    assert matches(side.name, case.sides)
    found = tried(case, side, tmp_path)
    assert found.result == case.result(case.smoke)
    measured = Measured()
    measured.add(found)
    missing = {one.name for one in case.figures if measured.figure(one.name) is None}
    assert missing <= {"growth"}, "only what needs many checkpoints may be left out"
    assert all((measured.figure(one.name) or 0) >= 0 or one.unit in {"MB", "x"} for one in case.figures)


@pytest.mark.parametrize("side", [pytest.param(side, id=side.name) for side in OWN])
def test_each_level_takes_the_same_steps(side: Side, tmp_path: Path) -> None:
    assert tried(BY_NAME["step"], side, tmp_path).result == BY_NAME["step"].result(BY_NAME["step"].smoke)


@pytest.mark.parametrize(
    ("case", "side"),
    [("fan_out", "joblib"), ("fan_out", "process-pool"), ("fan_small", "joblib"), ("restore", "pickle")],
)
def test_what_needs_no_environment_of_its_own_computes_the_same(
    case: str, side: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Environments, "of", lambda self, side: Ready(sys.executable, "", (str(ROOT),)))
    assert run.main(["--smoke", "--rounds", "1", "--cases", case, "--sides", side]) == 0
    printed = capsys.readouterr().out
    assert "FAILED" not in printed
    assert "absent" not in printed
    assert re.search(rf"{side} +[\d.,]+ m?s", printed)


def test_an_array_that_came_back_with_one_other_byte_gives_another_sum() -> None:
    values = keepsakes.made(1)
    total = keepsakes.touched(values)
    assert total == keepsakes.touched(keepsakes.made(1))
    for name in ("samples", "pictures", "labels"):
        changed = {**values, name: values[name].copy()}
        changed[name].view("uint8").reshape(-1)[-1] ^= 1
        assert keepsakes.touched(changed) != total
    table = values["table"].copy()
    table.loc[0, "count"] += 1
    assert keepsakes.touched({**values, "table": table}) != total


def test_the_runner_takes_sides_in_turn_and_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--smoke", "--rounds", "2", "--cases", "step", "--sides", "memory-1,pysyncobj-1"]
    assert run.main([*words, "--json", str(tmp_path / "found.json"), "--svg", str(tmp_path)]) == 0
    sides = json.loads((tmp_path / "found.json").read_text("utf-8"))["cases"]["step"]
    assert {name: len(side["rounds"]) for name, side in sides.items()} == {"memory-1": 2, "pysyncobj-1": 2}
    assert all(0 < one["step.p50"] <= one["step.p99"] for side in sides.values() for one in side["rounds"])
    printed = capsys.readouterr().out
    assert "memory-1" in printed
    assert "Drawn:" in printed


def test_a_side_that_computes_something_else_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.rounds.run", lambda *_: Found(41))
    assert run.main(["--smoke", "--rounds", "1", "--cases", "step", "--sides", "pysyncobj-1,memory-1"]) == 1
    assert "FAILED: it computed 41, and not 10" in capsys.readouterr().out


def test_a_peer_that_cannot_be_set_up_is_absent_with_the_reason_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.rounds.run", lambda *_: Found(10, {"step": [0.1]}))
    (tmp_path / "no folder").touch()
    words = [
        "--smoke",
        "--cases",
        "step",
        "--sides",
        "dbos-sqlite,memory-1",
        "--peers-dir",
        str(tmp_path / "no folder"),
    ]
    assert run.main(words) == 0
    printed = capsys.readouterr().out
    assert re.search(r"dbos-sqlite: absent: .*no folder", printed)
    assert re.search(r"memory-1 +100 ms", printed)


def test_an_installer_that_fails_says_why_the_peer_is_absent() -> None:
    complain = "import sys\nsys.exit('working\\nERROR: no such package\\nnotice: there is a newer installer')"
    with pytest.raises(Absent, match=r"^ERROR: no such package$"):
        environments._run([sys.executable, "-c", complain])
    with pytest.raises(Absent, match="no-such-installer"):
        environments._run(["no-such-installer"])


def test_a_revision_that_git_does_not_know_is_absent(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="git knows no revision 'no-such-thing' here"):
        Environments(tmp_path, "no-such-thing").of(side_named("before-memory-3"))


def test_a_side_that_ends_early_or_never_says_so(tmp_path: Path) -> None:
    ready, case = Ready(sys.executable, ""), BY_NAME["step"]
    (tmp_path / "broken.py").write_text("raise SystemExit('no luck')")
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(60)")
    for module, limit, expected in (
        ("broken", 20, "it ended with 1 and found nothing: no luck"),
        ("endless", 0, "it had not ended after 0 s"),
    ):
        side = Side("x", "here", module, {}, "")
        short = Case(case.name, "", {}, {}, case.result, case.figures, (), limit=limit)
        assert run_once(short, {}, side, Ready(ready.python, "", (str(tmp_path),))) == expected


def test_every_side_is_told_apart_and_every_case_has_sides() -> None:
    assert len({side.name for side in SIDES}) == len(SIDES)
    assert all(side.syncs for side in SIDES)
    for case in CASES:
        assert all(any(matches(side.name, (one,)) for side in SIDES) for one in case.sides), case.name
    assert {side.name for side in chosen(["own", "restate-*"])} >= {"memory-3", "disk-1", "restate-3"}
    with pytest.raises(ValueError, match="there is no side 'temporal'"):
        chosen(["temporal"])


def test_every_target_is_of_a_figure_that_both_sides_measure() -> None:
    for target in TARGETS:
        case = BY_NAME[target.case]
        assert target.shape in case.figures
        for name in (target.side, target.against):
            assert name is None or matches(name, case.sides), target


def measured(*figures: dict[str, float]) -> Measured:
    found = Measured("1.0")
    for one in figures:
        found.figures.append(one)
    return found


def test_a_target_is_judged_by_the_median_of_the_ratios_of_each_round() -> None:
    ours = measured({"rate": 800.0}, {"rate": 900.0}, {"rate": 80.0})
    theirs = measured({"rate": 100.0}, {"rate": 100.0}, {"rate": 10.0})
    results: Results = {"batch": {"memory-3": ours, "restate-1": theirs}}
    compared = ratio(ours, theirs, "rate")
    assert str(compared) == "8.00 (8.00-9.00)"
    said = {str(one).split(";")[0].split()[0] for one in verdicts(results) if one.met is not None}
    assert said == {"met"}
    (verdict,) = (one for one in verdicts(results) if one.met is not None)
    assert verdict.margin == 1.0
    slower = Verdict(verdict.target, 4.0)
    assert (slower.met, slower.margin) == (False, 0.5)
    assert "2.00 times away" in str(slower)
    quick = Verdict(targets.Target("command", "command.p50", "memory-1", None, 50e-6), 25e-6)
    assert "at most 50.0 µs; found 25.0 µs, 2.00 times as good as asked" in str(quick)


def test_tables_data_and_pictures_have_what_was_measured() -> None:
    case = BY_NAME["batch"]
    found = {"memory-3": measured({"rate": 900.0}), "restate-1": measured({"rate": 300.0}), "dbos-sqlite": Measured()}
    found["dbos-sqlite"].absent = "no index"
    text = table(case, case.numbers, found)
    assert "3.00" in text
    assert "dbos-sqlite: absent: no index" in text
    data = as_data({"batch": found}, [], 1)
    assert data["cases"]["batch"]["memory-3"]["figures"]["rate"] == 900.0
    assert json.loads(json.dumps(data)) == data
    drawn = pictures({"batch": found})["speed.svg"]
    assert "Restate, 1 node" in drawn
    assert "prefers-color-scheme: dark" in drawn


def test_a_picture_is_well_formed_and_has_a_line_and_a_bar_for_each() -> None:
    lines = curve.draw("a < b", [curve.Line("one", [(0, 0), (5, 2)])], x_title="x", y_title="y", mark=(2, "here"))
    rows = [curve.Bar("one", 2.0, "2 ms", 1.0, 3.0, True), curve.Bar("two", 4.0, "4 ms", 4.0, 4.0, False)]
    for picture in (lines, curve.bars("speed", [("panel", rows)])):
        ET.fromstring(picture)
    assert curve.bars("speed", [("panel", rows)]).count("<rect") == 1 + len(rows)


def test_the_suite_starts_from_any_folder_and_lists_what_it_has(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "run.py", "--list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(f"  {name} " in done.stdout for name in (*BY_NAME, *(side.name for side in SIDES)))


def test_rounds_go_from_side_to_side() -> None:
    order = []

    class Noting(Rounds):
        def _take(self, case: Case, numbers: cases.Numbers, side: Side, measured: Measured) -> None:
            order.append(side.name)

    noting = Noting(Environments(Path("unused"), "HEAD"), rounds=2)
    list(noting.measure([BY_NAME["step"]], [side_named("memory-3"), side_named("restate-1")]))
    assert order == ["memory-3", "restate-1"] * 2

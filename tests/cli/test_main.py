"""The console script, and the demonstration it runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from raftoral_nb import __version__
from raftoral_nb.cli import demo, main


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raftoral_nb.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_demonstration_succeeds_and_tells_what_happened() -> None:
    done = run_cli("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "result: 162" in lines
    before = next(line for line in lines if line.startswith("leader before the kill:"))
    after = next(line for line in lines if line.startswith("leader after the kill:"))
    assert before.split()[-1] != after.split()[-1]
    ran = {
        line.split()[0]: line.split()[1] for line in lines if line.startswith(("  0/reserve", "  1/charge", "  2/ship"))
    }
    assert ran == {"0/reserve": "once", "1/charge": "twice", "2/ship": "once"}
    assert "FAILED" not in done.stdout
    assert lines[-1].endswith("claims held.")
    assert not done.stderr, "quiet unless asked"


def test_the_demonstration_runs_on_more_nodes_and_logs_when_asked() -> None:
    done = run_cli("demo", "--nodes", "5", "--log-level", "debug")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 5 nodes" in done.stdout


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"raftoral-nb {__version__}\n"


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["dmo"], "choose from"),
        (["demo", "--nodes", "2"], "at least 3 nodes"),
        (["demo", "--nodes", "10"], "at most 9 nodes"),
        (["demo", "--nodes", "many"], "not a number"),
        (["demo", "--log-level", "loud"], "warning"),
        (["demo", "extra"], "extra"),
    ],
)
def test_bad_usage_exits_with_2_and_two_lines_that_help(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert says in printed.err
    assert "--help" in printed.err
    assert len(printed.err.splitlines()) == 2


def test_the_commands_limits_are_those_of_the_demonstration() -> None:
    assert main.main(["demo", "--nodes", str(demo.MIN_NODES - 1)]) == main.BAD_USAGE
    with pytest.raises(ValueError, match="at least 3"):
        demo.run_demo(demo.MIN_NODES - 1)


def wrong_claims(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("  FAILED")]


def counts_wrong(effect: str) -> Callable[[demo.OutsideWorld, str], None]:
    """`World.happened`, for a world in which `effect` happens twice whenever it happens."""

    def happened(self: demo.OutsideWorld, what: str) -> None:
        self.effects[what] += 2 if what == effect else 1

    return happened


@pytest.mark.parametrize("effect", ["reserve", "charge", "ship", "count"])
def test_the_demonstration_fails_if_an_effect_ran_too_often(
    effect: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo.OutsideWorld, "happened", counts_wrong(effect))
    assert main.main(["demo"]) == 1
    printed = capsys.readouterr().out
    (wrong,) = wrong_claims(printed)
    assert effect in wrong or "20 effects" in wrong
    assert "1 of" in printed


def test_the_demonstration_fails_if_the_bank_takes_the_money_under_another_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pay = demo.OutsideWorld.pay

    def pay_every_request(self: demo.OutsideWorld, key: str, cents: int) -> None:
        if self.payments:
            key += "-again"
        pay(self, key, cents)

    monkeypatch.setattr(demo.OutsideWorld, "pay", pay_every_request)
    assert main.main(["demo"]) == 1
    (wrong,) = wrong_claims(capsys.readouterr().out)
    assert "took the money once" in wrong


def test_the_demonstration_fails_if_the_result_is_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def two_threes(base_value: int, multiplier: int, iterations: int) -> demo.ComputationInput:
        return demo_input(base_value, multiplier + 1, iterations)

    demo_input = demo.ComputationInput
    monkeypatch.setattr(demo, "ComputationInput", two_threes)
    assert main.main(["demo"]) == 1
    printed = capsys.readouterr().out
    assert "result: 512" in printed.splitlines()
    assert any("162" in line for line in wrong_claims(printed))


def test_the_demonstration_ends_and_says_so_if_the_story_cannot_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(item: str) -> str:
        raise OSError("the warehouse is closed")

    # The demonstration's functions are shipped by reference, so that the nodes see what is patched here.
    monkeypatch.setattr(demo, "reserve", closed)
    monkeypatch.setattr(demo, "WAIT_SECONDS", 0.5)
    assert main.main(["demo"]) == 1
    (wrong,) = wrong_claims(capsys.readouterr().out)
    assert "the bank was not asked" in wrong


def test_an_interrupt_stops_the_demonstration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_tell_kill", interrupted)
    assert main.main(["demo"]) == 130
    assert capsys.readouterr().err == "interrupted\n"

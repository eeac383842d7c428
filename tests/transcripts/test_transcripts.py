"""Scenarios as text: what each of these files says is what happens, to the millisecond and in every process."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Final

import pytest

from raftoral_nb.cli.main import main
from raftoral_nb.errors import ClusterError, InternalError
from raftoral_nb.simulation import mutants
from raftoral_nb.simulation.transcript import COMMANDS, PROMPT, QUIETLY, play

HERE: Final = Path(__file__).parent
TRANSCRIPTS: Final = sorted(HERE.glob("*.txt"))

DIGEST: Final = """
import sys
from hashlib import blake2b
from pathlib import Path
from raftoral_nb.simulation.transcript import play
for path in sys.argv[1:]:
    print(blake2b(play(Path(path).read_text(encoding="utf-8")).encode()).hexdigest())
"""


def difference(kept: str, played: str) -> str:
    lines = difflib.unified_diff(
        kept.splitlines(), played.splitlines(), "as it is written", "as it happens", lineterm=""
    )
    return "\n".join(lines)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_what_a_transcript_says_is_what_happens(path: Path, request: pytest.FixtureRequest) -> None:
    kept = path.read_text(encoding="utf-8")
    played = play(kept)
    if request.config.getoption("--rewrite-transcripts"):
        path.write_text(played, encoding="utf-8")
    elif played != kept:
        pytest.fail(
            f"{path.name} tells another story. If the change is meant, and understood:\n"
            f"pytest tests/transcripts --rewrite-transcripts\n{difference(kept, played)}"
        )


def test_transcripts_are_the_same_in_processes_with_other_hash_seeds(request: pytest.FixtureRequest) -> None:
    """And in other Pythons, if any are given with `--other-python`."""
    here = [blake2b(path.read_bytes()).hexdigest() for path in TRANSCRIPTS]
    if request.config.getoption("--rewrite-transcripts"):
        pytest.skip("they are being written")
    for python, hash_seed in (
        (sys.executable, "4242"),
        *((one, "7") for one in request.config.getoption("--other-python")),
    ):
        there = subprocess.run(
            [python, "-c", DIGEST, *map(str, TRANSCRIPTS)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert there.stdout.split() == here


@pytest.mark.parametrize(
    ("safeguard", "story"),
    [("takeover before acting", "election"), ("queue before acting", "takeover_with_queue")],
)
def test_a_safeguard_that_is_missing_changes_the_story_that_is_about_it(safeguard: str, story: str) -> None:
    kept = (HERE / f"{story}.txt").read_text(encoding="utf-8")
    with mutants.without(safeguard):
        assert play(kept) != kept


def test_what_breaks_a_node_is_raised() -> None:
    kept = (HERE / "older_term.txt").read_text(encoding="utf-8")
    with mutants.without("truncate only on conflict"), pytest.raises(InternalError):
        play(kept)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("> start 3 nodes\n> dance\n", "line 2, '> dance': there is no such command; there are: start N nodes"),
        ("> start 3 nodes\n> kill 4\n", "line 2, '> kill 4': there is no node 4"),
        ("> start 1 node\n", "there is no such command"),
        ("> start 3 nodes\n> start 2 nodes\n", "was started before"),
        ("> start 3 nodes\n> join 2\n", "it can be restarted"),
        ("> start 3 nodes\n> restart 2\n", "is not one that was killed"),
        ("> start 3 nodes\n> transfer 2\n", "no node leads"),
        ("> start 3 nodes\n> register nonsense on 1\n", "there is no workflow 'nonsense'"),
        ("  0.000  1  begins\n", "line 1, '  0.000  1  begins': a transcript begins with a command"),
    ],
)
def test_a_command_that_cannot_be_done_is_named_with_its_line(text: str, why: str) -> None:
    with pytest.raises(ClusterError) as raised:
        play(text)
    assert why in str(raised.value)


def test_the_command_line_plays_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = (HERE / "pre_vote.txt").read_text(encoding="utf-8")
    script = tmp_path / "script.txt"
    script.write_text("\n".join(line for line in kept.splitlines() if line.startswith(("#", PROMPT))), encoding="utf-8")
    assert main(["simulate", "--script", str(script)]) == 0
    assert capsys.readouterr().out == kept
    script.write_text("> dance", encoding="utf-8")
    assert main(["simulate", "--script", str(script)]) == 2
    assert "there is no such command" in capsys.readouterr().err
    assert main(["simulate", "--script", str(tmp_path / "nothing.txt")]) == 2
    assert "nothing.txt" in capsys.readouterr().err


def test_every_command_is_used_by_a_transcript() -> None:
    used = [
        line.removeprefix(PROMPT).removeprefix(QUIETLY).split()[0]
        for path in TRANSCRIPTS
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(PROMPT)
    ]
    assert {usage.split()[0] for usage in COMMANDS} == set(used)

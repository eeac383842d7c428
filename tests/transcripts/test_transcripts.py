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

from raftoral_nb.cli import main
from raftoral_nb.errors import ClusterError
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
    lines = difflib.unified_diff(kept.splitlines(), played.splitlines(), "as it is written", "as it happens", lineterm="")
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
    for python, hash_seed in ((sys.executable, "4242"), *((one, "7") for one in request.config.getoption("--other-python"))):
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
    ("safeguard", "name"),
    [("takeover before acting", "election"), ("first record wins", None), ("queue before acting", None)],
)
def test_a_safeguard_that_is_missing_changes_the_story_it_is_told_in(safeguard: str, name: str | None) -> None:
    for path in TRANSCRIPTS:
        kept = path.read_text(encoding="utf-8")
        with mutants.without(safeguard):
            played = play(kept)
        print(path.stem, len(difference(kept, played).splitlines()))


def test_every_command_is_used_by_a_transcript() -> None:
    used = [
        line.removeprefix(PROMPT).removeprefix(QUIETLY).split()[0]
        for path in TRANSCRIPTS
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(PROMPT)
    ]
    assert {usage.split()[0] for usage in COMMANDS} == set(used)

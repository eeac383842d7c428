"""What must be true of runs that went on through many deaths of their process, by what their effects wrote down.

Each effect of `chain` is a line in FOLDER/effects: the run, the step's number, something random that it returns, and what the step before
it had returned. Each acknowledged start is a line in FOLDER/started.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path


def check_lives(folder: Path, results: Mapping[str, Sequence[str]], kills: int) -> None:
    """No acknowledged run is gone, no recorded step was lost, changed or done again, and every run has ended."""
    started = (folder / "started").read_text().split() if (folder / "started").exists() else []
    assert started, "no run was ever started: the moments were too early"
    assert set(started) <= set(results), "an acknowledged run is gone"
    steps = len(next(iter(results.values())))
    done: dict[tuple[str, int], list[str]] = {}
    for line in (folder / "effects").read_text().splitlines():
        run, number, nonce, before = line.split()
        done.setdefault((run, int(number)), []).append(nonce)
        if int(number):
            # The effect before was recorded, and acknowledged: that must be what the run has, for ever.
            assert results[run][int(number) - 1] == before, f"step {int(number) - 1} of {run} was lost or changed"
    for run, result in results.items():
        assert [nonce in done[run, number] for number, nonce in enumerate(result)] == [True] * steps
        # A kill leaves at most the step that was being done to be done again, in each run that went on.
        again = Counter({number: len(done[run, number]) - 1 for number in range(steps)})
        assert again.total() <= kills, f"steps of {run} were done again: {+again}"

"""What all tests share."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# No deadline, as speed is measured in benchmarks/ and not in tests; no database, as a test must not depend on earlier runs.
settings.register_profile(
    "raftoral", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("few", settings.get_profile("raftoral"), max_examples=5)
settings.register_profile("thorough", settings.get_profile("raftoral"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "raftoral"))


# Key files and connection files of tests are nobody else's business. Processes that tests start inherit it.
_RUNTIME = tempfile.mkdtemp(prefix="raftoral-tests-")
os.environ["JUPYTER_RUNTIME_DIR"] = _RUNTIME

DEFAULT_SIMULATION_SEEDS = 300
DEFAULT_SOAK_SECONDS = 60.0
DEFAULT_BIT_FLIPS = 40
DEFAULT_KILL_MOMENTS = 5
DEFAULT_KERNEL_KILL_MOMENTS = 2
DEFAULT_FUZZ_ATTEMPTS = 120
DEFAULT_NOTEBOOKS = 4

LONGEST_OF_THE_LAST = ("test_view_page.py", "test_view_controls.py", "test_binder.py", "test_durable_cells.py")
"""Files of `tests/browser` by the time they take. Begun first, so that no process is busy with one when the others have nothing left."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--simulation-seeds",
        type=int,
        default=DEFAULT_SIMULATION_SEEDS,
        help="seeds that the simulation runs over all schedules (default: %(default)s)",
    )
    parser.addoption(
        "--rewrite-transcripts",
        action="store_true",
        help="write what happens now into tests/transcripts/*.txt; only after having understood the difference",
    )
    parser.addoption(
        "--other-python",
        action="append",
        default=[],
        metavar="PATH",
        help="another interpreter in which the simulation must give the same histories; it needs the same packages (may be "
        "given several times)",
    )
    parser.addoption(
        "--soak-seconds",
        type=float,
        default=DEFAULT_SOAK_SECONDS,
        help="seconds that real clusters are under load and faults, half of them with 5 nodes and half with 3 "
        "(default: %(default)s)",
    )
    parser.addoption(
        "--soak-seed", type=int, help="dice of the soak, as a failure prints it (default: others each time)"
    )
    parser.addoption(
        "--bit-flips",
        type=int,
        default=DEFAULT_BIT_FLIPS,
        help="bits that are flipped in each file of a data directory, one at a time (default: %(default)s)",
    )
    parser.addoption(
        "--kill-moments",
        type=int,
        default=DEFAULT_KILL_MOMENTS,
        help="random moments at which a process with a data directory is killed (default: %(default)s)",
    )
    parser.addoption(
        "--kernel-kill-moments",
        type=int,
        default=DEFAULT_KERNEL_KILL_MOMENTS,
        help="random moments at which a notebook's kernel with a data directory is killed (default: %(default)s)",
    )
    parser.addoption(
        "--kernel-kill-seed", type=int, help="dice of them, as a failure prints it (default: others each time)"
    )
    parser.addoption(
        "--fuzz-attempts",
        type=int,
        default=DEFAULT_FUZZ_ATTEMPTS,
        help="what somebody without the key tries at the nodes of a live cluster (default: %(default)s)",
    )
    parser.addoption("--fuzz-seed", type=int, help="dice of that, as a failure prints it (default: others each time)")
    parser.addoption(
        "--notebooks",
        type=int,
        default=DEFAULT_NOTEBOOKS,
        help="notebooks, drawn at random, that are run twice in a row one after the other in one kernel (default: "
        "%(default)s; 99: all of them)",
    )
    parser.addoption(
        "--notebooks-seed", type=int, help="dice that draw them, as a failure prints it (default: others each time)"
    )


def pytest_unconfigure() -> None:
    shutil.rmtree(_RUNTIME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright's loop counts as running in the main thread until the session ends: no asyncio.run() works after it started.
    # Whole files, as the processes that share the tests get whole files, in this order.
    last = {item.path for item in items if item.get_closest_marker("browser") is not None}
    longest = {name: place for place, name in enumerate(LONGEST_OF_THE_LAST)}

    def place(item: pytest.Item) -> tuple[bool, int]:
        return (item.path in last, longest.get(item.path.name, len(longest)) if item.path in last else 0)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    # The modules that were imported stay to the end. Tests that look for what is left behind need not walk through them each
    # time: that took half a second a test.
    gc.collect()
    gc.freeze()

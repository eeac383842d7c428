"""Times and sizes of `%raftoral start`, and `%raftoral metrics`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_ext.errors import MagicError
from kernel_ext.magics.parsing import parse
from kernel_ext.magics.subcommands.metrics import Metrics
from kernel_ext.magics.subcommands.start import Start, compaction, timing
from raftoral_nb import Compaction, Timing
from tests.kernel_ext.conftest import Complete, Notebook


def started(line: str) -> Start:
    asked = parse(f"start {line}")
    assert asked is not None
    assert isinstance(asked.arguments, Start)
    return asked.arguments


def asked_of_metrics(line: str) -> object:
    asked = parse(line)
    assert asked is not None
    return asked.arguments


def refused(line: str) -> str:
    with pytest.raises(MagicError) as caught:
        parse(line)
    return str(caught.value)


def test_times_and_sizes_reach_the_cluster() -> None:
    asked = started("--heartbeat 200ms --election-timeout 1s-2.5s --snapshot-after 20kB --keep-log 4kB")
    assert asked.timing == Timing(heartbeat=0.2, election_min=1.0, election_max=2.5)
    assert asked.compaction == Compaction(log_bytes=20_000, kept_bytes=4_000)
    assert (started("").timing, started("").compaction) == (None, None)
    kept = started("--keep-runs 200 --keep-bytes '1.5 GB' --max-value-bytes 3GB")
    assert (kept.keep_runs, kept.keep_bytes, kept.max_value_bytes) == (200, 1_500_000_000, 3_000_000_000)
    assert (started("").keep_runs, started("").keep_bytes) == (None, None)


def test_one_of_the_times_takes_the_other_along() -> None:
    usual = Timing()
    slow = started("--heartbeat 100ms").timing
    assert slow == Timing(heartbeat=0.1, election_min=2 * usual.election_min, election_max=2 * usual.election_max)
    patient = started("--election-timeout 1s").timing
    assert patient == Timing(heartbeat=0.2, election_min=1.0, election_max=2.0)


def test_times_are_taken_in_every_unit() -> None:
    asked = started("--heartbeat .5s --election-timeout 1m-0.5h").timing
    assert asked == Timing(heartbeat=0.5, election_min=60.0, election_max=1800.0)


@given(st.floats(0.001, 100), st.sampled_from(["heartbeat", "election"]))
def test_any_one_time_gives_times_that_fit(value: float, which: str) -> None:
    made = timing(value, None, "") if which == "heartbeat" else timing(None, (value, 2 * value), "")
    assert made is not None
    assert 3 * made.heartbeat < made.election_min < made.election_max


@given(st.integers(1, 10**12))
def test_any_size_gives_sizes_that_fit(after: int) -> None:
    made = compaction(after, None, "")
    assert made is not None
    assert 0 < made.kept_bytes <= made.log_bytes == after


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("start --heartbeat 200", "--heartbeat: expected a time such as 200ms or 1.5s, not '200'"),
        ("start --heartbeat -1s", "--heartbeat"),
        ("start --election-timeout 1s-soon", "two times such as 1s-2s, or the first of them, not '1s-soon'"),
        (
            "start --snapshot-after 8XB",
            "--snapshot-after: expected a size such as 20kB, 8MB, \"1.5 GB\" or 2GiB, not '8XB'",
        ),
        ("start --keep-runs none", "--keep-runs"),
        ("start --keep-bytes five", "--keep-bytes: expected a size such as 20kB, 8MB, \"1.5 GB\" or 2GiB, not 'five'"),
        ("delete", "the following arguments are required: RUN"),
        ("start --keep-log 0kB", "--snapshot-after and --keep-log are more than 0 bytes"),
        ("start --heartbeat 1s --election-timeout 2s-3s", "must be more than three heartbeats"),
        ("start --election-timeout 2s-1s", "less than the second one"),
        ("metrics --port 80x --serve", "--port: expected a port from 1 to 65535, not '80x'"),
        ("metrics --port 9464", "--port goes with --serve"),
        ("metrics --serve --stop", "--stop stops serving metrics, and takes no other flag"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(line: str, words: str) -> None:
    said = refused(line)
    assert words in said
    assert f"Usage: %raftoral {line.split(maxsplit=1)[0]} " in said


def test_metrics_are_shown_served_or_ended() -> None:
    assert asked_of_metrics("metrics") == Metrics("show")
    assert asked_of_metrics("metrics --serve") == Metrics("serve")
    assert asked_of_metrics("metrics --serve --port 9464") == Metrics("serve", 9464)
    assert asked_of_metrics("metrics --stop") == Metrics("stop")


def test_tab_offers_the_flags_and_times_and_sizes(complete: Complete) -> None:
    assert "%raftoral start --heartbeat" in complete("%raftoral start --h")
    assert "%raftoral start --election-timeout 1s-2s" in complete("%raftoral start --election-timeout ")
    assert "%raftoral start --snapshot-after 20kB" in complete("%raftoral start --snapshot-after ")
    assert "%raftoral start --keep-runs" in complete("%raftoral start --keep-r")
    assert "%raftoral start --keep-bytes 1GB" in complete("%raftoral start --keep-bytes ")
    assert complete("%raftoral metrics --se") == ["%raftoral metrics --serve"]


def test_a_cluster_is_started_as_asked_and_its_metrics_are_shown_and_served(notebook: Notebook) -> None:
    notebook.ok("%raftoral start --nodes 1 --heartbeat 100ms --snapshot-after 20kB")
    assert notebook.ok("cluster.look().election_timeout").value == 1.0
    assert notebook.ok("%raftoral metrics").text.splitlines()[:2] == [
        "# HELP raftoral_cluster The cluster.",
        "# TYPE raftoral_cluster info",
    ]
    assert "not served. To do so: %raftoral metrics --serve" in notebook.fails("%raftoral metrics --stop")
    served = notebook.ok("%raftoral metrics --serve").text
    assert re.search(r"served to this machine at http://127\.0\.0\.1:\d+/metrics; to end it", served)
    assert "served already" in notebook.fails("%raftoral metrics --serve")
    assert notebook.ok("%raftoral metrics --stop").text == "metrics are no longer served"

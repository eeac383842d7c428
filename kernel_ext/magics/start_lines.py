"""What `%raftoral start` says, and what `%raftoral metrics` asks for, taken apart. Part of `parsing`."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from raftoral_nb.errors import ClusterError

from ..errors import MagicError
from .times import seconds, spread

if TYPE_CHECKING:
    from raftoral_nb import Compaction, Timing

TUNING_USAGE: Final = "[--heartbeat TIME] [--election-timeout TIME[-TIME]] [--snapshot-after SIZE] [--keep-log SIZE]"
TUNING_FLAGS: Final = ("--heartbeat", "--election-timeout", "--snapshot-after", "--keep-log")

START_USAGE: Final = (
    "start [--nodes N] [--data-dir DIR] [--durability process|disk] [--processes] [--detach] [--log-level LEVEL] "
    f"{TUNING_USAGE}"
)
START_FLAGS: Final = (
    "--nodes",
    "--data-dir",
    "--durability",
    "--processes",
    "--detach",
    "--log-level",
    *TUNING_FLAGS,
)

DURABILITIES: Final = ("process", "disk")
Durability = Literal["process", "disk"]

_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>kB|MB)", re.IGNORECASE)
_BYTES: Final = {"kb": 1000, "mb": 1_000_000}


@dataclass(frozen=True)
class Start:
    """`start`; None means: as configured."""

    nodes: int | None
    log_level: str | None
    data_dir: str | None = None
    durability: Durability | None = None
    timing: Timing | None = None
    compaction: Compaction | None = None
    processes: bool = False
    detach: bool = False


@dataclass(frozen=True)
class Attach:
    """`attach NAME`: the name of a cluster that runs, or the path of its key file."""

    name: str


@dataclass(frozen=True)
class Metrics:
    """`metrics`; `how` is what to do: show them, serve them (at `port`; 0 is any), or end that."""

    how: str
    port: int = 0


def size(text: str) -> int:
    """The bytes of `20kB`; raises what argparse expects."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 20kB or 8MB, not {text!r}")
    return int(float(found["number"]) * _BYTES[found["unit"].lower()])


def start(parser: argparse.ArgumentParser, words: list[str], usage: str) -> Start:
    """Takes apart what follows `start`; the parser knows `--nodes` and `--log-level` already. Raises `MagicError`."""
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--durability", type=str.lower, choices=DURABILITIES)
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--detach", action="store_true")
    add_tuning(parser)
    found = parser.parse_args(words)
    if found.durability is not None and found.data_dir is None:
        raise MagicError(f"--durability needs a --data-dir: where should it be stored?\nUsage: {usage}")
    if found.detach and not found.processes:
        raise MagicError(f"--detach is for nodes in processes of their own: add --processes.\nUsage: {usage}")
    if found.detach and found.data_dir is None:
        raise MagicError(
            f"--detach needs a --data-dir: what outlives the notebook must be kept somewhere.\nUsage: {usage}"
        )
    times = timing(found.heartbeat, found.election_timeout, usage)
    sizes = compaction(found.snapshot_after, found.keep_log, usage)
    return Start(
        found.nodes,
        found.log_level,
        found.data_dir,
        found.durability,
        times,
        sizes,
        processes=found.processes,
        detach=found.detach,
    )


def add_tuning(parser: argparse.ArgumentParser) -> None:
    """The flags of `start` for times and sizes."""
    parser.add_argument("--heartbeat", type=seconds)
    parser.add_argument("--election-timeout", type=spread)
    parser.add_argument("--snapshot-after", type=size)
    parser.add_argument("--keep-log", type=size)


def timing(heartbeat: float | None, election: tuple[float, float] | None, usage: str) -> Timing | None:
    """The times that were asked for; None if none was. One alone takes the other along, in the proportion of the defaults.

    Raises `MagicError` if they do not fit each other.
    """
    if heartbeat is None and election is None:
        return None
    from raftoral_nb import Timing

    usual = Timing()
    if heartbeat is None:
        assert election is not None
        heartbeat = election[0] * usual.heartbeat / usual.election_min
    if election is None:
        factor = heartbeat / usual.heartbeat
        election = factor * usual.election_min, factor * usual.election_max
    try:
        return Timing(heartbeat=heartbeat, election_min=election[0], election_max=election[1])
    except ClusterError:
        raise MagicError(
            f"a heartbeat of {heartbeat:g} s and an election timeout of {election[0]:g} s to {election[1]:g} s do not fit: the "
            "first time must be more than three heartbeats, and less than the second one, or healthy leaders are deposed.\n"
            f"Usage: {usage}"
        ) from None


def compaction(snapshot_after: int | None, keep_log: int | None, usage: str) -> Compaction | None:
    """The sizes that were asked for; None if none was. Raises `MagicError`."""
    if snapshot_after is None and keep_log is None:
        return None
    from raftoral_nb import Compaction

    usual = Compaction()
    after = usual.log_bytes if snapshot_after is None else snapshot_after
    kept = min(usual.kept_bytes, max(1, after // 5)) if keep_log is None else keep_log
    try:
        return Compaction(log_bytes=after, kept_bytes=kept)
    except ClusterError:
        raise MagicError(f"--snapshot-after and --keep-log are more than 0 bytes.\nUsage: {usage}") from None


def metrics(parser: argparse.ArgumentParser, words: list[str], usage: str) -> Metrics:
    """Takes apart `metrics [--serve [--port N]|--stop]`. Raises `MagicError`."""
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--port", type=_port)
    parser.add_argument("--stop", action="store_true")
    found = parser.parse_args(words)
    if found.stop and (found.serve or found.port is not None):
        raise MagicError(f"--stop ends the serving, and stands alone.\nUsage: {usage}")
    if found.port is not None and not found.serve:
        raise MagicError(f"--port goes with --serve.\nUsage: {usage}")
    return Metrics("stop" if found.stop else "serve" if found.serve else "show", found.port or 0)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, not {text!r}")
    return int(text)

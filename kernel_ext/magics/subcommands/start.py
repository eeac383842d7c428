"""`%raftoral start`: start a cluster."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, Literal

import msgspec

import raftoral_nb
from raftoral_nb.core.sizes import bytes_of
from raftoral_nb.errors import ClusterError

from ...errors import MagicError
from ...shown import display as shows
from ...shown.display import Shown
from ...shown.words import recovered_words
from ..arguments import Parser, count
from ..subcommand import FREE, Notebook, Subcommand, one_of, only_flags
from ..times import seconds, spread

if TYPE_CHECKING:  # the struct below is never decoded
    from raftoral_nb import Cluster, Compaction, Timing  # noqa: TC004

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
DURABILITIES: Final = ("process", "disk")
Durability = Literal["process", "disk"]


class Start(msgspec.Struct, frozen=True):
    """None means: as configured."""

    nodes: int | None
    log_level: str | None
    data_dir: str | None = None
    durability: Durability | None = None
    timing: Timing | None = None
    compaction: Compaction | None = None
    processes: bool = False
    detach: bool = False
    keep_runs: int | None = None
    keep_bytes: int | None = None
    labels: dict[int, list[str]] | None = None
    spread_runs: bool | None = None
    max_value_bytes: int | None = None


def _parse(rest: str, usage: str) -> Start:
    parser = Parser(usage)
    parser.add_argument("--nodes", type=count)
    parser.add_argument("--log-level", type=str.lower, choices=LOG_LEVELS)
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--durability", type=str.lower, choices=DURABILITIES)
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--spread-runs", action="store_true", default=None)
    parser.add_argument("--leader-runs", dest="spread_runs", action="store_false")
    parser.add_argument("--label", type=label, action="append", default=[])
    _add_tuning(parser)
    found = parser.read(rest)
    if found.durability is not None and found.data_dir is None:
        raise MagicError(f"--durability needs a --data-dir: where should it be stored?\nUsage: {usage}")
    if found.detach and not found.processes:
        raise MagicError(f"--detach is for nodes in processes of their own: add --processes.\nUsage: {usage}")
    if found.detach and found.data_dir is None:
        raise MagicError(
            f"--detach needs a --data-dir: the state of what outlives the notebook must be kept somewhere.\nUsage: {usage}"
        )
    return Start(
        found.nodes,
        found.log_level,
        found.data_dir,
        found.durability,
        timing(found.heartbeat, found.election_timeout, usage),
        compaction(found.snapshot_after, found.keep_log, usage),
        processes=found.processes,
        detach=found.detach,
        keep_runs=found.keep_runs,
        keep_bytes=found.keep_bytes,
        labels=_by_node(found.label),
        spread_runs=found.spread_runs,
        max_value_bytes=found.max_value_bytes,
    )


def _add_tuning(parser: Parser) -> None:
    """The flags of `start` for times and sizes."""
    parser.add_argument("--heartbeat", type=seconds)
    parser.add_argument("--election-timeout", type=spread)
    parser.add_argument("--snapshot-after", type=size)
    parser.add_argument("--keep-log", type=size)
    parser.add_argument("--keep-runs", type=count)
    parser.add_argument("--keep-bytes", type=size)
    parser.add_argument("--max-value-bytes", type=size)


def label(text: str) -> tuple[int, str]:
    """The node and the label of `3=gpu`; raises what argparse expects."""
    node, _, name = text.partition("=")
    if not (node.isdecimal() and int(node) > 0 and name):
        raise argparse.ArgumentTypeError(f"expected a node and its label such as 3=gpu, not {text!r}")
    return int(node), name


def _by_node(found: list[tuple[int, str]]) -> dict[int, list[str]] | None:
    labels: dict[int, list[str]] = {}
    for node, name in found:
        labels.setdefault(node, []).append(name)
    return labels or None


def size(text: str) -> int:
    """The bytes of `20kB`; raises what argparse expects."""
    try:
        return bytes_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def timing(heartbeat: float | None, election: tuple[float, float] | None, usage: str) -> Timing | None:
    """The times that were asked for; None if none was. One alone takes the other along, in the proportion of the defaults.

    Raises `MagicError` if they do not fit each other.
    """
    if heartbeat is None and election is None:
        return None
    usual = raftoral_nb.Timing()
    if heartbeat is None:
        assert election is not None
        heartbeat = election[0] * usual.heartbeat / usual.election_min
    if election is None:
        factor = heartbeat / usual.heartbeat
        election = factor * usual.election_min, factor * usual.election_max
    try:
        return raftoral_nb.Timing(heartbeat=heartbeat, election_min=election[0], election_max=election[1])
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
    usual = raftoral_nb.Compaction()
    after = usual.log_bytes if snapshot_after is None else snapshot_after
    kept = min(usual.kept_bytes, max(1, after // 5)) if keep_log is None else keep_log
    try:
        return raftoral_nb.Compaction(log_bytes=after, kept_bytes=kept)
    except ClusterError:
        raise MagicError(f"--snapshot-after and --keep-log are more than 0 bytes.\nUsage: {usage}") from None


def _do(asked: Start, notebook: Notebook) -> Shown:
    nodes = asked.nodes
    if nodes is None and (asked.data_dir is None or raftoral_nb.Cluster.nodes_in(asked.data_dir) is None):
        nodes = notebook.settings.nodes
    cluster, hint = notebook.session.start(
        nodes,
        log_level=asked.log_level or notebook.settings.log_level,
        data_dir=asked.data_dir,
        durability=asked.durability,
        timing=asked.timing,
        **({} if asked.compaction is None else {"compaction": asked.compaction}),
        processes=asked.processes,
        detach=asked.detach,
        keep_runs=asked.keep_runs,
        keep_bytes=asked.keep_bytes,
        labels=asked.labels,
        spread_runs=asked.spread_runs,
        max_value_bytes=asked.max_value_bytes,
    )
    hints = [
        "" if cluster.recovered is None else recovered_words(cluster.recovered),
        hint,
        "" if cluster.unlisted is None else f"raftoral-nb ps does not show this cluster: {cluster.unlisted}",
        _outlives_words(cluster.name) if asked.detach else "",
    ]
    return show_start(notebook, cluster, "\n".join(filter(None, hints)))


def _outlives_words(name: str) -> str:
    return (
        f"cluster {name} outlives this notebook. In another one: %raftoral attach {name}. To end it: %raftoral stop, or "
        f"raftoral-nb stop {name} in a shell"
    )


def show_start(notebook: Notebook, cluster: Cluster, hint: str) -> Shown:
    """Registers the workflows that waited for a cluster, and shows the one that the notebook drives from now on."""
    session = notebook.session
    for registration in session.register_pending():
        shows.emit(registration)
    view = session.view(cluster, notebook.settings.refresh_rate)
    hints = "\n".join(filter(None, (hint, session.missing_widgets())))
    return shows.started(tuple(cluster.nodes), None if view is None else view.model_id, hints)


SUBCOMMAND = Subcommand(
    name="start",
    group="Cluster",
    usage=(
        "start [--nodes N] [--data-dir DIR] [--durability process|disk] [--processes] [--detach] [--spread-runs|--leader-runs] [--label NODE=LABEL] [--log-level LEVEL] "
        "[--heartbeat TIME] [--election-timeout TIME[-TIME]] [--snapshot-after SIZE] [--keep-log SIZE] [--keep-runs N] [--keep-bytes SIZE] "
        "[--max-value-bytes SIZE]"
    ),
    does="start a cluster",
    examples=(
        """\
  %raftoral start                       start a cluster of 3 nodes, show the live view
  %raftoral start --nodes 5             any number from 1 to 9
  %raftoral start --data-dir lab         keep it in a directory: after the kernel died, the same line continues from there
  %raftoral start --data-dir lab --durability disk   synced before it is acknowledged: survives a power loss as well
  %raftoral start --processes           each node a process of its own, which does the steps of the runs it owns; kill is a SIGKILL then
  %raftoral start --processes --data-dir lab --detach   ... that keep running without the notebook, until stopped""",
        """\
  %raftoral start --log-level info      also show what the engine logs (debug, info, warning, error)
  %raftoral start --heartbeat 200ms --election-timeout 1s-2s
                                        a patient leader, for a busy machine; either one alone takes the other along
  %raftoral start --snapshot-after 20kB --keep-log 4kB
                                        how much log makes a node take a snapshot, and how much of it is kept then
  %raftoral start --spread-runs         each run has an owner that does its steps (as with --processes; --leader-runs there: the leader does)
  %raftoral start --processes --label 3=gpu
                                        steps with where="gpu" run on node 3
  %raftoral start --keep-runs 200 --keep-bytes 500MB
                                        how many finished runs are kept, and how much of them; the oldest go first
  %raftoral start --max-value-bytes 3GB
                                        how large a value may be; a run with a larger one waits until the limit is raised""",
    ),
    parse=_parse,
    do=_do,
    offers=only_flags,
    flags={
        "--nodes": FREE,
        "--data-dir": None,
        "--durability": one_of(*DURABILITIES),
        "--processes": None,
        "--detach": None,
        "--spread-runs": None,
        "--leader-runs": None,
        "--label": one_of("3=gpu"),
        "--log-level": one_of(*LOG_LEVELS),
        "--heartbeat": one_of("50ms", "200ms", "1s"),
        "--election-timeout": one_of("1s-2s", "5s-10s"),
        "--snapshot-after": one_of("20kB", "1MB", "8MB"),
        "--keep-log": one_of("20kB", "1MB", "8MB"),
        "--keep-runs": one_of("100", "1000", "10000"),
        "--keep-bytes": one_of("100MB", "1GB", "10GB"),
        "--max-value-bytes": one_of("1GB", "3GB", "10GB"),
    },
)

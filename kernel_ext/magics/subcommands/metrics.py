"""`%raftoral metrics`: counters and gauges as OpenMetrics text."""

from __future__ import annotations

import argparse

import msgspec

from ...errors import MagicError
from ...shown import display as shows
from ...shown.display import Shown
from ..arguments import Parser
from ..subcommand import FREE, Notebook, Subcommand, only_flags


class Metrics(msgspec.Struct, frozen=True):
    """`how` is what to do: show them, serve them (at `port`; 0 is any), or end that."""

    how: str
    port: int = 0


def _parse(rest: str, usage: str) -> Metrics:
    parser = Parser(usage)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--port", type=_port)
    parser.add_argument("--stop", action="store_true")
    found = parser.read(rest)
    if found.stop and (found.serve or found.port is not None):
        raise MagicError(f"--stop stops serving metrics, and takes no other flag.\nUsage: {usage}")
    if found.port is not None and not found.serve:
        raise MagicError(f"--port goes with --serve.\nUsage: {usage}")
    return Metrics("stop" if found.stop else "serve" if found.serve else "show", found.port or 0)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, not {text!r}")
    return int(text)


def _do(asked: Metrics, notebook: Notebook) -> Shown:
    if asked.how == "show":
        return shows.page(notebook.session.latest.metrics())
    cluster = notebook.session.cluster
    if asked.how == "serve":
        server = cluster.serve_metrics(asked.port)
        return shows.notice(
            f"metrics are served to this machine at {server.address}; to end it: %raftoral metrics --stop"
        )
    if cluster.metrics_server is None or not cluster.metrics_server.running:
        raise MagicError("the metrics are not served. To do so: %raftoral metrics --serve")
    cluster.metrics_server.stop()
    return shows.notice("metrics are no longer served")


SUBCOMMAND = Subcommand(
    name="metrics",
    group="Cluster",
    usage="metrics [--serve [--port N]|--stop]",
    does="counters and gauges as OpenMetrics text; --serve: over HTTP, to this machine",
    examples=(
        """\
  %raftoral metrics                     counters and gauges as OpenMetrics text, as Prometheus reads it
  %raftoral metrics --serve --port 9464 the same over HTTP, to programs of this machine; --stop ends it""",
    ),
    parse=_parse,
    do=_do,
    offers=only_flags,
    flags={"--serve": None, "--port": FREE, "--stop": None},
)

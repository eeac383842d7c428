"""What a cluster tells to whoever collects metrics."""

from __future__ import annotations

import contextlib
import errno
import http.client
import socket
import socketserver
import sys
import threading
import urllib.request
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from raftoral_nb import BadArgumentError, Cluster, ClusterError, MissingPackageError, PortInUseError
from raftoral_nb.core.statistics import ClusterStatistics, RunStatistics
from raftoral_nb.limits import MAX_WORKFLOWS_MEASURED
from raftoral_nb.observability import metrics_server
from raftoral_nb.observability.metrics import CONTENT_TYPE, openmetrics

Family = Any


async def shout(ctx: Any, text: str) -> str:
    upper: str = await ctx.compute("upper", str.upper, text)
    return upper


def families(text: str) -> dict[str, Family]:
    """What a parser that others wrote reads; it refuses what is not OpenMetrics."""
    parse: Any = text_string_to_metric_families  # it has no type hints
    return {family.name: family for family in parse(text)}


def value(found: dict[str, Family], family: str, suffix: str = "", **labels: str) -> float:
    (sample,) = (one for one in found[family].samples if one.name == family + suffix and one.labels == labels)
    return float(sample.value)


def get(port: int, path: str = "/metrics", **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def looked() -> ClusterStatistics:
    """The statistics of a cluster in which a run completed and a node is dead."""
    with Cluster(3, network="memory") as one:
        one.start_workflow(shout, "tea").wait_for_completion(timeout=30)
        one.kill("follower")
        return one.statistics()


def test_metrics_are_openmetrics_and_say_what_the_statistics_say(looked: ClusterStatistics) -> None:
    found = families(openmetrics(looked, "1.2.3"))
    assert all(name.startswith("raftoral_") for name in found)
    assert value(found, "raftoral_cluster", "_info", name=looked.name, version="1.2.3") == 1
    assert value(found, "raftoral_term") == looked.term
    assert value(found, "raftoral_leader") == looked.leader
    assert value(found, "raftoral_checkpoints", "_total") == 1
    assert value(found, "raftoral_effects", "_total") == 1
    assert value(found, "raftoral_runs", workflow="shout", status="completed") == 1
    assert value(found, "raftoral_runs", workflow="shout", status="failed") == 0
    for number, node in looked.nodes.items():
        label = {"node": str(number)}
        assert value(found, "raftoral_node_up", **label) == (node.role != "dead")
        assert value(found, "raftoral_node_role", **label, raftoral_node_role=node.role) == 1
        assert value(found, "raftoral_node_applied_index", **label) == node.applied_index
    assert sum(sample.value for sample in found["raftoral_node_role"].samples) == len(looked.nodes)
    assert found["raftoral_node_silence_seconds"].unit == "seconds"
    assert {family.type for family in found.values()} == {"counter", "gauge", "info", "stateset"}


def test_each_family_says_what_it_is(looked: ClusterStatistics) -> None:
    assert [name for name, family in families(openmetrics(looked, "1")).items() if not family.documentation] == []


def test_names_and_kinds_of_the_families_stay_what_dashboards_know(looked: ClusterStatistics) -> None:
    nodes = "up paused held blocked disk_failed term commit_index applied_index log_index snapshot_index entries_behind"
    counters = "commands entries checkpoints effects leader_changes refused_frames dropped_strangers events"
    gauges = ["running", "leader", "term", "epoch", "link_up", "link_cut", "runs", "runs_held"]
    gauges += [f"node_{name}" for name in (*nodes.split(), "catch_up_steps", "starts", "silence_seconds")]
    kinds = dict.fromkeys(counters.split(), "counter") | dict.fromkeys(gauges, "gauge")
    kinds |= {"cluster": "info", "node_role": "stateset"}
    found = families(openmetrics(looked, "1"))
    assert {name: family.type for name, family in found.items()} == {
        f"raftoral_{name}": kind for name, kind in kinds.items()
    }


def test_without_the_package_that_writes_metrics_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(1, network="memory") as cluster:
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "prometheus_client", None)
            for ask in (cluster.metrics, cluster.serve_metrics):
                with pytest.raises(MissingPackageError, match=r"pip install 'raftoral-nb\[metrics\]'"):
                    ask()
            assert cluster.metrics_server is None
        assert value(families(cluster.metrics()), "raftoral_running") == 1


@given(
    names=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4, unique=True), cluster=st.text(max_size=20)
)
def test_names_of_any_kind_come_through_a_parser_as_they_are(
    looked: ClusterStatistics, names: list[str], cluster: str
) -> None:
    statistics = structs.replace(
        looked, name=cluster, workflows=MappingProxyType(dict.fromkeys(names, (1,))), runs=MappingProxyType({})
    )
    found = families(openmetrics(statistics, "1"))
    assert {sample.labels["workflow"] for sample in found["raftoral_runs"].samples} == set(names)
    assert value(found, "raftoral_cluster", "_info", name=cluster, version="1") == 1


def test_the_number_of_lines_does_not_grow_with_runs_and_is_bounded_with_workflows(looked: ClusterStatistics) -> None:
    def page(workflows: int, runs: int) -> str:
        names = [f"w{number:04}" for number in range(workflows)]
        many = {
            f"run-{number}": RunStatistics(
                run_id=f"run-{number}",
                workflow=names[number % workflows],
                version=1,
                status="running",
                steps=0,
                failure=None,
            )
            for number in range(runs)
        }
        statistics = structs.replace(
            looked, workflows=MappingProxyType(dict.fromkeys(names, (1,))), runs=MappingProxyType(many)
        )
        return openmetrics(statistics, "1")

    assert len(page(3, 5).splitlines()) == len(page(3, 500).splitlines())
    most = page(MAX_WORKFLOWS_MEASURED + 100, 500)
    assert len(most.splitlines()) == len(page(MAX_WORKFLOWS_MEASURED + 1, 500).splitlines())
    runs = families(most)["raftoral_runs"].samples
    assert sum(sample.value for sample in runs) == 500
    assert sum(sample.value for sample in runs if sample.labels["workflow"] == "") > 0


def test_they_are_served_to_this_machine_until_the_cluster_stops() -> None:
    with Cluster(1, network="memory") as cluster:
        server = cluster.serve_metrics()
        assert server.address == f"http://127.0.0.1:{server.port}/metrics"
        status, kind, text = get(server.port)
        assert (status, kind) == (200, CONTENT_TYPE)
        assert value(families(text), "raftoral_running") == 1
        assert get(server.port, "/other")[0] == 404
        # A page of the web whose name was made to point here asks under that name.
        assert get(server.port, Host="evil.example")[0] == 421
        assert get(server.port, Host=f"localhost:{server.port}")[0] == 200
    assert not server.running
    with pytest.raises(ConnectionRefusedError):
        get(server.port)
    assert value(families(cluster.metrics()), "raftoral_running") == 0


def test_serving_them_can_be_ended_and_begun_again() -> None:
    with Cluster(1, network="memory") as cluster:
        first = cluster.serve_metrics()
        with pytest.raises(ClusterError, match="served already, at http"):
            cluster.serve_metrics()
        assert first.stop()
        assert first.stop()
        assert cluster.serve_metrics(first.port).port == first.port


def test_one_that_asks_for_nothing_does_not_hinder_the_end() -> None:
    with Cluster(1, network="memory") as cluster:
        server = cluster.serve_metrics()
        silent = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        silent.connect()
        silent.close()
        assert get(server.port)[0] == 200
    assert [thread.name for thread in threading.enumerate() if thread.name.endswith("-metrics")] == []


def test_one_that_asks_a_byte_at_a_time_keeps_nobody_else_from_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 0.5)
    with Cluster(1, network="memory") as cluster:
        server = cluster.serve_metrics()
        answered = threading.Event()
        slow = socket.create_connection(("127.0.0.1", server.port))
        slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not answered.wait(0.05):
                    slow.sendall(b"a")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            asked.request("GET", "/metrics")
            assert asked.getresponse().status == 200
            asked.close()
        finally:
            answered.set()
            dripping.join()
            slow.close()


def test_a_port_that_is_taken_or_is_none_is_refused_with_a_reason() -> None:
    with Cluster(1, network="memory") as cluster, Cluster(1, network="memory") as other:
        port = cluster.serve_metrics().port
        with pytest.raises(PortInUseError, match=f"port {port} of 127.0.0.1 cannot be opened"):
            other.serve_metrics(port)
        for wrong in (-1, 65_536, True, "9464"):
            with pytest.raises(BadArgumentError, match="port is a whole number from 0"):
                other.serve_metrics(wrong)  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match="has stopped"):
        cluster.serve_metrics()


def test_a_system_without_descriptors_is_not_asked_for_one_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    accept = socketserver.TCPServer.get_request

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return self.is_set()

    def refuse(server: socketserver.TCPServer) -> Any:
        if len(waits) < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(server)

    server = metrics_server.MetricsServer(lambda: "here 1\n", 0, "test")
    server._ended = server._server.ended = Ended()
    monkeypatch.setattr(socketserver.TCPServer, "get_request", refuse)
    try:
        with urllib.request.urlopen(server.address, timeout=30) as answer:
            assert answer.read() == b"here 1\n"
        assert waits == [metrics_server.ACCEPT_PAUSE] * 3
    finally:
        assert server.stop()

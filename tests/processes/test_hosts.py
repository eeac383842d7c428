"""Nodes on several hosts: the first makes the cluster, others join with the key file, one is cut off, and one comes late."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.helpers import PATIENCE, ROOT
from tests.processes.hosts import Loopback, Namespaces, why_no_namespaces

NOTEBOOK = """
import json, sys
import raftoral_nb
from raftoral_nb import attach
from raftoral_nb.hosts.remote.background import Changes
from tests.processes import flows
cluster = attach(sys.argv[1])
host = cluster._host
statuses = Changes()
take_status = host.take_status


def taken(*status):
    take_status(*status)
    statuses.wake()


host.take_status = taken


def another(leader):
    return host.thread.run(host.on_await_other_leader, leader, timeout=30)


def why(act):
    try:
        return act()
    except raftoral_nb.NodeStateError as error:
        return str(error)


def alive(number):
    host.thread.run(lambda: statuses.until(lambda: number in host._incarnations), timeout=30)
    return True


for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
cluster.leave()
"""

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def start(prefix: list[str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    )


class Lab:
    """The hosts, the nodes on them, and a notebook."""

    def __init__(self, hosts: Namespaces | Loopback, folder: Path) -> None:
        self.hosts = hosts
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def key_file(self, number: int) -> Path:
        return self.folder / f"host-{number}" / "lab.json"

    def node(self, number: int, *joins: int) -> subprocess.Popen[str]:
        """Start a node on a host, and wait until it is a member."""
        file = self.key_file(number)
        file.parent.mkdir(exist_ok=True)
        if joins:
            shutil.copy(self.key_file(1), file)  # with its mode
        process = start(
            self.hosts.prefix(number),
            "-m",
            "raftoral_nb.cli.main",
            "node",
            *("--listen", f"{self.hosts.address(number)}:7001", "--key-file", str(file)),
            *("--data-dir", str(file.parent / "data")),
            *(part for join in joins for part in ("--join", f"{self.hosts.address(join)}:7001")),
        )
        self.processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        wanted = f"node {number} of cluster lab listens at {self.hosts.address(number)}:7001\n"
        assert line == wanted, (line, process.communicate(timeout=PATIENCE) if not line else "")
        return process

    def notebook(self) -> None:
        self.driver = start(self.hosts.prefix(0), "-c", NOTEBOOK, str(self.key_file(1)))
        self.processes.append(self.driver)

    def ask(self, expression: str) -> Any:
        """What an expression comes to in the notebook."""
        assert self.driver.stdin is not None
        assert self.driver.stdout is not None
        self.driver.stdin.write(expression + "\n")
        self.driver.stdin.flush()
        line = self.driver.stdout.readline()
        assert line, self.driver.communicate(timeout=PATIENCE)[1]
        return json.loads(line)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=PATIENCE)


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Lab]:
    why = why_no_namespaces()
    if why is None and importlib.util.find_spec("cryptography") is None:
        why = "without the package cryptography nodes do not listen beyond loopback"
    hosts: Namespaces | Loopback
    if why is None:
        hosts = Namespaces(4)
    else:
        hosts = Loopback()
        with capsys.disabled():
            print(f"\nno hosts of their own for nodes, loopback addresses in their place: {why}")
    made = Lab(hosts, tmp_path)
    yield made
    made.close()
    hosts.close()


def test_nodes_of_several_hosts_are_one_cluster_through_a_pulled_cable_and_with_a_late_joiner(lab: Lab) -> None:
    nodes = [lab.node(1), lab.node(2, 1), lab.node(3, 2, 1)]
    mode = lab.key_file(1).stat().st_mode & 0o777
    assert mode == 0o600
    lab.notebook()
    assert sorted(lab.ask("list(cluster.nodes)")) == [1, 2, 3]
    old = lab.ask("cluster.wait_for_leader(30)")
    assert lab.ask("cluster.register_workflow(flows.two_steps).version") == 1
    first = lab.ask(
        "[run := cluster.start_workflow('two_steps', 'a', run_id='far'), run.query('first', timeout=30)][1]"
    )

    if isinstance(lab.hosts, Namespaces):
        lab.hosts.pull(old)
    else:
        lab.ask(f"cluster.isolate({old})")
    others = [number for number in (1, 2, 3) if number != old]
    assert lab.ask(f"another({old})") in others
    nodes.append(lab.node(4, others[0], others[1]))
    lab.ask("run.signal('go')")
    result = lab.ask("run.wait_for_completion(30)")
    assert result[0] == first != result[1], "another host did the second step"

    if isinstance(lab.hosts, Namespaces):
        lab.hosts.plug(old)
    else:
        lab.ask("cluster.heal()")
    for number in (1, 2, 3, 4):
        assert lab.ask(f"cluster.nodes[{number}].wait_until_applied(30) > 0")
        assert lab.ask(f"cluster.nodes[{number}].result('far', 30)") == result
    assert lab.ask("sorted(cluster.statistics().nodes)") == [1, 2, 3, 4]
    assert "started where they are" in lab.ask("why(cluster.add)")

    for number, joins in ((1, ()), (4, (1,))):  # the same lines again
        nodes[number - 1].kill()
        nodes[number - 1].wait(PATIENCE)
        nodes[number - 1] = lab.node(number, *joins)
        assert lab.ask(f"cluster.nodes[{number}].wait_until_applied(30) > 0 if alive({number}) else 0")

    lab.driver.communicate(timeout=PATIENCE)  # the end of its input: it lets go
    assert lab.driver.returncode == 0
    stopping = start(lab.hosts.prefix(0), "-m", "raftoral_nb.cli.main", "stop", str(lab.key_file(1)))
    assert stopping.communicate(timeout=PATIENCE) == ("cluster lab stopped\n", "")
    for node in nodes:
        assert node.wait(PATIENCE) == 0


def test_a_node_that_joins_can_be_interrupted_while_no_majority_agrees(lab: Lab, tmp_path: Path) -> None:
    lab.node(1)
    others = [lab.node(2, 1), lab.node(3, 1)]
    for other in others:  # of two, one would do: the first and the one that joins were a majority of three
        os.kill(other.pid, signal.SIGSTOP)
    fourth = start(
        lab.hosts.prefix(4),
        *(
            "-m",
            "raftoral_nb.cli.main",
            "node",
            "--key-file",
            str(lab.key_file(1)),
            "--data-dir",
            str(tmp_path / "fourth"),
        ),
        *("--listen", f"{lab.hosts.address(4)}:7001", "--join", f"{lab.hosts.address(1)}:7001"),
    )
    lab.processes.append(fourth)
    assert fourth.stderr is not None
    assert fourth.stderr.readline() == f"joining cluster lab through {lab.hosts.address(1)}:7001\n"
    fourth.send_signal(signal.SIGINT)
    _, errors = fourth.communicate(timeout=PATIENCE)
    assert fourth.returncode == 1
    assert "the node was stopped before it had joined" in errors
    assert not (tmp_path / "fourth").exists()


KILLED = """
import os, sys
from raftoral_nb.cli.main import main
from raftoral_nb.hosts.remote import bootstrap

async def killed_here(*_):
    os.kill(os.getpid(), 9)

bootstrap._become_member = killed_here
main(sys.argv[1:])
"""


def test_a_node_that_comes_back_and_is_no_member_becomes_one_or_says_why_not(lab: Lab) -> None:
    lab.node(1)
    arguments = [
        *("node", "--key-file", str(lab.key_file(1)), "--data-dir", str(lab.key_file(2).parent / "data")),
        *("--listen", f"{lab.hosts.address(2)}:7001", "--join", f"{lab.hosts.address(1)}:7001"),
    ]
    killed = start(lab.hosts.prefix(2), "-c", KILLED, *arguments)
    lab.processes.append(killed)
    killed.communicate(timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL
    second = lab.node(2, 1)  # the same line again
    lab.notebook()
    assert lab.ask("list(host.head().members)") == [1, 2]

    assert lab.ask("cluster.remove(2)") == 2
    assert second.wait(PATIENCE) == 0
    removed = start(lab.hosts.prefix(2), "-m", "raftoral_nb.cli.main", *arguments)
    lab.processes.append(removed)
    _, errors = removed.communicate(timeout=PATIENCE)
    assert removed.returncode == 1
    assert "numbers of former members are never reused" in errors


def test_a_node_that_is_not_let_in_says_why(lab: Lab, tmp_path: Path) -> None:
    lab.node(1)
    other = tmp_path / "other.json"
    content = json.loads(lab.key_file(1).read_text())
    content["key"] = "A" * 43 + "="
    content["certificate"] = None
    other.touch(0o600)
    other.write_text(json.dumps(content))
    arguments = ["--listen", "127.0.0.9:7001", "--join", f"{lab.hosts.address(1)}:7001", "--key-file", str(other)]
    outsider = start(
        lab.hosts.prefix(1), "-m", "raftoral_nb.cli.main", "node", *arguments, "--data-dir", str(tmp_path / "d")
    )
    _, errors = outsider.communicate(timeout=PATIENCE)
    assert outsider.returncode == 1
    assert "let this one join" in errors
    assert not (tmp_path / "d").exists()
    nobody = start([], "-m", "raftoral_nb.cli.main", "node", "--listen", "0.0.0.0", *arguments[4:], "--data-dir", "d")
    assert "no address that the others can dial" in nobody.communicate(timeout=PATIENCE)[1]

"""Pools of processes inside steps: functions of a notebook go there and back, whatever the start method, and nothing hangs."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import Cluster, WorkflowContext

ROOT = Path(__file__).parents[2]
METHODS = [method for method in ("fork", "forkserver", "spawn") if method in multiprocessing.get_all_start_methods()]

SCRIPT = """
import concurrent.futures, faulthandler, multiprocessing, os, signal, sys, warnings
from raftoral_nb import Cluster

if hasattr(os, "register_at_fork"):
    # Should it hang, it says where: here, and in a child that was forked while another thread held a lock.
    faulthandler.register(signal.SIGALRM)
    signal.alarm(80)
    os.register_at_fork(after_in_child=lambda: signal.alarm(70))

warnings.filterwarnings("ignore", category=DeprecationWarning)  # Python does not like a fork beside threads
method, processes = sys.argv[1], sys.argv[2] == "processes"


class Point:
    def __init__(self, x):
        self.x = x


class Odd(Exception):
    def __init__(self, *, x):
        super().__init__("odd")
        self.x = x


def twice(point):
    if point.x % 2:
        raise Odd(x=point.x)
    return os.getpid(), Point(2 * point.x)


def executor(n):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        found = list(pool.map(twice, [Point(2 * i) for i in range(n)]))
        lambdas = pool.submit(lambda: n).result()
        try:
            pool.submit(twice, Point(3)).result()
        except Odd as error:
            odd = error.x
    return [os.getpid() not in {pid for pid, _ in found}, sum(p.x for _, p in found), type(found[0][1]) is Point, lambdas, odd]


def plain_pool(n):
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(twice, [Point(2 * i) for i in range(n)])
        lambdas = pool.apply(lambda: n)
        try:
            pool.apply(twice, (Point(3),))
        except Odd as error:
            odd = error.x
    return [os.getpid() not in {pid for pid, _ in found}, sum(p.x for _, p in found), type(found[0][1]) is Point, lambdas, odd]


async def sweep(ctx, n):
    return [await ctx.compute("executor", executor, n), await ctx.compute("pool", plain_pool, n)]


if __name__ == "__main__":
    with Cluster(3, processes=processes) as cluster:
        print(cluster.start_workflow(sweep, 4).wait_for_completion(100))
"""


@pytest.mark.parametrize("processes", ["here", "processes"])
@pytest.mark.parametrize("method", METHODS)
def test_functions_classes_and_exceptions_of_a_script_go_to_a_pool_and_back(
    tmp_path: Path, method: str, processes: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), method, processes],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([[True, 24, True, 4, 3]] * 2), done.stderr


NOTEBOOK = f"""
import sys, types
source = {SCRIPT!r}
import linecache
main = types.ModuleType("__main__")  # as IPython does: nobody can import it
sys.modules["__main__"] = main
linecache.cache["/tmp/ipykernel_1/1.py"] = (len(source), None, source.splitlines(keepends=True), "/tmp/ipykernel_1/1.py")
exec(compile(source, "/tmp/ipykernel_1/1.py", "exec"), main.__dict__)
"""


@pytest.mark.parametrize("method", METHODS)
def test_those_of_a_notebook_go_there_too(method: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, method, "here"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([[True, 24, True, 4, 3]] * 2), done.stderr


def wait_for_ever(connection: Any) -> None:
    connection.send("here")
    connection.recv()


async def terminate_a_forked_child(ctx: WorkflowContext, _: None) -> tuple[int | None, int | None]:
    def terminate() -> int | None:
        context = multiprocessing.get_context("fork")
        ours, its = context.Pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python does not like a fork beside threads
            child = context.Process(target=wait_for_ever, args=(its,))
            child.start()
        ours.recv()
        child.terminate()
        child.join()
        return child.exitcode

    return await ctx.compute("terminate", terminate), await ctx.compute("again", terminate)


@pytest.mark.skipif("fork" not in METHODS, reason="there is nothing to be forked")
@pytest.mark.parametrize("processes", [False, True], ids=["here", "processes"])
def test_a_forked_child_is_ended_by_the_system_when_it_is_terminated_and_so_need_not_come_back_from_a_lock(
    processes: bool,
) -> None:
    with Cluster(1, processes=processes) as cluster:
        ended = cluster.start_workflow(terminate_a_forked_child).wait_for_completion(60)
    assert ended == (-signal.SIGTERM, -signal.SIGTERM)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to be forked")
def test_a_forked_child_keeps_no_socket_of_a_cluster() -> None:
    with Cluster(3) as cluster:
        cluster.wait_for_leader(30)
        assert cluster.serve_metrics().port
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python does not like a fork beside threads
            before = sockets()
            assert before
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(writing, repr(sockets()).encode())
                os._exit(0)
            os.waitpid(child, 0)
            kept = eval(os.read(reading, 10_000))
            os.close(reading)
            os.close(writing)
            assert kept == set()
            assert sockets() == before


def sockets() -> set[Any]:
    """The TCP sockets of this process."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        try:
            if stat.S_ISSOCK(path.stat().st_mode):
                with socket.socket(fileno=os.dup(int(path.name))) as duplicate:
                    if duplicate.family == socket.AF_INET:
                        found.add(int(path.name))
        except OSError:  # that of the listing itself
            continue
    return found


def test_others_of_the_process_pickle_as_ever() -> None:
    from multiprocessing.reduction import ForkingPickler

    with Cluster(1) as cluster:
        assert cluster.start_workflow(nothing).wait_for_completion(30) is None
    data = bytes(ForkingPickler.dumps([nothing, concurrent.futures.Future, type(None), ValueError("x")]))
    assert b"raftoral_nb.workflow" not in data


async def nothing(ctx: Any, _: None) -> None:
    return None

"""The executors that a cluster's nodes have by name: `Cluster(executors=...)`, checked, and on its way to nodes of other processes."""

from __future__ import annotations

import concurrent.futures
import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from .. import limits
from ..errors import BadArgumentError, CodeNotShippableError, UnknownExecutorError
from ..workflow.codec import pickling
from ..workflow.codec.values import describe
from ..workflow.shipping.named_executors import named_executors
from . import dask_factory
from .step_adapter import StepAdapter

ExecutorFactory = Callable[[], Any]
"""Makes an executor for one node: a `concurrent.futures.Executor`, or a `StepAdapter`."""

OWN_WORKERS: Final = "processes"
"""The name of the executor that every node has."""


def checked(given: Any) -> dict[str, ExecutorFactory]:
    """Return the factories by name. Raises `BadArgumentError`, saying what is to be given, if they are none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadArgumentError(
            f"executors are a dict, such as {{'pool': lambda: ThreadPoolExecutor(8)}}, not a {type(given).__name__}"
        )
    found: dict[str, ExecutorFactory] = {}
    for name, made in given.items():
        if not isinstance(name, str) or not name:
            raise BadArgumentError(f"the name of an executor is text, such as 'pool', not {name!r}")
        if name == OWN_WORKERS:
            raise BadArgumentError(f"the executor {name!r} is built in: choose another name")
        found[name] = _factory(name, made)
    return found


def unknown(on: str, known: Iterable[str], what: str) -> UnknownExecutorError:
    """Return the error that says `what`: there is no executor of that name, and which there are."""
    names = tuple(known)
    near = difflib.get_close_matches(on, names, 1)
    meant = f": did you mean {near[0]!r}?" if near else ""
    return UnknownExecutorError(
        f"{what}{meant}; those there are: {', '.join(map(repr, names))}. Executors are given to the cluster, "
        f"Cluster(executors={{{on!r}: ...}}), each time it is started"
    )


def check_named(workflow: str, function: Callable[..., Any], known: Iterable[str]) -> None:
    """Refuse a workflow whose code names an executor that its cluster does not have.

    Raises `UnknownExecutorError`, which names the step and the executors that there are.
    """
    names = tuple(known)
    for one in named_executors(function):
        if one.on not in names:
            raise unknown(
                one.on,
                names,
                f"workflow {workflow!r} was not registered: its step {one.step!r} ({one.place}) is to run on executor {one.on!r}, which this "
                "cluster does not have",
            )


def _factory(name: str, made: Any) -> ExecutorFactory:
    if isinstance(made, str):
        if dask_factory.is_address(made):
            return dask_factory.dask_executor(made)
        raise BadArgumentError(
            f"executors[{name!r}] is the text {made!r}: give a function that makes an executor, or the address of a Dask scheduler, such as "
            "'tcp://10.0.0.1:8786'"
        )
    if isinstance(made, concurrent.futures.Executor) or (isinstance(made, StepAdapter) and not isinstance(made, type)):
        kind = type(made).__name__
        raise BadArgumentError(
            f"executors[{name!r}] is a {kind}, and each node needs one of its own, which ends with it: give the function that makes it, "
            f"{{{name!r}: lambda: {kind}(...)}}"
        )
    if not callable(made):
        raise BadArgumentError(f"executors[{name!r}] is a function that makes an executor, not {made!r}")
    factory: ExecutorFactory = made
    return factory


def shipped(executors: Mapping[str, ExecutorFactory]) -> dict[str, bytes]:
    """Return the factories as bytes, for nodes in other processes. Raises `CodeNotShippableError`."""
    found: dict[str, bytes] = {}
    for name, factory in executors.items():
        try:
            found[name] = pickling.dumps_code(factory, limits.MAX_CODE_BYTES)
        except Exception as error:
            raise CodeNotShippableError(
                f"executors[{name!r}] cannot be shipped to nodes in other processes ({describe(error)}): have the function make all it needs"
            ) from error
    return found


def unshipped(executors: Mapping[str, bytes]) -> dict[str, ExecutorFactory]:
    """Return functions that do what those did which were given to `shipped`. They are loaded when they are called."""
    return {name: partial(_made, name, code) for name, code in executors.items()}


def _made(name: str, code: bytes) -> Any:
    factory, _ = pickling.loads_code(code, f"executor {name!r}")
    return factory()

"""`ipyparallel_executor`: the function to give to a cluster for steps that run on engines of ipyparallel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import BadArgumentError, MissingPackageError

if TYPE_CHECKING:
    from .step_adapter import StepAdapter


def ipyparallel_executor(connection_file: str | None = None, **client: Any) -> Callable[[], StepAdapter]:
    """Return what `Cluster(executors={"engines": ...})` takes, for steps with `on="engines"` that run on engines of ipyparallel.

    `connection_file` is the path of the controller's file for clients, such as ".../security/ipcontroller-client.json"; `client` are further arguments of
    `ipyparallel.Client`, such as `profile=` or `cluster_id=`. The engines need raftoral-nb and the packages of the workflow. Start the cluster
    beside the notebook (`ipcluster start -n 4`), so that it does not end with the kernel.

    A task goes on when the node that asked for it dies, or the whole kernel: the controller keeps it under a label, and whichever node does the step next
    finds it by that. A node that dies in the moment of submitting may have it begun twice. Needs the extra `ipyparallel`. Raises
    `BadArgumentError` if `connection_file` is no path.
    """
    given: object = connection_file  # a notebook's code is not type-checked
    if given is not None and (not isinstance(given, str) or not given):
        raise BadArgumentError(
            f"the connection file of an ipyparallel controller is the path of its ipcontroller-client.json, as text, not {given!r}"
        )
    return partial(make_ipyparallel, connection_file, client)


def make_ipyparallel(connection_file: str | None, client: dict[str, Any]) -> StepAdapter:
    """Return the executor of one node. Raises `MissingPackageError`."""
    try:
        from .ipyparallel_adapter import IpyparallelAdapter  # it is an extra, and slow to import
    except ImportError as error:
        raise MissingPackageError(
            f"steps on engines of ipyparallel need that package ({error}): pip install 'raftoral-nb[ipyparallel]'"
        ) from error
    return IpyparallelAdapter(connection_file, client)

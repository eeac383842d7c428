"""`ray_executor`: the function to give to a cluster for steps that run on Ray."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import BadArgumentError, MissingPackageError

if TYPE_CHECKING:
    from .step_adapter import StepAdapter


def ray_executor(address: str, **actor: Any) -> Callable[[], StepAdapter]:
    """Return what `Cluster(executors={"ray": ...})` takes, for steps with `on="ray"` that run on a Ray cluster.

    `address` is that of its head, such as "10.0.0.1:6379"; if this process is connected to Ray already, that connection is used. `actor` are options
    of the actor in which each attempt runs, such as `num_cpus=2` or `num_gpus=1` (one core if nothing is said). The workers need raftoral-nb and the
    packages of the workflow. Start the cluster beside the notebook (`ray start --head`): one that `ray.init()` starts ends with its kernel.

    A task goes on when the node that asked for it dies, or the whole kernel: whichever node does the step next attaches to its actor.
    Needs the extra `ray`. Raises `BadArgumentError` if `address` is no text.
    """
    given: object = address  # a notebook's code is not type-checked
    if not isinstance(given, str) or not given:
        raise BadArgumentError(f"the address of a Ray cluster is text such as '10.0.0.1:6379', not {given!r}")
    return partial(make_ray, address, actor)


def make_ray(address: str, actor: dict[str, Any]) -> StepAdapter:
    """Return the executor of one node. Raises `MissingPackageError`."""
    try:
        from .ray_adapter import RayAdapter  # it is an extra, and slow to import
    except ImportError as error:
        raise MissingPackageError(
            f"steps on Ray need that package ({error}): pip install 'raftoral-nb[ray]'"
        ) from error
    return RayAdapter(address, actor)

"""`dask_executor`: the function to give to a cluster for steps that run on Dask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..errors import BadArgumentError, MissingPackageError

if TYPE_CHECKING:
    from .step_adapter import StepAdapter

SCHEMES: Final = ("tcp", "tls", "ws", "wss", "ucx", "ucxx")
"""How the address of a Dask scheduler begins."""


def is_address(text: str) -> bool:
    """Return whether a text is the address of a Dask scheduler."""
    scheme, found, rest = text.partition("://")
    return bool(found and rest) and scheme in SCHEMES


def dask_executor(address: str, **client: Any) -> Callable[[], StepAdapter]:
    """Return what `Cluster(executors={"dask": ...})` takes, for steps with `on="dask"` that run on a Dask cluster.

    `address` is that of its scheduler, such as "tcp://10.0.0.1:8786"; `client` are further arguments of `distributed.Client`, such as
    `security=`. The scheduler and its workers need raftoral-nb and the packages of the workflow. Start them beside the notebook
    (`dask scheduler`, `dask worker`): a `LocalCluster` ends with its kernel.

    A task goes on when the node that asked for it dies, or the whole kernel: whichever node does the step next attaches to it.
    Needs the extra `dask`. Raises `BadArgumentError` if that is no address.
    """
    given: object = address  # a notebook's code is not type-checked
    if not isinstance(given, str) or not is_address(given):
        raise BadArgumentError(f"a Dask scheduler's address is text such as 'tcp://10.0.0.1:8786', not {address!r}")
    return partial(make_dask, address, client)


def make_dask(address: str, client: dict[str, Any]) -> StepAdapter:
    """Return the executor of one node. Raises `MissingPackageError`."""
    try:
        from .dask_adapter import DaskAdapter  # distributed is an extra, and slow to import
    except ImportError as error:
        raise MissingPackageError(
            f"steps on Dask need the package distributed ({error}): pip install 'raftoral-nb[dask]'"
        ) from error
    return DaskAdapter(address, client)

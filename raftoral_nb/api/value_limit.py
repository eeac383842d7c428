"""How large values may be: asked for, changed and read."""

from __future__ import annotations

from ..core.commands import Rejected, SetValueLimit
from ..errors import InternalError
from ..hosts import options
from ..hosts.backend_parts import RetentionBackend
from .access import ClusterAccess


class ValueLimit:
    """The limit of one cluster's values: part of its replicated state, so all nodes and handles have the same."""

    def __init__(self, access: ClusterAccess[RetentionBackend], asked: SetValueLimit | None) -> None:
        self._access = access
        self._asked = asked

    def set_max_value_bytes(self, max_value_bytes: int | str) -> None:
        """Change the encoded size up to which a value is kept: a number of bytes, or text such as `"3GB"`.

        Applies to the whole cluster, now and after every restart, until it is changed again. Runs that are held by a value which fits now
        go on, and nothing is computed again; what is recorded stays, however large it is. Raises `ClusterError` for what is no size from
        1 to `MAX_ENCODED_BYTES`, and `NotAcknowledgedError`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def load(ctx, size):
        ...     return len(await ctx.compute("read", bytes, size))
        >>> with workflow_test() as test:
        ...     test.cluster.set_max_value_bytes("1MB")
        ...     run = test.start(load, 3_000_000)
        ...     held = run.held_value
        ...     test.cluster.set_max_value_bytes("4MB")
        ...     held[:68], run.wait_for_completion()
        ('a value takes 3,000,0.. bytes, more than max_value_bytes (1,000,000)', 3000000)
        """
        self._access.check_running()
        self._propose(options.value_limit(max_value_bytes))

    def begin(self) -> None:
        """Ask for what the cluster was made with, once it has a leader. Raises `NotAcknowledgedError`."""
        self._propose(self._asked)

    def read(self) -> int:
        """Return the limit, as the most advanced node knows it (bytes)."""
        return self._access.host.head().max_value_bytes

    def _propose(self, command: SetValueLimit | None) -> None:
        if command is None:
            return
        what = "setting how large values may be"
        answer = self._access.host.propose(command, what)
        if isinstance(answer, Rejected):
            raise InternalError(f"{what} was refused: {answer.reason}")

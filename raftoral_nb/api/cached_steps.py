"""The cache of steps as users see it: what is in it, and clearing it."""

from __future__ import annotations

from ..core.commands import ClearCache, Rejected
from ..core.records import CachedStep
from ..errors import BadArgumentError, InternalError
from ..hosts.backend_parts import RunsBackend
from ..limits import MAX_NAME_CHARS
from .access import ClusterAccess


class CachedSteps:
    """Results of steps with `cache="inputs"`, which all runs share."""

    def __init__(self, access: ClusterAccess[RunsBackend]) -> None:
        self._access = access

    def cached_steps(self) -> tuple[CachedStep, ...]:
        """Return the results of steps that are cached (`step(fn, cache="inputs")`), the one that was used last first.

        At most `MAX_CACHED_STEPS`, of `MAX_CACHE_BYTES` in all; the least recently used are dropped first. Some may be too old
        for a step's `ttl`. Also after the cluster has stopped.
        """
        return tuple(reversed(tuple(self._access.host.head().cache.values())))

    def clear_cache(self, name: str | None = None) -> None:
        """Drop what is cached of steps: of functions of that name, or of all. Records of runs stay as they are.

        Waits until a majority has recorded it. A step that runs now may put its result into the cache afterwards. Raises `ClusterError` if the cluster
        does not run, `NotAcknowledgedError`, and `BadArgumentError` if `name` is no name of a function.
        """
        given: object = name
        if given is not None and not (isinstance(given, str) and 0 < len(given) <= MAX_NAME_CHARS):
            raise BadArgumentError(f"clear_cache takes the name of a function, or nothing for all, not {given!r}")
        self._access.check_running()
        answer = self._access.host.propose(ClearCache(name), "clearing the cache of steps")
        if isinstance(answer, Rejected):
            raise InternalError(f"clearing the cache of steps was refused: {answer.reason}")

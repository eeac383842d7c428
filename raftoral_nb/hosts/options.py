"""The options of a cluster, checked before anything is made: a notebook's code is not type-checked."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..core.commands import SetRetention, SetValueLimit
from ..core.sizes import bytes_of
from ..errors import ClusterError
from ..limits import MAX_ENCODED_BYTES, MAX_KEEP_RUNS, MAX_NODES
from ..raft.compaction import Compaction
from ..raft.timing import Timing


def check(
    *,
    name: Any,
    nodes: Any,
    network: Any,
    ports: Any,
    leave_out: Any,
    proposal_timeout: Any,
    timing: Any,
    compaction: Any,
) -> None:
    """Raise `ClusterError` for an option of `Cluster` that it cannot work with, saying which it takes."""
    if name is not None and not (isinstance(name, str) and is_text(name)):
        raise ClusterError(f"a cluster's name is text such as 'lab', not {name!r}")
    if isinstance(nodes, bool) or not isinstance(nodes, int) or not 1 <= nodes <= MAX_NODES:
        raise ClusterError(f"a cluster has 1 to {MAX_NODES} nodes, got {nodes!r}")
    if network not in ("tcp", "memory"):
        raise ClusterError(f"network is 'tcp' or 'memory', got {network!r}")
    if ports is not None:
        if not isinstance(ports, Sequence) or not all(map(_is_port, ports)):
            raise ClusterError(f"ports are a list of whole numbers from 0 (any) to 65535, not {ports!r}")
        if len(ports) != nodes:
            raise ClusterError(f"{nodes} nodes need {nodes} ports, got {len(ports)}")
    if isinstance(leave_out, str) or not isinstance(leave_out, Collection):
        raise ClusterError(f"leave_out is a list of nodes such as [2], not {leave_out!r}")
    if (
        isinstance(proposal_timeout, bool)
        or not isinstance(proposal_timeout, int | float)
        or not 0 < proposal_timeout < math.inf
    ):
        raise ClusterError(f"proposal_timeout is a number of seconds above 0, or a timedelta, not {proposal_timeout!r}")
    for option, given, kind in (("timing", timing, Timing), ("compaction", compaction, Compaction)):
        if given is not None and not isinstance(given, kind):
            raise ClusterError(f"{option} is a raftoral_nb.{kind.__name__}, not {given!r}")


def retention(keep_runs: Any, keep_bytes: Any) -> SetRetention | None:
    """Return the command for what is to be kept of finished runs; None if nothing is asked for. Raises `ClusterError`."""
    if keep_runs is not None and not (_is_count(keep_runs) and keep_runs <= MAX_KEEP_RUNS):
        raise ClusterError(
            f"keep_runs is how many finished runs are kept, from 1 to {MAX_KEEP_RUNS:,}, not {keep_runs!r}"
        )
    size = None if keep_bytes is None else _size(keep_bytes)
    if keep_bytes is not None and not _is_count(size):
        raise ClusterError(
            "keep_bytes is how many bytes of finished runs are kept, a whole number from 1 or text such as '500MB' (the last run always "
            f"stays), not {keep_bytes!r}"
        )
    return None if keep_runs is None and keep_bytes is None else SetRetention(keep_runs, size)


def value_limit(max_value_bytes: Any) -> SetValueLimit | None:
    """Return the command for how large values may be; None if nothing is asked for. Raises `ClusterError`."""
    if max_value_bytes is None:
        return None
    size = _size(max_value_bytes)
    if size is None or not 1 <= size <= MAX_ENCODED_BYTES:
        raise ClusterError(
            "max_value_bytes is the encoded size up to which a value is kept, a whole number of bytes or text such as '3GB', from 1 to "
            f"MAX_ENCODED_BYTES ({MAX_ENCODED_BYTES:,}), not {max_value_bytes!r}"
        )
    return SetValueLimit(size)


def _size(given: Any) -> int | None:
    """Return the bytes that are meant; None if none are."""
    try:
        return bytes_of(given)
    except ValueError:
        return None


def _is_count(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and 1 <= given < 2**63


def path_of(given: Any, what: str) -> Path:
    """Return the absolute path that was meant, with `~` resolved. Raises `ClusterError`, which calls it `what`, if it is none."""
    try:
        text = os.fsdecode(given)
        if not text or "\0" in text or not is_text(text):
            raise ValueError("it is empty, or no text that a file system and a key file can both hold")
        return Path(text).expanduser().absolute()
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: nobody knows that user's home
        raise ClusterError(f"{what} {given!r} is not a path that can be used: {error}") from None


def is_text(given: str) -> bool:
    """Tell whether it can be written as UTF-8: names of files may hold bytes that are none."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_port(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= 65_535

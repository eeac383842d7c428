"""Steps whose functions run on an executor, and not in the node: what an execution asks of those who run them, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from ...core.records import Failure, NodeId, RunId, StepId
from ..codec.blobs import Carried, InMemory, carry


class RanElsewhere(msgspec.Struct, frozen=True):
    """What became of one attempt. One of `value`, `failure`, `lost` and `begun_before` says it."""

    value: bytes | None = None
    """The value as it is recorded."""
    content: Any = None
    """Of a large value, to which `value` is the reference: the bytes of its blob."""
    failure: Failure | None = None
    lost: str = ""
    """What to do about changes of what it was given that would be lost."""
    unseen: str = ""
    """What to say of changes that may be its own affair."""
    begun_before: bool = False
    """True if it was not run: it was begun before, and runs at most once."""


def ran_to(data: bytes, unseen: str = "") -> RanElsewhere:
    """Return what became of an attempt that came to an encoded value. Whatever that carries travels along."""
    if not isinstance(data, Carried):
        return RanElsewhere(value=data, unseen=unseen)
    return RanElsewhere(value=bytes(data), content=data.content.view(private=False), unseen=unseen)


def value_of(ran: RanElsewhere) -> bytes | None:
    """Return the value of an attempt as it is recorded, with what came along. Raises `DamagedBlobError`."""
    if ran.content is None or ran.value is None:
        return ran.value
    return carry(ran.value, InMemory(ran.content))


class AttemptElsewhere(Protocol):
    """The attempt that is to run elsewhere, as its node knows it: a `RunningStep`."""

    node: NodeId
    run_id: RunId
    step_id: StepId
    attempt: int

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far it has come."""
        ...

    def save(self, data: bytes, least: float, told: Callable[[BaseException | None, bool], None]) -> None:
        """Save an encoded checkpoint, at most one every so many seconds. `told` hears, on some thread, why it was not saved, or None, and if that is for what it is, whoever asks."""
        ...

    def continues(self) -> None:
        """Note that it continues from what an attempt before saved."""
        ...


class AskedElsewhere(msgspec.Struct, frozen=True):
    """One attempt that is to run on an executor."""

    on: str
    """The name of the executor."""
    prefix: str
    """What the keys of all attempts at this step begin with: the same whichever node asks, and no other step's in any cluster."""
    running: AttemptElsewhere
    call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
    sources: Mapping[str, str]
    """The text of the workflow's cells, by file."""
    once: bool
    """True if it runs at most once."""
    saved: bytes | None
    """What an attempt before saved last, as it is recorded; a large value is in this process."""
    given_up: Callable[[], bool]
    """Whether nobody waits for the step any more. False if this node only ceased to act, or stops: another one may ask for it again."""

    @property
    def key(self) -> str:
        """The key of this attempt. What keeps running tasks finds it again by that."""
        return f"{self.prefix}/{self.running.attempt}"


class StepsElsewhere(Protocol):
    """The executors of a node. Used on the node's own loop."""

    async def run(self, asked: AskedElsewhere) -> RanElsewhere:
        """Run a function, or attach to where it runs already; cancel it when it is given up.

        Raises:
            UnknownExecutorError: there is no such executor, or it cannot be used on this node.
            ValueNotShippableError: what it is given does not travel.
            CodeNotShippableError: the function does not.
            WorkerDiedError: the process in which it ran has ended.
        """
        ...

    async def place(self, on: str, prefix: str) -> str:
        """Return the identity of what keeps begun tasks of an executor when a node dies; "" if nothing does.

        The step of that prefix, if it runs at most once, begins or is attached to there, or nowhere. Raises `UnknownExecutorError`.
        """
        ...

    def recorded(self, on: str, prefix: str) -> None:
        """Note that a step is recorded, or given up: whatever is kept of its attempts can be let go."""
        ...

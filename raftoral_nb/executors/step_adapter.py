"""The adapter protocol: what a node asks of whatever runs its steps' functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from .step_work import Hear, Work

Keeps = Literal["nothing", "running and done", "by label"]
"""What an executor keeps of its tasks when the node dies that asked for them.

"by label" is "running and done" with two limits: a node that dies in the moment of submitting may have a task begun twice, and what a function says while it
runs reaches only the node that submitted it.
"""


@runtime_checkable
class StepAdapter(Protocol):
    """Runs attempts at steps, each under a key. Every method may be called again with the same key, and is called on the node's own loop.

    One that keeps tasks finds them by their keys for whoever submits them again, from whichever process:
    such a task is attached to and not begun anew, until its key was released.
    """

    keeps: Keeps

    async def place(self) -> str:
        """Connect, and return the identity of what keeps the tasks: another one if it has forgotten them. "" if nothing is kept."""
        ...

    async def submit(self, key: str, work: Work) -> None:
        """Begin a task, or attach to the one of that key. It is to call `calling.call` with `work.packed()`."""
        ...

    async def outcome(self, key: str) -> bytes:
        """Return what `calling.call` returned. Raises `WorkerDiedError` if that can never be."""
        ...

    def progress(self, key: str, hear: Hear) -> None:
        """Pass on what the function says, from any thread, also what it said before. Called before `submit`."""
        ...

    def cancel(self, key: str) -> None:
        """End a task, as far as that can be done, and forget it. Does not wait, and raises nothing."""
        ...

    def release(self, keys: Sequence[str]) -> None:
        """Forget tasks: their outcomes are recorded. Does not wait, and raises nothing."""
        ...

    def held(self) -> Sequence[str]:
        """Return the keys of tasks that are kept, as of the last `place`."""
        ...

    def close(self) -> None:
        """Let go of everything, and end what is not kept. From any thread; does not wait long."""
        ...

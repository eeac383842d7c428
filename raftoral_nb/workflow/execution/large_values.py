"""Values that are larger than the cluster keeps, on the node that acts: held back, and proposed again when the limit is raised."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ...core.held_keys import HeldKey
    from ...core.records import RunId


class HoldingNode(Protocol):
    """The part of a node that stores what is held back."""

    @property
    def max_value_bytes(self) -> int:
        """The largest value that the cluster keeps, by this node's state, in bytes. From any thread."""
        ...

    def bring_held(self, key: HeldKey, done: Callable[[bytes | None], None]) -> None:
        """Look whether a held value is there and whole; `done(its reference)`, or `done(None)`, on the consensus loop."""
        ...

    def drop_held(self, drop: Callable[[HeldStore], object]) -> None:
        """Have `drop` let go of what is held, on the consensus loop."""
        ...

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)` on the executor's own loop, soon."""
        ...


class HeldStore(Protocol):
    """What is held, as it can be let go: by its key, of a whole run, or of all but some."""

    def drop(self, key: HeldKey) -> None:
        """Hold it no more."""
        ...

    def drop_run(self, run_id: RunId) -> None:
        """Hold nothing of a run any more."""
        ...

    def keep_only(self, runs: Collection[tuple[RunId, int, int]]) -> None:
        """Hold nothing of any run, generation and version but these."""
        ...


class LargeValues:
    """What a node holds back, as its executions need it. On the node's loop, but for `most`."""

    def __init__(self, node: HoldingNode) -> None:
        self._node = node
        self.held: Mapping[HeldKey, bytes] = {}
        """References to what this node holds, by what it is of. Changes on another thread; set by the node, whose store has it."""
        # Invariant: what is to be called once, when the limit changes, behind what tells whether anybody waits for that yet.
        self._waiting: list[tuple[Callable[[], bool], Callable[[], object]]] = []

    @property
    def most(self) -> int:
        """The largest value that the cluster keeps, by this node's state, in bytes. From any thread."""
        return self._node.max_value_bytes

    def bring(self, key: HeldKey, done: Callable[[bytes | None], None]) -> None:
        """Look whether a held value is there and whole; `done(its reference)`, or `done(None)` if it is not, and held no more."""
        self._node.bring_held(key, lambda value: self._node.post(done, value))

    def drop(self, key: HeldKey) -> None:
        """Hold a value no more: it is recorded, or not needed."""
        self._node.drop_held(lambda store: store.drop(key))

    def run_over(self, run_id: RunId) -> None:
        """Hold nothing of a run any more: its execution has come to its end."""
        if self.held:
            self._node.drop_held(lambda store: store.drop_run(run_id))

    def keep_only(self, executions: Iterable[Any]) -> None:
        """Hold nothing of runs but those of these `Execution`s: by now this node has every record that was made before."""
        if not self.held:
            return
        runs: set[tuple[RunId, int, int]] = set()
        for execution in executions:
            one = execution
            while one is not None:  # those of generations before that have not come to their ends
                runs.add((one.run_id, one.generation, one.definition.version))
                one = one.after
        self._node.drop_held(lambda store: store.keep_only(runs))

    def when_limit_changes(self, wanted: Callable[[], bool], fn: Callable[[], object]) -> None:
        """Call `fn()` once, when the cluster comes to keep larger values, or only smaller ones, if it is `wanted()` by then."""
        self._waiting = [*(one for one in self._waiting if one[0]()), (wanted, fn)]

    def limit_changed(self) -> None:
        """Note that the limit has changed."""
        waiting, self._waiting = self._waiting, []
        for wanted, fn in waiting:
            if wanted():
                fn()

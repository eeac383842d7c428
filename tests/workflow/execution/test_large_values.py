"""What is held back is let go by run, and whoever waits for another limit is told once."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from raftoral_nb.core.held_keys import HeldKey
from raftoral_nb.workflow.execution.large_values import LargeValues


class Node:
    """A node that notes what it is asked for."""

    max_value_bytes = 5

    def __init__(self) -> None:
        self.told: list[Any] = []

    def bring_held(self, key: HeldKey, done: Any) -> None:
        done(b"value" if key.step_id == "0/held" else None)

    def drop_held(self, drop: Any) -> None:
        drop(self)

    def post(self, fn: Any, *args: Any) -> None:
        fn(*args)

    def drop(self, key: HeldKey) -> None:
        self.told.append(key)

    def drop_run(self, run_id: str) -> None:
        self.told.append(run_id)

    def keep_only(self, runs: Any) -> None:
        self.told.append(sorted(runs))


KEY = HeldKey("r1", 1, 1, "0/held")


def test_what_a_node_has_is_brought_and_let_go() -> None:
    node = Node()
    large = LargeValues(node)
    assert large.most == 5
    found: list[bytes | None] = []
    large.bring(KEY, found.append)
    large.bring(HeldKey("r1", 1, 1, "1/other"), found.append)
    assert found == [b"value", None]
    large.drop(KEY)
    assert node.told == [KEY]


def test_nobody_is_asked_to_let_go_of_nothing() -> None:
    node = Node()
    large = LargeValues(node)
    large.run_over("r1")
    large.keep_only([])
    assert node.told == []
    large.held = {KEY: b"value"}
    large.run_over("r1")
    large.keep_only([])
    assert node.told == ["r1", []]


def test_generations_that_have_not_come_to_their_ends_are_kept() -> None:
    def execution(run_id: str, generation: int, after: Any = None) -> Any:
        return SimpleNamespace(run_id=run_id, generation=generation, after=after, definition=SimpleNamespace(version=3))

    node = Node()
    large = LargeValues(node)
    large.held = {KEY: b"value"}
    large.keep_only([execution("r1", 2, execution("r1", 1)), execution("r2", 1)])
    assert node.told == [[("r1", 1, 3), ("r1", 2, 3), ("r2", 1, 3)]]


def test_who_waits_for_another_limit_is_told_once_and_only_if_it_still_waits() -> None:
    large, told, waits = LargeValues(Node()), list[str](), {"first", "second"}
    for name in ("first", "second"):
        large.when_limit_changes(partial(waits.__contains__, name), partial(told.append, name))
    waits.remove("first")
    large.limit_changed()
    large.limit_changed()
    assert told == ["second"]


def test_those_who_gave_up_are_forgotten_when_others_come() -> None:
    large = LargeValues(Node())
    for _ in range(100):
        large.when_limit_changes(lambda: False, lambda: None)
    assert len(large._waiting) == 1

"""What the notebooks of the course use: predictions that are checked, doors and watches."""

from __future__ import annotations

import threading

import cloudpickle
import pytest

from raftoral_nb import Cluster, CompletionTimeoutError, NodeChanged
from raftoral_nb.cli.course import Door, Watch, check


@pytest.mark.parametrize(
    ("prediction", "happened"),
    [(2, 2), ("2", 2), (" Yes ", "yes"), (True, "yes"), ("no", False), ([1, 2], (1, 2)), ({"a": []}, {"a": []})],
)
def test_a_prediction_is_right_however_it_is_written(prediction: object, happened: object) -> None:
    assert check(prediction, happened).right is True


@pytest.mark.parametrize(
    ("prediction", "happened"), [(1, 2), (True, 1), ("yes", "no"), ([1], (1, 2)), ("two", 2), (object(), 2)]
)
def test_a_wrong_prediction_is_told_kindly_and_what_happened_with_it(prediction: object, happened: object) -> None:
    checked = check(prediction, happened, "So it goes.")
    assert checked.right is False
    assert "second look" in str(checked)
    assert str(checked).endswith("So it goes.")


def test_without_a_prediction_nothing_is_right_or_wrong() -> None:
    checked = check(None, 2, "So it goes.")
    assert checked.right is None
    assert str(checked).startswith("No prediction yet.")
    assert str(checked).endswith("It was 2. So it goes.")


def test_what_cannot_be_chosen_is_answered_with_the_choices() -> None:
    checked = check("perhaps", "yes", among=("yes", "no"))
    assert checked.right is None
    assert '"yes" or "no"' in checked.verdict
    assert check("NO", "yes", among=("yes", "no")).right is False


def test_the_html_form_says_the_same_and_is_escaped() -> None:
    html = check("<b>", "a & b")._repr_html_()
    assert "&lt;b&gt;" in html
    assert "a &amp; b" in html
    assert "<b>&" not in html


def test_a_door_is_the_same_one_wherever_it_is_shipped_to_and_lets_everybody_through_once_open() -> None:
    door = Door()
    shipped = cloudpickle.loads(cloudpickle.dumps(door))
    assert shipped is door
    waiting = [threading.Thread(target=shipped.wait) for _ in range(2)]
    for thread in waiting:
        thread.start()
    door.await_arrival(2)
    assert door.arrivals == 2
    door.open()
    for thread in waiting:
        thread.join(30)
    door.wait()
    assert door.arrivals == 3


def test_who_waits_for_an_arrival_that_never_comes_is_told() -> None:
    with pytest.raises(CompletionTimeoutError, match="0 of 1 steps"):
        Door().await_arrival(timeout=0.01)


def test_a_door_that_nobody_opens_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Door, "SECONDS", 0.01)
    with pytest.raises(TimeoutError, match="nobody opened"):
        Door().wait()


def test_a_watch_remembers_what_happened_before_it_is_waited_for() -> None:
    with Cluster(3, network="memory") as cluster, Watch(cluster) as watch:
        node = cluster.kill("leader")
        cluster.restart(node)
        assert watch.wait_for(NodeChanged, change="killed").node == node
        assert watch.wait_for(NodeChanged, node=node).change in ("restarted", "started")
        with pytest.raises(CompletionTimeoutError, match="no NodeChanged\\(change='paused'\\)"):
            watch.wait_for(NodeChanged, timeout=0.5, change="paused")

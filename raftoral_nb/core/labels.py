"""Labels of nodes, to which steps can be bound."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import BadArgumentError
from ..limits import MAX_LABELS, MAX_NAME_CHARS


def check_label(label: object, what: str) -> str:
    """Return a label; raises `BadArgumentError`, whose message begins with `what`, if it is none."""
    if not isinstance(label, str):
        raise BadArgumentError(f'{what} takes a label, a text such as "gpu", not {label!r}')
    if not 0 < len(label) <= MAX_NAME_CHARS or label != label.strip() or not label.isprintable():
        raise BadArgumentError(
            f"{what} takes a label of 1 to {MAX_NAME_CHARS} printable characters without spaces around it, not {label!r}"
        )
    return label


def checked_labels(labels: Iterable[object], what: str) -> tuple[str, ...]:
    """Return the labels of one node, sorted, each once; raises `BadArgumentError`, whose message begins with `what`."""
    if isinstance(labels, str):
        raise BadArgumentError(f"{what} takes a list of labels, such as [{labels!r}], not the text {labels!r}")
    found = tuple(sorted({check_label(label, what) for label in labels}))
    if len(found) > MAX_LABELS:
        raise BadArgumentError(f"{what} takes at most {MAX_LABELS} labels for a node, not {len(found)}")
    return found


def offer_words(runs: bool, labels: Iterable[str]) -> str:
    """Return what a node offers to do, in words: `runs and steps for gpu`."""
    return " and ".join([*(["runs"] if runs else []), *(f"steps for {label}" for label in labels)])


def label_words(label: str) -> str:
    """Return in words what a step waits for whose label no node has, and what to do about it."""
    return f"a node with the label {label!r}, which none has: start one with it (Cluster(labels=...), --label)"

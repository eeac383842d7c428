"""Frozen objects that the magics hand to IPython, each with all of its forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from raftoral_nb.core.labels import label_words

from . import cached, html, tables, text
from .words import registration_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raftoral_nb import CachedStep, Registration, WorkflowRun
    from raftoral_nb.core.cluster_events import OutputLine
    from raftoral_nb.core.events import ClusterEvent
    from raftoral_nb.core.statistics import ClusterStatistics, LogEntry

WIDGET_VIEW: Final = "application/vnd.jupyter.widget-view+json"


class Shown(msgspec.Struct, frozen=True):
    """Something shown: as plain text, as static HTML, and, where `model_id` is set, as a live widget.

    All three go out together; whoever shows it picks the richest form it can.
    """

    plain: str
    html: str
    model_id: str | None = None

    def __repr__(self) -> str:
        return self.plain

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002 - IPython's signature
        bundle: dict[str, Any] = {"text/plain": self.plain, "text/html": self.html}
        if self.model_id is not None:
            bundle[WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return bundle


def emit(shown: Any) -> None:
    """Shows it as an output of the running cell, wherever in the cell that is."""
    from IPython import display

    show: Any = display.display  # untyped
    show(shown)


def notice(sentence: str) -> Shown:
    """A sentence about what was done."""
    return Shown(sentence, html.line_html(sentence))


def page(plain: str) -> Shown:
    """Several lines whose columns matter."""
    return Shown(plain, html.pre_html(plain))


def registered(registration: Registration) -> Shown:
    """The result of a registration."""
    return notice(registration_words(registration))


def cluster_picture(statistics: ClusterStatistics, model_id: str | None = None) -> Shown:
    """The whole cluster as it was when the snapshot was taken."""
    return Shown(text.cluster_text(statistics), html.cluster_html(statistics), model_id)


def started(nodes: Sequence[int], model_id: str | None = None, hint: str = "") -> Shown:
    """A cluster that has just started, in words that do not depend on who won the election."""
    words = text.started_text(nodes) + (f"\n{hint}" if hint else "")
    return Shown(words, html.line_html(words), model_id)


def runs(
    all_runs: Sequence[WorkflowRun[object]],
    held: Mapping[str, str] | None = None,
    footer: str = "",
    missing: Mapping[str, str] | None = None,
) -> Shown:
    """Every run in one row, and lines below if there is more to say: why runs are `held`, labels that are `missing`, and what else is given."""
    if not all_runs:
        return notice(footer or "no runs yet")
    held = held or {}
    table = tables.run_list(all_runs, held)
    lines = [f"run {run.run_id} is held: {held[run.run_id]}" for run in all_runs if run.run_id in held]
    missing = missing or {}
    lines += [
        f"run {run.run_id}: a step waits for {label_words(missing[run.run_id])}"
        for run in all_runs
        if run.run_id in missing
    ]
    lines += [footer] if footer else []
    below = "".join(map(html.line_html, lines))
    return Shown("\n".join((text.table_text(table), *lines)), html.table_html(table) + below)


def cached_steps(steps: Sequence[CachedStep], now: float) -> Shown:
    """What is cached of steps, a row for each; `now` is in Unix seconds."""
    if not steps:
        return notice('no step is cached: step(fn, cache="inputs") caches the results of its steps')
    table = cached.cached_steps(steps, now)
    return Shown(text.table_text(table), html.table_html(table))


def entries(logs: Mapping[int, Sequence[LogEntry]], snapshots: Mapping[int, int]) -> Shown:
    """The last entries of the nodes' logs, side by side; `snapshots` are the last entries that their snapshots stand for."""
    table = tables.entries_table(logs, snapshots)
    return Shown(text.table_text(table), html.table_html(table))


def scenarios(descriptions: Mapping[str, str]) -> Shown:
    """The scenarios, by name."""
    table = tables.scenario_list(descriptions)
    return Shown(text.table_text(table), html.table_html(table))


def run(one: WorkflowRun[object]) -> Shown:
    """One run in one line."""
    steps = len(one.steps)
    return notice(
        f"run {one.run_id} of {one.workflow}, version {one.version}: {one.status}, {steps} {'step' if steps == 1 else 'steps'} recorded"
    )


def log(lines: Sequence[OutputLine], *, times: bool = False, omitted: int = 0) -> Shown:
    """Captured output."""
    return page(text.log_text(lines, times=times, omitted=omitted))


def events(history: Sequence[tuple[float, ClusterEvent]], *, times: bool = False, omitted: int = 0) -> Shown:
    """Events, one in a line."""
    return page(text.events_text(history, times=times, omitted=omitted))

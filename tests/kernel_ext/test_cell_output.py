"""What is noted of a cell's output, from the messages that a kernel sends."""

from __future__ import annotations

from typing import Any

import pytest

from kernel_ext.magics.cell_output import OutputRecorder, ShownOutput, encode_outputs


class Shell:
    """A shell whose output passes nowhere: the tests hand the messages over."""

    display_pub = displayhook = None


@pytest.fixture
def recorder() -> OutputRecorder:
    made = OutputRecorder(Shell())
    made._parent = "this"
    return made


def stream(name: str, text: str, parent: str = "this") -> dict[str, Any]:
    return {"msg_type": "stream", "parent_header": {"msg_id": parent}, "content": {"name": name, "text": text}}


def bundle(kind: str, data: dict[str, Any], display_id: str | None = None) -> dict[str, Any]:
    transient = {} if display_id is None else {"display_id": display_id}
    return {"msg_type": kind, "content": {"data": data, "metadata": {}, "transient": transient}}


def noted(recorder: OutputRecorder, *messages: dict[str, Any]) -> list[tuple[str, Any]]:
    for message in messages:
        assert recorder._message(message) is message, "it goes on to the page"
    return [(one.kind, one.text or one.data) for one in recorder.stop(())]


def test_text_of_one_stream_is_joined_and_that_of_other_cells_left_out(recorder: OutputRecorder) -> None:
    assert noted(
        recorder,
        stream("stdout", "a"),
        stream("stdout", "b\n"),
        stream("stdout", "of another cell", parent="other"),
        stream("stderr", "c"),
        stream("stdout", "d"),
    ) == [("stdout", "ab\n"), ("stderr", "c"), ("stdout", "d")]


def test_what_was_written_over_is_left_out(recorder: OutputRecorder) -> None:
    assert noted(
        recorder, stream("stderr", "\r 0%"), stream("stderr", "\r 50%\r100%\n"), stream("stderr", "x\r\ny")
    ) == [("stderr", "100%\nx\r\ny")]


def test_an_update_takes_the_place_of_what_it_updates(recorder: OutputRecorder) -> None:
    assert noted(
        recorder,
        bundle("display_data", {"text/plain": "one"}, "id"),
        stream("stdout", "a"),
        bundle("update_display_data", {"text/plain": "two"}, "id"),
        bundle("update_display_data", {"text/plain": "of an earlier cell"}, "unknown"),
    ) == [
        ("display", {"text/plain": "two"}),
        ("stdout", "a"),
        ("update", {"text/plain": "of an earlier cell"}),
    ]


@pytest.mark.parametrize("wait", [False, True])
def test_what_was_cleared_is_left_out(recorder: OutputRecorder, wait: bool) -> None:
    clear = {"msg_type": "clear_output", "content": {"wait": wait}}
    assert noted(recorder, stream("stdout", "old"), clear, stream("stdout", "new")) == [("stdout", "new")]


def test_a_clearing_that_waits_for_what_does_not_come_leaves_what_there_is(recorder: OutputRecorder) -> None:
    clear = {"msg_type": "clear_output", "content": {"wait": True}}
    assert noted(recorder, stream("stdout", "old"), clear) == [("stdout", "old")]


def test_of_a_widget_the_text_is_kept(recorder: OutputRecorder) -> None:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "  0%|  | 0/3"}
    assert noted(recorder, bundle("display_data", widget)) == [("display", {"text/plain": "  0%|  | 0/3"})]


def test_nothing_shown_takes_no_bytes() -> None:
    assert encode_outputs([]) is None
    assert encode_outputs([ShownOutput("stdout", "a")])

"""Captured output: what goes to a sink, what does not, and that the process's streams and handlers are as before."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import logging
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.node.captured_output import (
    Capture,
    LineBuffer,
    LineSink,
    Stream,
    capture,
    capturing,
    current_execution,
)
from raftoral_nb.threads.loop_thread import StepThreads

ROOT = Path(__file__).parents[2]


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.lines: list[tuple[Stream, str]] = []

    def __call__(self, stream: Stream, text: str) -> None:
        self.lines.append((stream, text))


@pytest.fixture
def installed() -> Iterator[Capture]:
    function = logging.Logger.callHandlers
    capture.install()
    yield capture
    capture.uninstall()
    assert not capture.installed
    assert logging.Logger.callHandlers is function


def with_streams(test: Callable[[io.StringIO], None]) -> Callable[[], None]:
    """Give a test the stream that stands in for stdout and stderr. No fixture: pytest sets both anew before each test."""

    def run() -> None:
        real = io.StringIO()
        with contextlib.redirect_stdout(real), contextlib.redirect_stderr(real):
            test(real)
            assert not capture.installed
            assert sys.stdout is sys.stderr is real

    run.__name__ = test.__name__
    return run


def with_capture(test: Callable[[io.StringIO], None]) -> Callable[[], None]:
    """As `with_streams`, with the capture installed."""

    @with_streams
    def run(real: io.StringIO) -> None:
        capture.install()
        try:
            test(real)
        finally:
            capture.uninstall()

    run.__name__ = test.__name__
    return run


@with_capture
def test_prints_of_an_execution_go_to_its_sink_by_lines_and_others_to_the_screen(real: io.StringIO) -> None:
    kept = Kept()
    print("before")
    with capturing(kept):
        print("one", end="")
        print(", two\nthree")
        print("to stderr", file=sys.stderr)
        print("partial", end="", flush=True)
        assert kept.lines == [("stdout", "one, two"), ("stdout", "three"), ("stderr", "to stderr")]
    print("after")
    assert kept.lines[3:] == [("stdout", "partial")]
    assert real.getvalue() == "before\nafter\n"


@with_capture
def test_executions_of_interleaved_tasks_do_not_mix(real: io.StringIO) -> None:
    kept = {name: Kept() for name in "ab"}

    async def workflow(name: str) -> None:
        with capturing(kept[name]):
            for number in range(3):
                print(name, end=" ")
                await asyncio.sleep(0)
                print(number)

    async def main() -> None:
        await asyncio.gather(workflow("a"), workflow("b"))

    asyncio.run(main())
    for name, sink in kept.items():
        assert sink.lines == [("stdout", f"{name} {number}") for number in range(3)]
    assert real.getvalue() == ""


@with_capture
def test_a_synchronous_steps_prints_belong_to_its_execution(real: io.StringIO) -> None:
    kept = Kept()

    async def main() -> None:
        steps = StepThreads()
        with capturing(kept):
            await steps.run(print, "from a thread", name="print")
        await steps.run(print, "outside", name="print")
        steps.close()

    asyncio.run(main())
    assert kept.lines == [("stdout", "from a thread")]
    assert real.getvalue() == "outside\n"


@with_capture
def test_what_an_abandoned_step_prints_after_the_end_still_goes_to_the_sink(real: io.StringIO) -> None:
    kept = Kept()
    with capturing(kept):
        late = contextvars.copy_context()
    late.run(print, "late", end="")
    late.run(print, "r")
    assert [text for _, text in kept.lines] == ["later"]
    assert real.getvalue() == ""


@with_capture
def test_lines_printed_by_many_threads_at_once_stay_whole(real: io.StringIO) -> None:
    kept = Kept()
    with capturing(kept):
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(print_often, number)) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(text for _, text in kept.lines) == sorted(f"{number}" * 50 for number in range(4) for _ in range(200))


def print_often(number: int) -> None:
    for _ in range(200):
        sys.stdout.write(f"{number}" * 50 + "\n")


@with_capture
def test_a_sink_that_prints_or_fails_harms_nobody(real: io.StringIO) -> None:
    def sink(stream: Stream, text: str) -> None:
        print("sink got", text)
        raise RuntimeError("the sink is broken")

    handler = logging.StreamHandler(real)
    logging.getLogger("raftoral_nb").addHandler(handler)
    with capturing(sink):
        print("hello")
        assert current_execution.get() is not None
    first, *traceback = real.getvalue().splitlines()
    assert first == "sink got hello"
    logging.getLogger("raftoral_nb").removeHandler(handler)
    assert traceback[-1] == "RuntimeError: the sink is broken"  # in the engine's log


def test_the_wrapped_stream_is_otherwise_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class OutStream(io.StringIO):
        """Like ipykernel's, it has attributes of its own, which people read and set."""

        topic = b"stream"
        parent: object = None

        def set_parent(self, parent: object) -> None:
            self.parent = parent

        def isatty(self) -> bool:
            return True

    stream = OutStream()
    monkeypatch.setattr(sys, "stdout", stream)
    own = Capture()
    own.install()
    try:
        out: Any = sys.stdout
        assert out is not stream
        assert [isinstance(out, kind) for kind in (OutStream, io.TextIOBase, io.BytesIO)] == [True, True, False]
        assert out.topic == b"stream"
        out.set_parent("cell 3")
        out.mark = 7
        assert (stream.parent, vars(stream)["mark"]) == ("cell 3", 7)
        del out.mark
        assert not hasattr(stream, "mark")
        assert repr(out) == repr(stream)
        assert "set_parent" in dir(out)
        out.writelines(["a\n", "b\n"])
        with pytest.raises(TypeError):
            out.write(3)
        with pytest.raises(AttributeError):
            _ = out.nothing
        assert out.isatty()
        kept = Kept()
        token = current_execution.set(kept)
        assert out.write("xyz") == 3
        out.writelines(["c\n", "d\n"])
        out.flush()
        assert not out.isatty()
        with pytest.raises(TypeError, match="must be str, not int"):
            out.write(3)
        current_execution.reset(token)
        assert [text for _, text in kept.lines] == ["xyz", "c\n", "d\n"]
        assert stream.getvalue() == "a\nb\n"
        out.seek(0)
        assert list(out) == ["a\n", "b\n"]
        out.seek(0)
        assert next(out) == "a\n"
    finally:
        own.uninstall()
    assert sys.stdout is stream


@with_streams
def test_it_stays_installed_until_its_last_user_has_gone(real: io.StringIO) -> None:
    capture.install()
    capture.install()
    capture.uninstall()
    kept = Kept()
    with capturing(kept):
        print("caught")
    capture.uninstall()
    capture.uninstall()  # once too often harms nobody
    assert sys.stdout is real
    with capturing(kept):
        print("not caught")
    assert kept.lines == [("stdout", "caught")]
    assert real.getvalue() == "not caught\n"


@with_streams
def test_when_others_wrapped_the_stream_meanwhile_it_becomes_transparent(real: io.StringIO) -> None:
    own = Capture()
    own.install()
    ours = sys.stdout

    class Upper(io.StringIO):
        def write(self, text: str) -> int:
            return ours.write(text.upper())

    kept = Kept()
    with contextlib.redirect_stdout(Upper()) as theirs:
        own.uninstall()
        assert sys.stdout is theirs
        token = current_execution.set(kept)
        print("through")
        current_execution.reset(token)
    assert sys.stdout is ours
    assert kept.lines == []
    assert real.getvalue() == "THROUGH\n"
    own.install()  # ours is still there, and works again
    assert sys.stdout is ours
    own.uninstall()
    assert sys.stdout is real


@with_capture
def test_an_execution_that_starts_after_the_streams_were_replaced_is_caught(real: io.StringIO) -> None:
    kept = Kept()
    before, other = sys.stdout, io.StringIO()
    sys.stdout = other
    with capturing(kept):
        print("caught")
    print("seen")
    sys.stdout = before
    assert kept.lines == [("stdout", "caught")]
    assert other.getvalue() == "seen\n"


def test_a_process_without_streams_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    own = Capture()
    own.install()
    own.uninstall()
    assert sys.stdout is None


@with_capture
def test_warnings_of_an_execution_are_its_output(real: io.StringIO) -> None:
    kept = Kept()
    with capturing(kept), warnings.catch_warnings():
        warnings.simplefilter("always")
        sys.stderr.write(warnings.formatwarning("careful", UserWarning, "cell", 3, ""))
    assert kept.lines[0] == ("stderr", "cell:3: UserWarning: careful")


# --- logging


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.output")
    logger.setLevel(logging.INFO)
    yield logger
    logger.setLevel(logging.NOTSET)


@pytest.mark.usefixtures("installed")
def test_records_of_an_execution_go_to_the_sink_and_to_no_handler(logger: logging.Logger) -> None:
    stream = io.StringIO()
    handlers = [logging.StreamHandler(stream), logging.StreamHandler(stream)]
    kept = Kept()
    logging.getLogger().addHandler(handlers[0])  # added after the capture was installed
    logger.addHandler(handlers[1])
    try:
        with capturing(kept):
            logger.info("charged %s", 3)
            logger.debug("below the level")
            logger.warning("wrong arguments: %d", "x")
            try:
                raise LookupError("lost")
            except LookupError:
                logger.exception("failed")
        assert stream.getvalue() == ""
        logger.info("outside")
        assert stream.getvalue() == "outside\noutside\n"
    finally:
        logging.getLogger().removeHandler(handlers[0])
        logger.removeHandler(handlers[1])
    texts = [text for stream, text in kept.lines if stream == "log"]
    assert texts[0] == "INFO tests.output: charged 3"
    assert texts[1].startswith("WARNING tests.output: 'wrong arguments: %d' % ('x',) (TypeError: ")
    assert texts[2] == "ERROR tests.output: failed"
    assert texts[3] == "Traceback (most recent call last):"
    assert texts[-1] == "LookupError: lost"
    assert len(texts) == len(kept.lines)


@pytest.mark.usefixtures("installed")
def test_records_of_the_engine_are_no_output_of_a_workflow(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    with capturing(kept):
        logging.getLogger("raftoral_nb.anything").warning("from the engine")
        logging.getLogger("raftoral_nb_user").warning("from a workflow")
    assert [text for _, text in kept.lines] == ["WARNING raftoral_nb_user: from a workflow"]
    assert "from the engine" in caplog.text
    assert "from a workflow" not in caplog.text


def test_when_others_wrapped_call_handlers_meanwhile_ours_becomes_transparent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = Capture()
    original = logging.Logger.callHandlers
    own.install()
    ours = logging.Logger.callHandlers

    def theirs(logger: logging.Logger, record: logging.LogRecord) -> None:
        ours(logger, record)

    setattr(logging.Logger, "callHandlers", theirs)  # noqa: B010
    try:
        own.uninstall()
        assert logging.Logger.callHandlers is theirs
        kept = Kept()
        token = current_execution.set(kept)
        logging.getLogger("tests.output").warning("transparent")
        current_execution.reset(token)
        assert kept.lines == []
        assert "transparent" in caplog.text
    finally:
        setattr(logging.Logger, "callHandlers", original)  # noqa: B010


def test_records_outside_reach_the_last_resort_and_basic_config_still_works() -> None:
    code = """
        import logging
        from raftoral_nb.node.captured_output import capture, capturing
        capture.install()
        kept = []
        logging.getLogger("a").warning("last resort")
        with capturing(lambda stream, text: kept.append(text)):
            logging.getLogger("a").warning("caught")
        logging.basicConfig(format="configured %(message)s")
        logging.getLogger("a").warning("outside")
        capture.uninstall()
        logging.getLogger("a").warning("afterwards")
        assert kept == ["WARNING a: caught"], kept
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == ["last resort", "configured outside", "configured afterwards"]


# --- lines


def test_a_line_that_is_too_long_is_cut_and_says_so() -> None:
    buffer = LineBuffer(limit=5)
    assert buffer.feed("12345\n") == ["12345"]
    assert buffer.feed("123") + buffer.feed("45678") + buffer.feed("9\nnext\n") == [
        "12345 … (4 more characters)",
        "next",
    ]
    assert buffer.flush() == []


def test_what_follows_a_carriage_return_replaces_the_line() -> None:
    buffer = LineBuffer()
    assert buffer.feed("10%\r20%") == []
    assert buffer.feed("\r") == []
    assert buffer.feed("30%\n") == ["30%"]
    assert buffer.feed("windows\r\nsplit\r") == ["windows"]
    assert buffer.feed("\n\n") == ["split", ""]
    assert buffer.feed("done\r") == []
    assert buffer.flush() == ["done"]


@given(st.lists(st.text(alphabet="ab\n\r", max_size=6), max_size=8))
def test_lines_do_not_depend_on_how_the_text_was_cut_into_pieces(pieces: list[str]) -> None:
    one, many = LineBuffer(limit=4), LineBuffer(limit=4)
    expected = one.feed("".join(pieces)) + one.flush()
    assert [line for piece in pieces for line in many.feed(piece)] + many.flush() == expected


def test_a_sinks_streams_have_lines_of_their_own() -> None:
    kept = Kept()
    lines = LineSink(kept)
    lines("stdout", "out")
    lines("stderr", "err\n")
    lines.close()
    lines.close()
    assert kept.lines == [("stderr", "err"), ("stdout", "out")]

"""Exceptions recorded as data, and rebuilt."""

from __future__ import annotations

import asyncio
import linecache
import re
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from raftoral_nb import errors, limits
from raftoral_nb.core.records import Failure
from raftoral_nb.workflow.codec.failures import StepTraceback, capture, rebuild
from raftoral_nb.workflow.shipping import definitions

RunCell = Callable[..., dict[str, Any]]


def raised(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_an_exception_comes_back_with_type_and_arguments() -> None:
    failure = capture(raised(lambda: dict[str, int]()["x"]))
    assert (failure.type_name, failure.message, str(failure)) == ("KeyError", "'x'", "KeyError: 'x'")
    rebuilt = rebuild(failure, step_id="0/load")
    assert type(rebuilt) is KeyError
    assert rebuilt.args == ("x",)


def test_the_traceback_shows_the_source_line() -> None:
    def deliver() -> None:
        raise ValueError("no such street")

    failure = capture(raised(deliver))
    assert 'raise ValueError("no such street")' in failure.traceback
    assert failure.traceback.rstrip().endswith("ValueError: no such street")


def test_the_rebuilt_exception_shows_where_the_step_failed() -> None:
    def deliver() -> None:
        raise ValueError("no such street")

    def await_step() -> None:
        raise rebuild(capture(raised(deliver)), step_id="0/deliver")

    error = raised(await_step)
    assert isinstance(error.__cause__, StepTraceback)
    text = "".join(traceback.format_exception(error))
    assert "in deliver" in text
    assert "direct cause" in text
    assert "in await_step" in text


def test_an_error_of_ours_that_ended_a_run_shows_its_line_and_of_a_step_its_message_alone() -> None:
    def careless() -> None:
        raise errors.BadArgumentError("no length of time")

    failure = capture(raised(careless))
    assert "in careless" in str(rebuild(failure, step_id="").__cause__)
    assert rebuild(failure, step_id="0/a").__cause__ is None


class NeedsTwoError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class RenamesError(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(f"code {code}")


class BombError(Exception):
    def __reduce__(self) -> Any:
        return (int, ("no number",))


class OtherTypeError(Exception):
    def __reduce__(self) -> Any:
        return (ValueError, self.args)


class RudeStrError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error",
    [NeedsTwoError(1, 2), RenamesError("x"), BombError("x"), OtherTypeError("x"), ValueError(threading.Lock())],
    ids=["other arguments", "other message", "does not unpickle", "another type", "does not pickle"],
)
def test_an_exception_keeps_its_class_and_message_though_its_own_pickle_would_not(error: Exception) -> None:
    rebuilt = rebuild(capture(error), step_id="3/send")
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == re.sub(" at 0x[0-9a-f]+", "", str(error))  # as a text that stands for an object


def test_an_argument_that_is_too_large_is_cut_and_that_is_said() -> None:
    lost: list[str] = []
    failure = capture(ValueError("x" * 1_000_000, 5), say=lost.append)
    assert len(failure.exception or b"") <= limits.MAX_FAILURE_EXCEPTION_BYTES
    rebuilt = rebuild(failure, step_id="3/send")
    assert type(rebuilt) is ValueError
    assert rebuilt.args[1] == 5
    assert set(rebuilt.args[0]) == {"x"}
    assert len(lost) == 1
    assert "ValueError.args[0] (1,000,009 bytes are too many)" in lost[0]
    assert "ValueError.args[0] (1,000,009 bytes are too many)" in failure.traceback


def test_an_exception_whose_class_is_not_to_be_had_is_recorded_as_text() -> None:
    lock = threading.Lock()

    class LocalError(Exception):
        held = lock

    lost: list[str] = []
    failure = capture(LocalError("x"), say=lost.append)
    assert failure.exception is None
    assert len(lost) == 1
    assert "LocalError itself (TypeError: cannot pickle '_thread.lock' object)" in lost[0]
    rebuilt = rebuild(failure, step_id="3/send")
    assert isinstance(rebuilt, errors.StepFailedError)
    assert (rebuilt.step_id, rebuilt.failure) == ("3/send", failure)


def test_an_exception_whose_text_raises_is_recorded() -> None:
    failure = capture(raised(lambda: (_ for _ in ()).throw(RudeStrError())))
    assert failure.message == "<its __str__ raised RuntimeError>"
    assert type(rebuild(failure, step_id="0/x")) is RudeStrError
    assert "RudeStrError" in failure.traceback


def test_bytes_that_do_not_unpickle_here_give_a_step_failure() -> None:
    failure = Failure("lib.Error", "gone", "", b"cno_such_module\nname\n.")
    assert isinstance(rebuild(failure, step_id="0/x"), errors.StepFailedError)
    no_exception = Failure("lib.Error", "gone", "", b"I1\n.")
    assert isinstance(rebuild(no_exception, step_id="0/x"), errors.StepFailedError)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
def test_what_ends_a_thread_or_task_does_not_come_back_to_life(error: BaseException) -> None:
    failure = capture(error)
    assert failure.exception is None
    assert isinstance(rebuild(failure, step_id="0/x"), errors.StepFailedError)


def test_our_own_errors_round_trip() -> None:
    inner = capture(ValueError("x"))
    for error in (errors.StepFailedError("0/x", inner), errors.WorkflowFailedError("r1", inner)):
        rebuilt = rebuild(capture(error), step_id="1/y")
        assert type(rebuilt) is type(error)
        assert rebuilt.failure == inner


def test_causes_contexts_groups_and_notes_are_in_the_text() -> None:
    def fail() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("second") from error
        except ValueError as error:
            error.add_note("a note")
            raise ExceptionGroup("several", [error, TypeError("third")]) from None

    failure = capture(raised(fail))
    for text in ("first", "second", "direct cause", "a note", "third", "several"):
        assert text in failure.traceback
    assert isinstance(rebuild(failure, step_id="0/x"), ExceptionGroup)


def test_frames_of_the_engine_and_of_asyncio_are_left_out() -> None:
    async def flow(ctx: Any, value: Any) -> None:
        await asyncio.wait_for(inner(), 10)

    async def inner() -> None:
        raise ValueError("deep")

    failure = capture(raised(lambda: asyncio.run(definitions.workflow(flow)(None, None))))  # type: ignore[arg-type]
    assert "in flow" in failure.traceback
    assert "in inner" in failure.traceback
    assert "asyncio/" not in failure.traceback
    assert "definitions.py" not in failure.traceback


def test_an_error_raised_by_the_engine_shows_the_users_frames_only() -> None:
    def user() -> None:
        definitions.workflow(3)  # type: ignore[call-overload]

    failure = capture(raised(user))
    assert "in user" in failure.traceback
    assert "definitions.py" not in failure.traceback
    assert failure.type_name == "raftoral_nb.errors.WorkflowDefinitionError"


def test_lines_come_from_the_definition_where_the_cell_is_gone(run_cell: RunCell) -> None:
    cell = run_cell("def boom():\n    raise ValueError('from the cell')\n")
    name = cell["boom"].__code__.co_filename
    text = "".join(linecache.cache.pop(name)[2])  # type: ignore[misc]
    error = raised(cell["boom"])
    assert "raise ValueError(" not in capture(error).traceback
    assert "raise ValueError('from the cell')" in capture(error, definition_sources={name: text}).traceback
    assert capture(error).type_name == "ValueError"
    linecache.cache.pop(name)


def test_an_exception_class_of_the_notebook_is_named_plainly_and_rebuilt(run_cell: RunCell) -> None:
    cell = run_cell("class OutOfStock(Exception):\n    limit = 1\n")
    failure = capture(cell["OutOfStock"]("A1"))
    out_of_stock: Any = cell["OutOfStock"]
    out_of_stock.limit = 2
    assert failure.type_name == "OutOfStock"
    rebuilt = rebuild(failure, step_id="0/x")
    assert out_of_stock.limit == 2
    assert type(rebuilt) is out_of_stock


def test_long_texts_are_cut_in_the_middle() -> None:
    failure = capture(ValueError("a" * 100_000 + "z"))
    assert len(failure.message) <= limits.MAX_FAILURE_TEXT
    assert len(failure.traceback) <= limits.MAX_FAILURE_TEXT
    assert failure.message.endswith("z")
    assert "characters left out" in failure.message


def test_an_endless_recursion_is_recorded() -> None:
    def again() -> None:
        again()

    failure = capture(raised(again))
    assert failure.type_name == "RecursionError"
    assert "repeated" in failure.traceback

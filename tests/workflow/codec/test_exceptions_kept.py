"""Exceptions of every make come back with their class and attributes, without their `__init__` being called."""

from __future__ import annotations

import collections
import dataclasses
import http.server
import io
import pickle
import socket
import subprocess
import sys
import threading
import types
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Self

import cloudpickle
import pytest

from raftoral_nb import WorkflowContext, errors, limits
from raftoral_nb.core.records import Failure
from raftoral_nb.testing import workflow_test
from raftoral_nb.workflow.codec import bodies, exceptions, failures, values

RunCell = Callable[..., dict[str, Any]]


def back(error: Exception, *lost: str) -> Any:
    """The exception as a workflow gets it. `lost` are the parts that are said to be left out."""
    told: list[str] = []
    failure = failures.capture(error, say=told.append)
    assert [text.partition("recorded without ")[2].partition(" (")[0] for text in told] == list(lost)
    assert len(failure.exception or b"") <= limits.MAX_FAILURE_EXCEPTION_BYTES
    rebuilt = failures.rebuild(failure, step_id="0/x")
    assert type(rebuilt) is type(error), rebuilt
    return rebuilt


class CardDeclined(Exception):  # noqa: N818
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Busy(Exception):  # noqa: N818
    def __init__(self, *, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Slotted(Exception):  # noqa: N818
    __slots__ = ("__private", "code")

    def __init__(self, *, code: int) -> None:
        self.code = code
        self.__private = code + 1

    @property
    def private(self) -> int:
        return self.__private


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818
    code: int
    text: str = "frozen"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FrozenSlots(Exception):  # noqa: N818
    code: int


class Immutable(Exception):  # noqa: N818
    def __init__(self, code: int) -> None:
        self.__dict__["code"] = code

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} is read-only")


class OwnNew(Exception):  # noqa: N818
    code: int

    def __new__(cls, code: int, text: str) -> Self:
        self = super().__new__(cls, text)
        self.code = code
        return self


class OwnReduce(Exception):  # noqa: N818
    def __init__(self, code: int, unused: object) -> None:
        super().__init__(code)
        self.code = code

    def __reduce__(self) -> Any:
        return (type(self), (self.code, None))


class NeedsFile(OSError):  # noqa: N818
    def __init__(self, path: str, *, lines: int) -> None:
        super().__init__(2, "gone", path)
        self.lines = lines


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CardDeclined(402, "no funds"), {"code": 402}),
        (Busy(status=503, detail="later"), {"status": 503}),
        (Slotted(code=1), {"code": 1, "private": 2}),
        (Frozen(7), {"code": 7, "text": "frozen"}),
        (FrozenSlots(code=7), {"code": 7}),
        (Immutable(7), {"code": 7}),
        (OwnNew(7, "x"), {"code": 7}),
        (OwnReduce(7, lambda: 1), {"code": 7}),
        (NeedsFile("a.txt", lines=3), {"errno": 2, "strerror": "gone", "filename": "a.txt", "lines": 3}),
        (OSError(2, "gone", "a", None, "b"), {"filename": "a", "filename2": "b", "errno": 2, "args": (2, "gone")}),
        (ImportError("no", name="n", path="p"), {"name": "n", "path": "p", "msg": "no"}),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
            {"object": b"\xff", "start": 0, "end": 1, "encoding": "utf-8"},
        ),
        (SyntaxError("bad", ("f", 3, 5, "x = ")), {"lineno": 3, "filename": "f", "offset": 5, "text": "x = "}),
        (KeyError("x"), {"args": ("x",)}),
        (StopIteration(3), {"value": 3}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_class_message_arguments_and_attributes_come_back(error: Exception, expected: dict[str, Any]) -> None:
    rebuilt = back(error)
    assert str(rebuilt) == str(error)
    assert rebuilt.args == error.args
    assert {name: getattr(rebuilt, name) for name in expected} == expected


def test_an_exception_that_is_a_value_comes_back_too() -> None:
    _, [returned] = values.round_trip([CardDeclined(402, "no funds")], what="x")
    assert (type(returned), returned.code, str(returned)) == (CardDeclined, 402, "no funds")


def test_an_operating_system_error_with_an_error_number_set_later_keeps_its_class() -> None:
    error = OSError("odd")
    error.errno = 2
    assert back(error).errno == 2


def test_notes_come_back_and_one_can_be_added_to_an_exception_that_is_frozen() -> None:
    error = Frozen(1)
    exceptions.add_note(error, "one")
    assert back(error).__notes__ == ["one"]


def test_attributes_that_do_not_pickle_are_left_out_and_named() -> None:
    error: Any = CardDeclined(402, "no funds")
    error.lock, error.file, error.kept = threading.Lock(), io.TextIOWrapper(io.BytesIO()), [1]
    rebuilt = back(
        error, "tests.workflow.codec.test_exceptions_kept.CardDeclined.lock", f"{__name__}.CardDeclined.file"
    )
    assert (rebuilt.code, rebuilt.kept) == (402, [1])
    assert not hasattr(rebuilt, "lock")
    assert not hasattr(rebuilt, "file")


def test_an_attribute_that_is_too_large_is_left_out_and_named() -> None:
    error: Any = CardDeclined(402, "no funds")
    error.body, error.after = b"x" * limits.MAX_FAILURE_EXCEPTION_BYTES, 1
    rebuilt = back(error, f"{__name__}.CardDeclined.body")
    assert (rebuilt.code, rebuilt.after) == (402, 1)
    assert not hasattr(rebuilt, "body")


def test_attributes_that_are_too_large_together_are_left_out_from_the_one_on_that_does_not_fit() -> None:
    error: Any = CardDeclined(402, "no funds")
    error.one, error.two, error.three = (b"x" * (limits.MAX_FAILURE_EXCEPTION_BYTES // 5 * 2) for _ in range(3))
    rebuilt = back(error, f"{__name__}.CardDeclined.three")
    assert len(rebuilt.one) == len(rebuilt.two)


def test_of_containers_is_kept_what_can_be() -> None:
    Info = collections.namedtuple("Info", "url lock headers")  # noqa: PYI024  # one of another library
    Info.__qualname__, globals()["Info"] = "Info", Info
    error: Any = CardDeclined(402, "no funds")
    error.info = Info("u", threading.Lock(), types.MappingProxyType({"a": 1}))
    error.found = {"a": 1, "b": threading.Lock()}
    try:
        rebuilt = back(error, f"{__name__}.CardDeclined.info[1]", f"{__name__}.CardDeclined.found.b")
        assert (rebuilt.info.url, rebuilt.info.headers, rebuilt.found) == ("u", {"a": 1}, {"a": 1})
        assert "lock" in rebuilt.info.lock
    finally:
        del globals()["Info"]


def test_exceptions_within_an_exception_come_back_also_when_they_refer_to_each_other() -> None:
    outer: Any = CardDeclined(402, "no funds")
    inner: Any = Busy(status=503, detail="later")
    inner.lock, inner.outer = threading.Lock(), outer
    outer.inner = inner
    outer.args = ("no funds", inner)
    rebuilt = back(outer, f"{__name__}.Busy.lock")
    assert rebuilt.inner.status == 503
    assert rebuilt.inner.outer is rebuilt
    assert rebuilt.args[1] is rebuilt.inner


# --- groups


class OwnGroup(ExceptionGroup[Exception]):
    def __new__(cls, errors: list[Exception]) -> Self:
        self = super().__new__(cls, "own", errors)
        self.count = len(errors)
        return self

    count: int


def test_the_members_of_a_group_come_back_also_of_groups_in_it() -> None:
    nested = ExceptionGroup("inner", [Busy(status=503, detail="later"), KeyError("x")])
    rebuilt = back(ExceptionGroup("outer", [CardDeclined(1, "a"), nested]))
    assert (rebuilt.message, rebuilt.exceptions[0].code) == ("outer", 1)
    assert rebuilt.exceptions[1].exceptions[0].status == 503
    assert type(rebuilt.exceptions[1].exceptions[1]) is KeyError
    matched, rest = rebuilt.split(Busy)
    assert (len(matched.exceptions), len(rest.exceptions)) == (1, 2)


def test_a_group_of_a_class_of_its_own_keeps_its_attributes() -> None:
    rebuilt = back(OwnGroup([CardDeclined(1, "a"), ValueError("b")]))
    assert (rebuilt.count, rebuilt.message, len(rebuilt.exceptions)) == (2, "own", 2)


def test_a_member_whose_class_is_not_to_be_had_does_not_take_the_others_along() -> None:
    lock = threading.Lock()

    class LocalError(Exception):
        held = lock

    told: list[str] = []
    failure = failures.capture(ExceptionGroup("two", [LocalError("x"), CardDeclined(1, "a")]), say=told.append)
    rebuilt: Any = failures.rebuild(failure, step_id="0/x")
    assert isinstance(rebuilt, ExceptionGroup)
    found: Any = rebuilt.exceptions
    text, declined = found
    assert type(text) is errors.StepFailedError
    assert str(text).endswith("LocalError: x")
    assert (type(declined), declined.code) == (CardDeclined, 1)
    assert "LocalError itself" in told[0]


def test_a_member_whose_module_is_gone_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("gone_later")
    exec("class GoneError(Exception): pass", module.__dict__)
    monkeypatch.setitem(__import__("sys").modules, "gone_later", module)
    failure = failures.capture(ExceptionGroup("two", [module.GoneError("x"), CardDeclined(1, "a")]))
    monkeypatch.undo()
    rebuilt: Any = failures.rebuild(failure, step_id="0/x")
    assert [type(one) for one in rebuilt.exceptions] == [errors.StepFailedError, CardDeclined]


def test_a_member_that_refers_to_its_group_loses_that_attribute() -> None:
    member: Any = CardDeclined(1, "a")
    group = ExceptionGroup("one", [member])
    member.group = group
    rebuilt = back(group, f"{__name__}.CardDeclined.group")
    assert rebuilt.exceptions[0].code == 1


# --- of libraries


@pytest.fixture
def missing() -> Iterator[str]:
    """An address at which a web server has nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "13")
            self.end_headers()
            self.wfile.write(b"no such thing")

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/x"
        server.shutdown()
        thread.join()


def test_an_error_of_urllib_comes_back_without_its_connection(missing: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(missing)
    failure = failures.capture(caught.value)
    caught.value.close()
    rebuilt = failures.rebuild(failure, step_id="0/x")
    assert isinstance(rebuilt, urllib.error.HTTPError)
    assert (rebuilt.code, rebuilt.reason, rebuilt.filename) == (404, "Not Found", missing)
    assert rebuilt.headers["Content-Length"] == "13"
    with rebuilt:
        assert rebuilt.read() == b""


def test_the_body_of_an_error_of_urllib_is_read_where_the_step_ran_if_it_is_small(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        bodies.call(lambda: urllib.request.urlopen(missing))
    for _ in range(2):
        rebuilt = back(caught.value)
        assert (rebuilt.code, rebuilt.url, rebuilt.read()) == (404, missing, b"no such thing")
    assert caught.value.read() == b"no such thing"
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 12)
    with pytest.raises(urllib.error.HTTPError) as large:
        bodies.call(lambda: urllib.request.urlopen(missing))
    assert back(large.value).read() == b""
    assert large.value.read() == b"no such thing"


def test_a_body_that_never_comes_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 500 Broken\r\nContent-Length: 5\r\n\r\n")
                connection.recv(65536)
                ended.wait(60)

        ended = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with pytest.raises(urllib.error.HTTPError) as caught:
                bodies.call(lambda: urllib.request.urlopen(f"http://127.0.0.1:{server.getsockname()[1]}/"))
        finally:
            ended.set()
            thread.join()
    assert back(caught.value).read() == b""
    caught.value.close()


def test_a_step_and_its_workflow_read_the_body(missing: str) -> None:
    def ask() -> None:
        urllib.request.urlopen(missing)

    async def flow(ctx: WorkflowContext, value: None) -> Any:
        try:
            await ctx.compute("ask", ask)
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    with workflow_test(nodes=2) as test:
        assert test.finish(test.start(flow, None)) == (404, b"no such thing")


def test_an_error_of_urllib_over_bytes_in_memory_can_be_read() -> None:
    body: Any = io.BytesIO(b"no such thing")
    rebuilt = back(urllib.error.HTTPError("http://127.0.0.1/x", 404, "Not Found", {}, body))  # type: ignore[arg-type]
    assert (rebuilt.code, rebuilt.read()) == (404, b"no such thing")


def test_errors_of_httpx_come_back(missing: str) -> None:
    httpx = pytest.importorskip("httpx", reason="comes with JupyterLab")
    with pytest.raises(httpx.HTTPStatusError) as caught:
        httpx.get(missing).raise_for_status()
    rebuilt = back(caught.value)
    assert (rebuilt.response.status_code, rebuilt.response.text) == (404, "no such thing")
    assert rebuilt.request.url == missing


def test_errors_of_requests_come_back(missing: str) -> None:
    requests = pytest.importorskip("requests", reason="comes with JupyterLab")
    with pytest.raises(requests.HTTPError) as caught:
        requests.get(missing, timeout=10).raise_for_status()
    rebuilt = back(caught.value)
    assert (rebuilt.response.status_code, rebuilt.response.text) == (404, "no such thing")
    with pytest.raises(requests.ConnectionError) as refused:
        requests.get("http://127.0.0.1:1/", timeout=10)
    again: Any = failures.rebuild(failures.capture(refused.value), step_id="0/x")
    assert type(again) is requests.ConnectionError
    assert again.request.url == "http://127.0.0.1:1/"
    assert str(again) == str(refused.value)


# --- of notebooks, and of yesterday


def test_an_exception_of_a_cell_matches_the_class_of_the_cell(run_cell: RunCell) -> None:
    cell = run_cell(
        "class CardDeclined(Exception):\n"
        "    def __init__(self, code, *, text):\n        super().__init__(text)\n        self.code = code\n"
    )
    rebuilt = back(cell["CardDeclined"](402, text="no"))
    assert (rebuilt.code, str(rebuilt)) == (402, "no")


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_records_of_earlier_versions_are_read(dumps: Callable[[object], bytes]) -> None:
    error = KeyError("x")
    error.add_note("a note")
    rebuilt = failures.rebuild(Failure("KeyError", "'x'", "", dumps(error)), step_id="0/x")
    assert (type(rebuilt), rebuilt.args, rebuilt.__notes__) == (KeyError, ("x",), ["a note"])
    group = ExceptionGroup("g", [ValueError("a")])
    rebuilt_group: Any = failures.rebuild(Failure("ExceptionGroup", "g", "", dumps(group)), step_id="0/x")
    assert type(rebuilt_group.exceptions[0]) is ValueError


TOLD = """
import pickle, sys
if sys.argv[1] == "with":
    import distributed
from raftoral_nb.workflow.codec import values

class Odd(Exception):
    def __reduce__(self):
        return Odd, ("again",)

made = [StopIteration(3), OSError(2, "no such file", "x"), ExceptionGroup("two", [ValueError(1), KeyError("k")]), Odd("once")]
for error in made:
    try:
        raise error from ZeroDivisionError()
    except Exception:
        pass
print([values.encode(error, what="an error").hex() for error in made], [values.digest(error) for error in made])
"""


def test_exceptions_pickle_the_same_whether_or_not_distributed_was_imported() -> None:
    pytest.importorskip("distributed")
    told = [
        subprocess.run([sys.executable, "-c", TOLD, how], capture_output=True, text=True, check=True, timeout=60).stdout
        for how in ("with", "without")
    ]
    assert told[0] == told[1]

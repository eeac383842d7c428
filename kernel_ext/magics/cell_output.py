"""What a cell shows: noted while it runs, and shown again where it is restored.

In a kernel everything passes by hooks: text by those of the thread that sends it, pictures and values by those of the cell's thread. In a
terminal all of it is text.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import msgspec

from ..shown.display import WIDGET_VIEW

_SECONDS: Final = 5.0
"""How long the thread that sends output may take to take on a hook."""

_OVERWRITTEN: Final = re.compile(r"[^\n]*\r(?=[^\n\r])")
"""Text that a carriage return has written over, as bars of progress do."""


class ShownOutput(msgspec.Struct):
    """One output of a cell."""

    kind: Literal["stdout", "stderr", "display", "update", "result"]
    text: str = ""
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    display_id: str | None = None


def encode_outputs(outputs: list[ShownOutput]) -> bytes | None:
    """The outputs as bytes; None if there are none."""
    return msgspec.msgpack.encode(outputs) if outputs else None


class OutputRecorder:
    """Notes what the running cell shows, from `start` to `stop`."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._outputs: list[ShownOutput] = []
        self._clear = False
        self._undo: list[Callable[[], object]] = []
        self._parent = ""

    def start(self) -> None:
        """Begin."""
        self._parent = _message_id(getattr(self._shell, "parent_header", None))
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if hasattr(stream, "register_hook") and hasattr(stream, "pub_thread"):
                self._hook_stream(stream)
            else:
                self._tee(name, stream)
        for part in (self._shell.display_pub, self._shell.displayhook):
            if hasattr(part, "register_hook"):
                part.register_hook(self._message)
                self._undo.append(partial(part.unregister_hook, self._message))

    def stop(self, results: tuple[Any, ...]) -> list[ShownOutput]:
        """End; returns what was shown, as it was at the end: what was updated, cleared or written over is left out.

        `results` is the value that the cell's last line displayed, if it did.
        """
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        while self._undo:
            self._undo.pop()()
        hooked = hasattr(self._shell.displayhook, "register_hook") or not hasattr(
            self._shell.display_pub, "register_hook"
        )
        if results and not hooked:  # an earlier ipykernel
            data, metadata = self._shell.display_formatter.format(results[0])
            self._outputs.append(ShownOutput("result", "", data, metadata))
        for one in self._outputs:
            one.text = _OVERWRITTEN.sub("", one.text)
        return self._outputs

    def _hook_stream(self, stream: Any) -> None:
        """Hooks of streams are those of the thread that sends them."""
        _flush(stream)
        _in_thread(stream, lambda: stream.register_hook(self._message))
        self._undo.append(lambda: _in_thread(stream, lambda: stream.unregister_hook(self._message)))

    def _tee(self, name: str, stream: Any) -> None:
        tee = _Tee(stream, lambda text: self._text("stdout" if name == "stdout" else "stderr", text))
        setattr(sys, name, tee)

        def undo() -> None:
            if getattr(sys, name) is tee:
                setattr(sys, name, stream)

        self._undo.append(undo)

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        content = message.get("content", {})
        kind = message.get("msg_type") or message.get("header", {}).get("msg_type")
        parent = _message_id(message)
        if kind == "stream":
            if not parent or not self._parent or parent == self._parent:
                self._text(content["name"], content["text"])
        elif kind == "clear_output":
            self._clear = bool(content.get("wait"))
            if not self._clear:
                self._outputs.clear()
        elif kind in {"display_data", "update_display_data", "execute_result"}:
            self._bundle(kind, content)
        return message

    def _text(self, name: Literal["stdout", "stderr"], text: str) -> None:
        self._cleared()
        last = self._outputs[-1] if self._outputs else None
        if last is not None and last.kind == name:
            last.text += text
        else:
            self._outputs.append(ShownOutput(name, text))

    def _bundle(self, kind: str, content: dict[str, Any]) -> None:
        self._cleared()
        data = {mime: one for mime, one in content["data"].items() if mime != WIDGET_VIEW}
        display_id = (content.get("transient") or {}).get("display_id")
        metadata = dict(content.get("metadata") or {})
        if kind == "update_display_data":
            for one in self._outputs:
                if one.kind != "update" and one.display_id == display_id:
                    one.data, one.metadata = data, metadata
                    return
        known: Any = {"display_data": "display", "update_display_data": "update", "execute_result": "result"}
        self._outputs.append(ShownOutput(known[kind], "", data, metadata, display_id))

    def _cleared(self) -> None:
        if self._clear:
            self._outputs.clear()
            self._clear = False


def show_again(shell: Any, encoded: bytes | None, results: tuple[Any, ...]) -> None:
    """Shows outputs again; `results` is the value that the cell displayed, which is then `_` and the cell's `Out`."""
    outputs = [] if encoded is None else msgspec.msgpack.decode(encoded, type=list[ShownOutput])
    hook = shell.displayhook
    for one in outputs:
        if one.kind in {"stdout", "stderr"}:
            stream = sys.stdout if one.kind == "stdout" else sys.stderr
            stream.write(one.text)
            stream.flush()
        elif one.kind == "result":
            hook.start_displayhook()
            hook.write_output_prompt()
            hook.write_format_data(one.data, one.metadata)
            hook.finish_displayhook()
        else:
            transient = {} if one.display_id is None else {"display_id": one.display_id}
            shell.display_pub.publish(
                data=one.data, metadata=one.metadata, transient=transient, update=one.kind == "update"
            )
    for value in results:
        hook.update_user_ns(value)
        hook.fill_exec_result(value)


class _Tee:
    """A stream that also tells what is written to it."""

    def __init__(self, stream: Any, tell: Callable[[str], None]) -> None:
        self._stream = stream
        self._tell = tell

    def write(self, text: str) -> int:
        """Writes, and tells."""
        written: int = self._stream.write(text)
        self._tell(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _in_thread(stream: Any, do: Callable[[], object]) -> None:
    """Does it in the thread that sends the stream's text, and waits until it is done."""
    done = threading.Event()

    def act() -> None:
        try:
            do()
        finally:
            done.set()

    stream.pub_thread.schedule(act)
    done.wait(_SECONDS)


def _flush(stream: Any) -> None:
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()


def _message_id(message: Any) -> str:
    """The id of the request that a message answers."""
    header = message.get("parent_header") or message.get("header") or {} if isinstance(message, dict) else {}
    return str(header.get("msg_id", ""))

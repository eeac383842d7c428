"""Serves a cluster's metrics over HTTP, to whatever on this machine asks for them."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import BadArgumentError, PortInUseError
from ..threads.seconds import Seconds, patience
from ..transport.forked import keep_to_this_process
from .metrics import CONTENT_TYPE

HOST: Final = "127.0.0.1"
LOCAL_NAMES: Final = frozenset({HOST, "localhost"})
"""The names that a request may have for this machine. A page of the web that has its own name point here is refused."""
REQUEST_SECONDS: Final = 5.0
"""The time a client may take to send its request (seconds); requests are answered one after the other."""
ACCEPT_PAUSE: Final = 1.0
"""Seconds without accepting after the system refused to."""
MAX_PORT: Final = 65_535


class MetricsServer:
    """Answers `GET /metrics` on 127.0.0.1 with what `page()` returns, until `stop`. It waits for requests, and polls nothing.

    `address` is what to give to whoever collects metrics. Raises `PortInUseError`, or `BadArgumentError` for what is no port.
    """

    def __init__(self, page: Callable[[], str], port: int, name: str) -> None:
        given: object = port
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= port <= MAX_PORT:
            raise BadArgumentError(f"port is a whole number from 0 (any that is free) to {MAX_PORT}, not {port!r}")
        try:
            self._server = _Server((HOST, port), _handler(page))
        except OSError as problem:
            raise PortInUseError(
                f"port {port} of {HOST} cannot be opened ({problem.strerror or problem}); port 0 takes any that is free"
            ) from None
        self.port: int = self._server.server_address[1]
        self.address = f"http://{HOST}:{self.port}/metrics"
        self._ended = self._server.ended
        self._thread = threading.Thread(target=self._main, name=f"{name}-metrics", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        with self._server:
            while not self._ended.is_set():
                self._server.handle_request()  # waits for one

    @property
    def running(self) -> bool:
        """True if the server answers."""
        return not self._ended.is_set()

    def stop(self, timeout: Seconds | None = REQUEST_SECONDS + 1) -> bool:
        """Answer no more, and free the port; False if a request kept it for more than `timeout` seconds (or a `timedelta`). Idempotent."""
        longest = patience(timeout, "the stop of a metrics server")
        self._ended.set()
        # A connection ends the waiting for one.
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
            pass
        self._thread.join(longest)
        return not self._thread.is_alive()

    def __repr__(self) -> str:
        return f"<MetricsServer {self.address}: {'running' if self.running else 'stopped'}>"


class _Server(http.server.HTTPServer):
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self.ended = threading.Event()
        super().__init__(address, handler)
        keep_to_this_process(self.socket)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a request, with a pause after an error (no descriptors left, say): the waiting client would be retried at once."""
        try:
            return super().get_request()
        except OSError as error:
            if not isinstance(error, BlockingIOError | InterruptedError | ConnectionAbortedError):
                self.ended.wait(ACCEPT_PAUSE)
            raise

    def server_bind(self) -> None:
        """Bind as the library does, but without asking the network for this machine's name."""
        super(http.server.HTTPServer, self).server_bind()
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked went away, or asked for nothing that can be read: nobody needs to know."""


def _handler(page: Callable[[], str]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server_version = "raftoral-nb"
        sys_version = ""

        def setup(self) -> None:
            """Gives the request its time as a whole: `timeout` is for each read, and somebody could send a byte at a time for ever."""
            super().setup()
            self._late = threading.Timer(REQUEST_SECONDS, self._give_up)
            self._late.daemon = True
            self._late.start()

        def finish(self) -> None:
            """Finish a request that is answered, or given up."""
            self._late.cancel()
            super().finish()

        def _give_up(self) -> None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def do_GET(self) -> None:
            """Answers one request."""
            if urlsplit(f"//{self.headers.get('Host', HOST)}").hostname not in LOCAL_NAMES:
                self.send_error(421, "this is served to this machine only")
                return
            if urlsplit(self.path).path != "/metrics":
                self.send_error(404, "there is only /metrics")
                return
            body = page().encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing: lines on stderr would land in some cell."""

    return Handler

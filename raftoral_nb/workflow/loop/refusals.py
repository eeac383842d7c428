"""What the loop of a workflow refuses: sockets, subprocesses, signals, executors, and to be run by anyone but its driver."""

from __future__ import annotations

import asyncio
import sys
from types import CodeType, FrameType
from typing import Any, ClassVar

from ...errors import NotInWorkflowError
from ...threads.user_code import is_users, short_file_name


def _refused(name: str, what: str = "") -> Any:
    """Return a method that refuses, and names itself."""

    def refuse(loop: RefusingLoop, *_args: object, **_options: object) -> None:
        raise loop.refusal(what or f"loop.{name}()")

    refuse.__name__ = name
    refuse.__doc__ = "Refuse: it belongs into a step."
    return refuse


class RefusingLoop(asyncio.AbstractEventLoop):
    """The part of a workflow's loop that is not to be had. Each method raises `NotInWorkflowError`, at once, also those to be awaited."""

    DRIVER: ClassVar[frozenset[CodeType]] = frozenset()
    """Behind their frames is what drives the workflow, and no code of it."""

    @classmethod
    def refusal(cls, what: str) -> NotInWorkflowError:
        """Return the error that refuses `what`, with the line of the workflow that runs here."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code not in cls.DRIVER:
            if is_users(frame.f_code.co_filename):
                file = short_file_name(frame.f_code.co_filename)
                return NotInWorkflowError(what, f"{file}:{frame.f_lineno} in {frame.f_code.co_qualname}")
            frame = frame.f_back
        return NotInWorkflowError(what)

    run_forever = _refused("run_forever")
    run_until_complete = _refused("run_until_complete")
    stop = _refused("stop")
    close = _refused("close")
    shutdown_default_executor = _refused("shutdown_default_executor")

    run_in_executor = _refused("run_in_executor")
    set_default_executor = _refused("set_default_executor")

    getaddrinfo = _refused("getaddrinfo")
    getnameinfo = _refused("getnameinfo")
    create_connection = _refused("create_connection")
    create_server = _refused("create_server")
    create_unix_connection = _refused("create_unix_connection")
    create_unix_server = _refused("create_unix_server")
    connect_accepted_socket = _refused("connect_accepted_socket")
    create_datagram_endpoint = _refused("create_datagram_endpoint")
    start_tls = _refused("start_tls")
    sendfile = _refused("sendfile")
    connect_read_pipe = _refused("connect_read_pipe")
    connect_write_pipe = _refused("connect_write_pipe")
    add_reader = _refused("add_reader")
    remove_reader = _refused("remove_reader")
    add_writer = _refused("add_writer")
    remove_writer = _refused("remove_writer")
    sock_recv = _refused("sock_recv")
    sock_recv_into = _refused("sock_recv_into")
    sock_recvfrom = _refused("sock_recvfrom")
    sock_recvfrom_into = _refused("sock_recvfrom_into")
    sock_sendall = _refused("sock_sendall")
    sock_sendto = _refused("sock_sendto")
    sock_connect = _refused("sock_connect")
    sock_accept = _refused("sock_accept")
    sock_sendfile = _refused("sock_sendfile")

    subprocess_shell = _refused("subprocess_shell")
    subprocess_exec = _refused("subprocess_exec")

    add_signal_handler = _refused("add_signal_handler")
    remove_signal_handler = _refused("remove_signal_handler")

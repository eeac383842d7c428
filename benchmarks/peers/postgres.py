"""A PostgreSQL server of its own, in a folder, with the settings it comes with: each commit is synced to disk (`fsync`, `synchronous_commit`)."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find() -> Path | None:
    """Return the folder of the programs of the newest PostgreSQL that is installed, or None."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def version() -> str:
    """Return what the server calls itself; there must be one."""
    folder = find()
    assert folder is not None
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]


def _user() -> str | None:
    """Return who may run the server if this process, as root, may not."""
    if os.geteuid() != 0:
        return None
    known = {one.pw_name for one in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


@contextmanager
def postgres(scratch: Path) -> Iterator[tuple[str, int]]:
    """Start a server; yield the address of its database and the number of its process; stop it."""
    programs = find()
    if programs is None:
        raise FileNotFoundError("no PostgreSQL is installed")
    user, data = _user(), scratch / "postgres"
    data.mkdir()
    if user is not None:
        shutil.chown(data, user)
        for folder in (scratch, *scratch.parents):  # the server must be able to come to its folder
            if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
                break
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "bench", "--auth=trust", "--encoding=UTF8", "--no-locale"],
        check=True,
        stdout=subprocess.DEVNULL,
        user=user,
        cwd="/",
    )
    server = subprocess.Popen(
        [
            programs / "postgres",
            "-D",
            data,
            "-p",
            str(port),
            "-k",
            data,
            *_set("listen_addresses=127.0.0.1", "max_connections=300"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=user,
        cwd="/",
    )
    try:
        _wait(port)
        yield f"postgresql://bench@127.0.0.1:{port}/bench", server.pid
    finally:
        server.terminate()
        server.wait()


def _set(*options: str) -> list[str]:
    return [word for option in options for word in ("-c", option)]


def _wait(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)

"""Makes SQLite refuse to be written, as it does on a file system that the kernel has made read-only."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from raftoral_nb.hosts.local import LocalBackend
from raftoral_nb.storage import sqlite_store
from raftoral_nb.storage.durable_journal import DurableJournal
from raftoral_nb.storage.sqlite_store import SqliteWriter

REFUSE = "PRAGMA query_only = ON"


@contextlib.contextmanager
def read_only(host: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The databases of all nodes of a host refuse to be written, also if they are opened anew."""
    configure = sqlite_store.configure

    def configured(db: sqlite3.Connection) -> None:
        configure(db)
        db.execute(REFUSE)

    def refuse() -> None:
        for number in host.numbers:
            journal = host.journals.of(number)
            assert isinstance(journal, DurableJournal)
            assert isinstance(journal._writer, SqliteWriter)
            journal._writer._db.execute(REFUSE)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_store, "configure", configured)
        host.thread.call(refuse)
        yield

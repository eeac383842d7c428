"""Makes SQLite refuse to be written, as it does on a file system that the kernel has made read-only."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from raftoral_nb.host import Host
from raftoral_nb.raft import store
from raftoral_nb.raft.durable import DurableJournal
from raftoral_nb.raft.store import SqliteWriter

REFUSE = "PRAGMA query_only = ON"


@contextlib.contextmanager
def read_only(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The databases of all nodes of a host refuse to be written, also if they are opened anew."""
    configure = store.configure

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
        patch.setattr(store, "configure", configured)
        host.thread.call(refuse)
        yield

"""What an execution of a cell depends on, and in which of it two executions differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from .cell_records import CellRecord

IMPORT: Final = "import "
"""Stands before the name of a module that the cell itself imports."""


class CellInputs(msgspec.Struct, frozen=True):
    """All that an execution of a cell depends on."""

    code: str
    reads: dict[str, str]
    """The digests of the data that it reads, by name."""
    functions: dict[str, str]
    """The digests of functions, classes and modules, by name; `import NAME` for a module that the cell itself imports.

    Such a module may not be found before the cell runs, which sets `sys.path`, say. It counts if it was found both times.
    """
    same: Sequence[tuple[str, ...]]
    """Which of the names that it reads share objects: what is done to one is done to the other."""

    def key(self) -> str:
        """Return the digest of all of it."""
        parts = (
            self.code,
            sorted(self.reads.items()),
            sorted((name, digest) for name, digest in self.functions.items() if not name.startswith(IMPORT)),
            sorted(self.same),
        )
        return blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def differences(self, record: CellRecord) -> list[str]:
        """Return why an execution with these inputs is not the recorded one, each in a few words; empty if it may be."""
        if record.code != self.code:
            return ["its code changed"]
        changed = {*_changed(record.reads, self.reads), *_changed(record.functions, self.functions)}
        before = {name for name in (*record.reads, *record.functions) if not name.startswith(IMPORT)}
        now = {name for name in (*self.reads, *self.functions) if not name.startswith(IMPORT)}
        found = [f"{_listed(changed)} changed"] if changed else []
        if missing := before - now:
            found.append(f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} not there")
        if new := now - before:
            found.append(f"{_listed(new)} {'was' if len(new) == 1 else 'were'} not there")
        return found if found or self.key() == record.key else ["names that it reads share their values otherwise"]


def _listed(names: Collection[str]) -> str:
    quoted = [f"`{name}`" for name in sorted(names)]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]


def _changed(before: dict[str, str], now: dict[str, str]) -> Iterable[str]:
    return (name.removeprefix(IMPORT) for name in before.keys() & now.keys() if before[name] != now[name])

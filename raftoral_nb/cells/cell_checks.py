"""Checks of large files that were restored: they are read by a thread while the notebook goes on.

Invariant: nothing that was made from a restored file is recorded before the file was checked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence

from ..errors import DamagedBlobError
from .cell_blobs import CellBlob, CellBlobs
from .cell_records import CellRecord, DamagedCell


class _Check:
    """The check of one record's files, by a thread of its own."""

    def __init__(self, record: CellRecord, large: Sequence[CellBlob], blobs: CellBlobs, owner: str) -> None:
        self.record = record
        self.damaged = False
        self.used_by: list[str] = []
        self._large = large
        self._blobs = blobs
        self.thread = threading.Thread(target=self._read, name=f"{owner}-check", daemon=True)
        self.thread.start()

    def _read(self) -> None:
        for blob in self._large:
            try:
                self._blobs.check(blob)
            except DamagedBlobError:
                self.damaged = True
            except OSError:  # it was swept, as the cell was recorded anew meanwhile: nobody can tell about it any more
                continue

    def concerns(self, names: Collection[str]) -> bool:
        """Tell whether one of these names came from it."""
        return not set(self.record.variables).isdisjoint(names)


class BlobChecks:
    """The checks of one notebook. All methods are called by the thread that runs its cells."""

    def __init__(self, owner: str, blobs: CellBlobs) -> None:
        """Begin with none; `owner` stands in the names of the threads."""
        self._owner = owner
        self._blobs = blobs
        self._checks: list[_Check] = []

    def begin(self, record: CellRecord, large: Sequence[CellBlob]) -> None:
        """Check these files of a record, which was just restored; does not wait."""
        self.drop(record.name)
        self._checks = [one for one in self._checks if one.damaged or one.thread.is_alive()]
        if large:
            self._checks.append(_Check(record, large, self._blobs, self._owner))

    def drop(self, cell: str) -> None:
        """Note that a cell has bound its names anew: nothing is made any more of what was restored. A damaged file is removed all the same."""
        self._checks = [one for one in self._checks if one.record.name != cell]

    def wait(self, names: Iterable[str] | None = None, *, timeout: float | None = None) -> None:
        """Wait for the checks of what these names came from; of all, if there are none given. `timeout` is in seconds, for all."""
        wanted = None if names is None else set(names)
        end = None if timeout is None else time.monotonic() + timeout
        for one in self._checks:
            if wanted is None or one.concerns(wanted):
                one.thread.join(None if end is None else max(end - time.monotonic(), 0))

    def used(self, cell: str, names: Iterable[str]) -> dict[str, str]:
        """Note that a cell has read these names; return those of damaged files, with the cell that each was restored for."""
        found: dict[str, str] = {}
        for one in self._checks:
            wrong = set(one.record.variables).intersection(names) if one.damaged else set()
            found |= dict.fromkeys(sorted(wrong), one.record.name)
            if wrong and cell not in one.used_by:
                one.used_by.append(cell)
        return found

    def damaged(self) -> list[DamagedCell]:
        """Return the records of damaged files, each once."""
        found = [one for one in self._checks if one.damaged and not one.thread.is_alive()]
        self._checks = [one for one in self._checks if one not in found]
        return [DamagedCell(one.record, one.record.variables, tuple(one.used_by)) for one in found]

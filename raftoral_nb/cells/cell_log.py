"""The log of a notebook's cells: one run of one workflow, on a cluster of one node, in a folder beside the notebook.

Each execution of a cell that is recorded is a step of that run.
"""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from ..api import running_clusters
from ..api.cluster import Cluster
from ..api.run import WorkflowRun
from ..errors import (
    CellError,
    CodecError,
    DamagedStorageError,
    DirectoryInUseError,
    NewerFormatError,
    RunNotFoundError,
    StorageError,
)
from ..hosts import observers
from ..raft.replica import Timing
from ..workflow.language.context import WorkflowContext
from .cell_records import CellRecord, decode_record, encode_record

RUN: Final = "notebook"
"""The run's id, and the workflow's name."""

STEPS: Final = 200
"""Steps after which the run begins anew with the records that there are then."""

_QUICK: Final = Timing(heartbeat=0.01, election_min=0.04, election_max=0.08)
"""A node without peers need not wait long for them."""


class BegunCell(msgspec.Struct, frozen=True):
    """A cell that runs. One that is found when the log is opened was running when the kernel ended."""

    name: str
    began: float
    """Unix time, in seconds."""
    reads: tuple[str, ...]


async def notebook(ctx: WorkflowContext, kept: tuple[dict[str, bytes], bytes | None]) -> None:
    """Keep the records of a notebook's cells, and which one runs: the workflow of `RUN`."""
    records, begun = dict(kept[0]), kept[1]
    ctx.on_query("kept", lambda: (dict(records), begun))
    for _ in range(STEPS):
        update = await ctx.receive_update("begin", "end", "forget")
        name, record, shown = update.value
        await ctx.compute(name if update.name == "end" else f"{update.name} {name}", lambda shown=shown: shown)
        if update.name == "begin":
            begun = record
        elif update.name == "end":
            begun = None
            if record is not None:
                records[name] = record
        else:
            records.pop(name, None)
        await update.answer(None)
    raise ctx.continue_as_new((records, begun))


class CellLog:
    """The records of a notebook's cells, in a folder; they outlive the process, and the machine's power."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, or make it. Raises `CellError` if another process uses it, or if it is damaged, or cannot be written."""
        self.folder = folder
        try:
            self._cluster = Cluster(
                1, name=_name(folder), data_dir=folder, durability="disk", network="memory", timing=_QUICK
            )
            self._cluster.start()
        except StorageError as error:
            raise _unusable(folder, error) from error
        running_clusters.set_aside(self._cluster)
        logging.getLogger(observers.__name__).addFilter(_silent)
        self._run = self._begun()
        self.records: dict[str, CellRecord] = {}
        """By name, the latest of each cell."""
        self.begun: BegunCell | None = None
        """The cell that was running when the kernel before this one ended; None once it has run."""
        records, begun = self._run.query("kept")
        for name, data in records.items():
            with contextlib.suppress(msgspec.DecodeError):  # of another version: that cell runs again
                self.records[name] = decode_record(data)
        if begun is not None:
            with contextlib.suppress(msgspec.DecodeError):
                self.begun = msgspec.msgpack.decode(begun, type=BegunCell)

    def _begun(self) -> WorkflowRun[Any]:
        self._cluster.register_workflow(RUN, notebook)
        with contextlib.suppress(RunNotFoundError):
            return self._cluster.run(RUN)
        return self._cluster.start_workflow(RUN, ({}, None), run_id=RUN)

    def begin(self, name: str, began: float, reads: tuple[str, ...]) -> None:
        """Record that a cell begins."""
        self._change("begin", name, msgspec.msgpack.encode(BegunCell(name, began, reads)), "")

    def end(self, name: str, record: CellRecord | None, shown: str) -> None:
        """Record that it has ended, and what is to be kept of it in place of the execution before; it is on the disk when this returns.

        Without a record the execution before stays. `shown` stands in the run's history.
        """
        self._change("end", name, None if record is None else encode_record(record), shown)
        if self.begun is not None and self.begun.name == name:
            self.begun = None
        if record is not None:
            self.records[name] = record

    def forget(self, name: str) -> None:
        """Drop a cell. Raises `KeyError` if it is not recorded."""
        del self.records[name]
        self._change("forget", name, None, "")

    def _change(self, what: str, name: str, record: bytes | None, shown: str) -> None:
        self._run.update(what, (name, record, shown), timeout=60.0)

    def close(self) -> None:
        """Let go of the folder. A second time does nothing."""
        self._cluster.stop()


def _unusable(folder: Path, error: StorageError) -> CellError:
    """Return what is told of a folder that cannot be opened, and what to do."""
    elsewhere = "set `%config RaftoralMagics.cells_dir = '...'`"
    if isinstance(error, DirectoryInUseError):
        owner = _OWNER.search(str(error))
        who = f" (process {owner[1]}, since {owner[2]})" if owner else ""
        return CellError(
            f"another kernel{who} has the cells of this notebook, in {folder}: shut it down, run `%raftoral cells --close` in it, "
            f"or {elsewhere}"
        )
    if not isinstance(error, DamagedStorageError | NewerFormatError | CodecError):
        return CellError(f"the cells of this notebook cannot be recorded in {folder}: {elsewhere} ({error})")
    return CellError(
        f"the record of this notebook's cells is damaged, or is none of this version: rename or remove {folder}; the cells then "
        f"run again ({error})"
    )


_OWNER: Final = re.compile(r"process (\d+)\b.* since ([\d-]+ [\d:]+)")
"""The process that uses a folder, in the message of `DirectoryInUseError`."""


_NAME: Final = "cells of "


def _name(folder: Path) -> str:
    return f"{_NAME}{folder.name}"


def _silent(record: logging.LogRecord) -> bool:
    """Keep the events of these clusters out of the logs of who asks for everything: nobody knows of these clusters."""
    return not (isinstance(record.args, tuple) and str(record.args[:1]).startswith(f"('{_NAME}"))

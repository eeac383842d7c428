"""Notes of a node with a data directory: a few bytes each, in a file of their own that is replaced as a whole."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .codec import Codec
from .content_files import make_folder
from .sqlite_store import sync_file, sync_folder

logger = logging.getLogger(__name__)

_NAME: Final = re.compile("[0-9a-f]{32}")


class NoteFiles:
    """A folder of notes, which one process uses, on one thread at a time."""

    def __init__(self, folder: Path, *, synced: bool, codec: Codec | None = None) -> None:
        """`folder` is made when it is needed; `synced`: a note is kept when it survives a power loss."""
        self._folder = folder
        self._synced = synced
        self._codec = codec
        with contextlib.suppress(OSError):
            for part in folder.glob(".*"):  # of a process that ended while it wrote
                part.unlink()

    def all(self) -> Mapping[str, bytes]:
        """Return the notes by their names. One that cannot be read is left out."""
        found: dict[str, bytes] = {}
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                if _NAME.fullmatch(file.name):
                    with contextlib.suppress(Exception):  # whatever a codec raises for bytes that it did not make
                        data = file.read_bytes()
                        found[file.name] = data if self._codec is None else self._codec.decode(data)
        return found

    def set(self, name: str, note: bytes | None) -> None:
        """Write a note in place of the one of that name, or remove it (None). Never raises: what cannot be written is logged."""
        file = self._folder / name
        try:
            if note is None:
                file.unlink(missing_ok=True)
            else:
                self._write(file, note if self._codec is None else self._codec.encode(note))
        except Exception as error:  # a codec may raise anything
            logger.warning("%s cannot be written, and its step would run again after a restart: %s", file, error)

    def _write(self, file: Path, data: bytes) -> None:
        make_folder(self._folder, synced=self._synced)
        part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(data)
            opened.flush()
            if self._synced:
                sync_file(opened.fileno())
        part.replace(file)
        if self._synced:
            sync_folder(self._folder)

"""Running a loop of one's own where another may be running: in a cell, or in a test that is `async` itself."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_outer_loop() -> Iterator[None]:
    """Set aside the loop that runs here, and put it back afterwards: Python allows one running loop per thread."""
    outer = asyncio._get_running_loop()
    swap: Any = getattr(asyncio.tasks, "_swap_current_task", None)
    outer_task = swap(outer, None) if swap is not None and outer is not None else None
    # Trio says through this that it is what runs here.
    sniffed: Any = getattr(sys.modules.get("sniffio"), "thread_local", None)
    library = getattr(sniffed, "name", None)
    if sniffed is not None:
        sniffed.name = None
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)
        if sniffed is not None:
            sniffed.name = library
        if swap is not None and outer is not None:
            swap(outer, outer_task)

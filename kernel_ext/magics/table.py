"""The table of the subcommands of `%raftoral`. A new one is a module of `subcommands`, and its line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from .subcommand import Subcommand
from .subcommands import (
    add,
    attach,
    button,
    cache,
    campaign,
    cancel,
    cells,
    check,
    cut,
    delete,
    entries,
    events,
    heal,
    history,
    hold,
    isolate,
    kill,
    leave,
    log,
    metrics,
    move,
    partition,
    pause,
    progress,
    query,
    register,
    release,
    remove,
    restart,
    resume,
    run,
    runs,
    scenario,
    signal,
    slow,
    start,
    status,
    stop,
    terminate,
    transfer,
    update,
    watch,
)

TABLE: Final[Mapping[str, Subcommand[Any]]] = MappingProxyType(
    {
        one.SUBCOMMAND.name: one.SUBCOMMAND
        for one in (
            start,
            attach,
            leave,
            stop,
            status,
            register,
            run,
            move,
            check,
            runs,
            history,
            cells,
            cache,
            log,
            events,
            entries,
            metrics,
            watch,
            kill,
            restart,
            pause,
            resume,
            hold,
            release,
            partition,
            isolate,
            cut,
            slow,
            heal,
            transfer,
            campaign,
            add,
            remove,
            signal,
            update,
            query,
            button,
            progress,
            cancel,
            terminate,
            delete,
            scenario,
        )
    }
)
"""By name, in the order in which all of them are told."""

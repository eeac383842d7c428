"""The cell's decimal context and numpy's error state: taken along when a workflow is registered, and set wherever it runs.

Both are context variables (numpy's from its version 2 on), so that each run has its own, and the steps that it calls with it.
"""

from __future__ import annotations

import contextvars
import decimal
import importlib
import sys
from collections.abc import Callable
from typing import Any, Final

_STANDARD: Final = decimal.Context(
    prec=28,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-999999,
    Emax=999999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[decimal.DivisionByZero, decimal.Overflow, decimal.InvalidOperation],
)
_NUMBERS: Final = ("prec", "Emin", "Emax", "capitals", "clamp")
_NUMPYS: Final = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_NEEDS_A_FUNCTION: Final = frozenset({"call", "log"})


def settings() -> dict[str, str]:
    """Return the settings that differ here from what Python and numpy begin with, as text by name (`decimal.prec`).

    Empty if nothing does.

    Of numpy's, "call" and "log" are left out: they need a function of this kernel.
    """
    here, standard = _decimals(decimal.getcontext()), _decimals(_STANDARD)
    found = {f"decimal.{name}": value for name, value in here.items() if value != standard[name]}
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "geterr") and _is_per_context(numpy):
        for name, how in numpy.geterr().items():
            if how != _NUMPYS.get(name) and how not in _NEEDS_A_FUNCTION:
                found[f"numpy.{name}"] = how
    return found


def words(found: dict[str, str]) -> dict[str, str]:
    """Return the same as text.

    "decimal context" and "numpy error state", each with what differs, or with why it stays behind.
    """
    said = {}
    for title, prefix in (("decimal context", "decimal."), ("numpy error state", "numpy.")):
        parts = [f"{name.removeprefix(prefix)}={text}" for name, text in found.items() if name.startswith(prefix)]
        if parts:
            said[title] = ", ".join(parts)
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "geterr"):
        here = {how for name, how in numpy.geterr().items() if how != _NUMPYS.get(name)}
        if here and not _is_per_context(numpy):
            said["numpy error state"] = "not taken along: that needs numpy 2"
        elif here & _NEEDS_A_FUNCTION:
            said["numpy error state"] = (
                f"{', '.join(sorted(here & _NEEDS_A_FUNCTION))} not taken along: needs a function of this kernel"
            )
    return said


def _decimals(context: decimal.Context) -> dict[str, str]:
    traps = sorted(signal.__name__ for signal, trapped in context.traps.items() if trapped)
    numbers = {name: str(getattr(context, name)) for name in _NUMBERS}
    return {**numbers, "rounding": context.rounding, "traps": " ".join(traps)}


def _is_per_context(numpy: Any) -> bool:
    return int(str(numpy.__version__).partition(".")[0]) >= 2


def apply(found: dict[str, str]) -> None:
    """Set them in the current context (`contextvars`), which must be that of a run alone: a task's, say.

    Raises:
        ImportError: numpy's are among them, and it is not installed here.
    """
    decimals = {name.partition(".")[2]: text for name, text in found.items() if name.startswith("decimal.")}
    if decimals:
        context = _STANDARD.copy()
        for name in _NUMBERS:
            if name in decimals:
                setattr(context, name, int(decimals[name]))
        if "rounding" in decimals:
            context.rounding = decimals["rounding"]
        if "traps" in decimals:
            wanted = decimals["traps"].split()
            context.traps = {signal: signal.__name__ in wanted for signal in context.traps}
        decimal.setcontext(context)
    errors: Any = {name.partition(".")[2]: text for name, text in found.items() if name.startswith("numpy.")}
    if errors:
        numpy: Any = importlib.import_module("numpy")
        if _is_per_context(numpy):
            numpy.seterr(**errors)


def call(found: dict[str, str], fn: Callable[..., Any], *args: Any) -> Any:
    """Return what `fn(*args)` returns under these settings, in a context of its own."""
    context = contextvars.copy_context()
    context.run(apply, found)
    return context.run(fn, *args)

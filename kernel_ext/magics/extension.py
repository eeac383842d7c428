"""Putting the extension into a shell, and taking all of it out again."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import msgspec
from IPython.core.extensions import ExtensionManager
from traitlets import TraitError

from ..widgets.shells import RunningCells, follow, leave
from .completion import make_matcher
from .formatters import formatters
from .page_lines import carry_out
from .raftoral_magics import RaftoralMagics
from .session import Session

if TYPE_CHECKING:
    from types import FrameType

    from IPython.core.interactiveshell import InteractiveShell


class _Loaded(msgspec.Struct):
    """Everything that was put into one shell."""

    magics: RaftoralMagics
    matcher: Any
    formats: dict[str, Any]
    cells: RunningCells


# Kept here and not on the shell: the extension has two names (raftoral_nb, kernel_ext), and both mean this one.
_loaded: Final[WeakKeyDictionary[InteractiveShell, _Loaded]] = WeakKeyDictionary()
# The cluster with its runs, its views and what waits for a cluster, from the first half of %reload_ext to the second.
_kept: Final[WeakKeyDictionary[InteractiveShell, Session]] = WeakKeyDictionary()


def load(shell: Any) -> None:
    """See `load_ipython_extension`; `shell` is an `InteractiveShell`, whose parts are mostly untyped."""
    if shell in _loaded:
        return
    magics = _make_magics(shell, _kept.get(shell) or Session(shell, carry_out))
    shell.register_magics(magics)  # being made with the shell, it is in shell.configurables already
    matcher = make_matcher(magics.session.known)
    if shell.Completer is not None:
        shell.Completer.custom_matchers.append(matcher)
    formats = formatters()
    for kind, bundle in formats.items():
        shell.display_formatter.mimebundle_formatter.for_type(kind, bundle)
    cells = RunningCells(shell)
    follow(cells)
    _loaded[shell] = _Loaded(magics, matcher, formats, cells)
    magics.session.durable.install(lambda: str(magics.cells_dir))
    _kept.pop(shell, None)


def unload(shell: Any) -> None:
    """See `unload_ipython_extension`."""
    loaded = _loaded.pop(shell, None)
    if loaded is None:
        return
    leave(loaded.cells)
    loaded.magics.session.durable.remove()
    for kind in loaded.formats:
        shell.display_formatter.mimebundle_formatter.pop(kind, None)
    if shell.Completer is not None and loaded.matcher in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(loaded.matcher)
    if loaded.magics in shell.configurables:
        shell.configurables.remove(loaded.magics)
    manager = shell.magics_manager
    for place, names in loaded.magics.magics.items():
        for name in names:
            manager.magics[place].pop(name, None)
    manager.registry.pop(type(loaded.magics).__name__, None)
    if _is_reloaded():
        _kept[shell] = loaded.magics.session
    else:
        loaded.magics.session.close()


def _is_reloaded() -> bool:
    """True if IPython unloads the extension only to load it again, which it does not tell an extension."""
    reloading = ExtensionManager.reload_extension.__code__
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not reloading:
        frame = frame.f_back
    return frame is not None


def _make_magics(shell: Any, session: Session) -> RaftoralMagics:
    try:
        return RaftoralMagics(shell, session)
    except TraitError as problem:
        # A value that %config refused stays in the shell's configuration, and would make every later load fail.
        warnings.warn(f"the setting was left out: {problem}", stacklevel=2)
        shell.config.pop(RaftoralMagics.__name__, None)
        return RaftoralMagics(shell, session)

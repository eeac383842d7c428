"""With which versions of Python and of packages code was made, and how this process differs from that."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from typing import Final

PYTHON: Final = "python"
MAX_PACKAGES: Final = 100
"""Packages whose versions go along with a workflow's code; what it needs beyond is not compared."""


def made_with(modules: Iterable[str]) -> dict[str, str]:
    """Return the version of Python, and of the packages that these modules belong to, as far as they tell."""
    found = {PYTHON: platform.python_version()}
    for name in sorted({module.partition(".")[0] for module in modules}):
        version = None if name in sys.stdlib_module_names or name == "__main__" else _version(name)
        if version is not None and len(found) <= MAX_PACKAGES:
            found[name] = version
    return found


def _version(package: str) -> str | None:
    """Return the version of a package here; None if it is not installed, or tells none."""
    import importlib.metadata  # it brings the parser of e-mails, and more: a node that only goes on needs none of it

    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        version = getattr(sys.modules.get(package), "__version__", None)
        return version if isinstance(version, str) else None


def other_python(versions: Mapping[str, str]) -> str | None:
    """Return why code of these versions cannot be loaded here, whatever is in it; None if there is no known reason.

    Python's code differs from one minor version to the next.
    """
    made, here = versions.get(PYTHON), platform.python_version()
    if made is None or made.split(".")[:2] == here.split(".")[:2]:
        return None
    return f"it was registered with Python {made}, and this node runs Python {here}"


def differences(versions: Mapping[str, str]) -> str:
    """Return the packages whose versions differ here, as text; empty if none do."""
    found = []
    for package, made in sorted(versions.items()):
        here = None if package == PYTHON else _version(package)
        if package != PYTHON and here != made:
            found.append(f"{package} was {made} where it was registered, and is {here or 'not installed'} here")
    return "; ".join(found)

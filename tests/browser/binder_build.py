"""The files of `binder/`, read as repo2docker reads them, and their steps replayed into a fresh environment without Docker."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[2]
REPLAYED: Final = frozenset({"runtime.txt", "requirements.txt", "postBuild", "start"})
"""What may be in `binder/`. repo2docker knows more, and some of it wins silently over requirements.txt (environment.yml)."""
NOT_COPIED: Final = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", ".ipynb_checkpoints", "*.egg-info", "dist", "build"
)


class BinderError(Exception):
    """Binder would not build or start this, or not as this check does; the message says which file and why."""


@dataclass(frozen=True)
class Plan:
    """What `binder/` asks for. `python` is "3.11"; `requirements` are lines; `scripts` are there if they are to be run."""

    python: str
    requirements: tuple[str, ...]
    post_build: Path | None
    start: Path | None


def read(binder: Path) -> Plan:
    """Reads the folder. Raises `BinderError` for what repo2docker would refuse, or would do otherwise than this check."""
    there = {path.name: path for path in binder.iterdir()}
    for name in sorted(set(there) - REPLAYED):
        raise BinderError(f"binder/{name} is not replayed by this check, which knows {', '.join(sorted(REPLAYED))}")
    runtime = there["runtime.txt"].read_text().strip() if "runtime.txt" in there else ""
    found = re.fullmatch(r"python-(3\.\d+)", runtime)
    if not found:
        raise BinderError(f"binder/runtime.txt must be one line like python-3.11, not {runtime!r}")
    if "requirements.txt" not in there:
        raise BinderError("binder/requirements.txt is missing: nothing would be installed")
    lines = (line.partition(" #")[0].strip() for line in there["requirements.txt"].read_text().splitlines())
    for script in ("postBuild", "start"):
        if script in there and not os.access(there[script], os.X_OK):
            raise BinderError(f"binder/{script} is not executable: git update-index --chmod=+x binder/{script}")
    requirements = tuple(line for line in lines if line and not line.startswith("#"))
    return Plan(found[1], requirements, there.get("postBuild"), there.get("start"))


@dataclass(frozen=True)
class Built:
    """What was built: a copy of the checkout, the environment it is installed in, and the variables of its processes."""

    checkout: Path
    prefix: Path
    environment: Mapping[str, str]


def build(plan: Plan, folder: Path, *, offline: bool) -> Built:
    """Replays the steps below `folder`. `offline` takes the packages that this environment has in place of downloading them.

    The interpreter is the one that Binder would use, if it is there, and else this one. Raises `BinderError`.
    """
    checkout, prefix = folder / "checkout", folder / "environment"
    shutil.copytree(ROOT, checkout, ignore=NOT_COPIED)
    home = folder / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER", "IPYTHON"))}
    environment = {
        **kept,
        "HOME": str(home),
        "PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "VIRTUAL_ENV": str(prefix),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    if offline:
        venv.create(prefix, symlinks=True)
        _link(closure([*plan.requirements, "pip"]), prefix)
        # What builds the checkout is not among what it requires; only this step sees it.
        seen = {**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" in path)}
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
        _run(
            [prefix / "bin" / "python", "-m", "pip", "install", *options, "-r", "binder/requirements.txt"],
            checkout,
            seen,
        )
    else:
        interpreter = shutil.which(f"python{plan.python}") or sys.executable
        _run([interpreter, "-m", "venv", prefix], folder, environment)
        _run(
            [prefix / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", "binder/requirements.txt"],
            checkout,
            environment,
        )
    if plan.post_build is not None:
        _run([checkout / "binder" / "postBuild"], checkout, environment)
    return Built(checkout, prefix, environment)


def _run(command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=dict(environment),
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )
    if done.returncode != 0:
        raise BinderError(f"{' '.join(map(str, command))} failed:\n{done.stdout}")


# --- without a network: the packages of this environment, but only those that were asked for


def closure(requirements: Sequence[str]) -> dict[str, Distribution]:
    """The installed distributions that these requirements bring, by name; the checkout itself (`-e .`) left out.

    Raises `BinderError` if one of them is not installed here, or in another version than is asked for.
    """
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [Requirement(_named(line)) for line in requirements]
    own = canonicalize_name("raftoral-nb")
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        try:
            there = distribution(name)
        except PackageNotFoundError:
            raise BinderError(f"{wanted} is not installed here; offline, nothing else can be") from None
        if not wanted.specifier.contains(there.version, prereleases=True):
            raise BinderError(f"{wanted} is asked for, and {there.version} is installed here")
        if name != own:
            found[name] = there
        for extra in (*sorted(wanted.extras), ""):
            if (name, extra) not in asked:
                asked.add((name, extra))
                needed = map(Requirement, there.requires or ())
                waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return found


def _named(line: str) -> str:
    """The requirement that a line of requirements.txt stands for; `-e .[demo]` is the checkout."""
    local = re.fullmatch(r"(?:-e|--editable)[ =]\.(?P<extras>\[[\w,-]+\])?", line)
    if local:
        return f"raftoral-nb{local['extras'] or ''}"
    if line.startswith("-"):
        raise BinderError(f"binder/requirements.txt: {line!r} is not replayed by this check")
    return line


def _link(distributions: Mapping[str, Distribution], prefix: Path) -> None:
    """Puts their files into another environment: modules as symbolic links, scripts and what a server serves as copies."""
    (site_packages,) = prefix.glob("lib/python*/site-packages")
    files = {name: [Path(str(path)) for path in one.files or ()] for name, one in distributions.items()}
    owners = Counter(top for paths in files.values() for top in {path.parts[0] for path in paths})
    for name, one in distributions.items():
        for path in files[name]:
            top = path.parts[0]
            if top != ".." and owners[top] == 1:  # a folder of its own
                if not (site_packages / top).is_symlink():
                    (site_packages / top).symlink_to(str(one.locate_file(top)))
                continue
            origin = Path(os.path.normpath(str(one.locate_file(path))))
            target = Path(os.path.normpath(site_packages / path))
            if not target.is_relative_to(prefix) or not origin.is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.parent == prefix / "bin":
                _copy_script(origin, target)
            elif target.is_relative_to(site_packages):
                with contextlib.suppress(FileExistsError):  # two packages may bring the same file
                    target.symlink_to(origin)
            else:
                shutil.copyfile(origin, target)


def _copy_script(origin: Path, target: Path) -> None:
    """Scripts name their interpreter in their first line: here it is that of the new environment."""
    first, _, rest = origin.read_bytes().partition(b"\n")
    if first.startswith(b"#!") and b"python" in first:
        first = b"#!" + os.fsencode(target.parent / "python")
    target.write_bytes(first + b"\n" + rest)
    target.chmod(0o755)

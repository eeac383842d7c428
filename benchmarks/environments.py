"""Where the sides run: this interpreter, an earlier build in an environment of its own, and those of the peers, made when they are asked for."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import postgres
from benchmarks.sides import Side

ROOT: Final = Path(__file__).resolve().parent.parent
HERE: Final = Path(__file__).resolve().parent
PATIENCE: Final = 900
"""Seconds that an installer may take."""

RESTATE_SERVER: Final = "@restatedev/restate-server@1.7.12"

OPTIONAL: Final = ("cryptography", "ipykernel", "opentelemetry-api", "prometheus-client", "rich", "sniffio")
"""What a build, or anyio, loads if it is there: an earlier build has of these what this one has, as they take time and memory."""


class Absent(Exception):  # noqa: N818 - it is a finding, not an error
    """A side that cannot be had on this machine; the message is the reason."""


@dataclass(frozen=True)
class Ready:
    """How a side is run: its interpreter, more for its Python path, what it is told besides its options, and its version."""

    python: str
    version: str
    path: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


class Environments:
    """The environments, each made once, in a folder that stays; and why one cannot be had."""

    def __init__(self, folder: Path, before: str) -> None:
        self._folder = folder
        self._before = before
        self._made: dict[str, Ready | Absent] = {}

    def of(self, side: Side) -> Ready:
        """Return how a side is run, after setting it up if need be. Raises `Absent`."""
        place = side.name if side.place == "dbos" else side.place
        if place not in self._made:
            make: Callable[[], Ready] = {
                "here": self._here,
                "before": self._earlier,
                "dbos-sqlite": self._dbos,
                "dbos-postgres": self._dbos_postgres,
                "restate": self._restate,
                "prefect": self._prefect,
                "files": self._files,
            }[place]
            try:
                self._made[place] = make()
            except Absent as reason:
                self._made[place] = reason
            except OSError as error:  # no room, no permission, no git
                self._made[place] = Absent(str(error))
        made = self._made[place]
        if isinstance(made, Absent):
            raise made
        return made

    # --- each of them

    def _here(self) -> Ready:
        return Ready(sys.executable, self._revision("HEAD") or "this checkout", (str(ROOT),))

    def _earlier(self) -> Ready:
        revision = self._revision(self._before)
        if revision is None:
            raise Absent(f"git knows no revision {self._before!r} here")
        folder = self._folder / f"build-{revision}"

        def install(python: str) -> None:
            with tempfile.TemporaryDirectory() as scratch:
                packed = _run(["git", "-C", str(ROOT), "archive", revision])
                with tarfile.open(fileobj=BytesIO(packed)) as archive:
                    archive.extractall(scratch, filter="data")
                # What both builds use is the same, so that only the builds differ.
                pins = Path(scratch) / "same.txt"
                pins.write_text("\n".join(_versions()), encoding="utf-8")
                _run([python, "-m", "pip", "install", "--quiet", "--constraint", str(pins), scratch, *optional])

        optional = [name for name in OPTIONAL if _is_installed(name)]
        return Ready(self._venv(folder, install, wanted="\n".join((*optional, *_versions()))), revision)

    def _dbos(self) -> Ready:
        return Ready(self._pinned("dbos"), f"DBOS {_pin('dbos', 'dbos')} on SQLite")

    def _dbos_postgres(self) -> Ready:
        if postgres.find() is None:
            raise Absent("there is no PostgreSQL server on this machine")
        return Ready(self._pinned("dbos"), f"DBOS {_pin('dbos', 'dbos')} on PostgreSQL {postgres.version()}")

    def _restate(self) -> Ready:
        python = self._pinned("restate")
        folder = self._folder / "restate-server"
        programs = sorted(folder.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
        if not programs:
            if shutil.which("npm") is None:
                raise Absent("npm, which has Restate's server, is not installed")
            folder.mkdir(parents=True, exist_ok=True)
            _run(["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), RESTATE_SERVER])
            programs = sorted(folder.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
        if not programs:
            raise Absent("npm has no Restate server for this machine")
        version = f"Restate {RESTATE_SERVER.rpartition('@')[2]}, SDK {_pin('restate', 'restate-sdk')}"
        return Ready(python, version, options={"server": str(programs[0])})

    def _prefect(self) -> Ready:
        return Ready(self._pinned("prefect"), f"Prefect {_pin('prefect', 'prefect')}")

    def _files(self) -> Ready:
        version = f"pandas {_pin('files', 'pandas')}, pyarrow {_pin('files', 'pyarrow')}"
        return Ready(self._pinned("files"), version)

    # --- making one

    def _pinned(self, name: str) -> str:
        """Return the interpreter of an environment with what `peers/NAME.txt` pins."""
        pins = HERE / "peers" / f"{name}.txt"

        def install(python: str) -> None:
            _run([python, "-m", "pip", "install", "--quiet", "--requirement", str(pins)])

        return self._venv(self._folder / name, install, wanted=pins.read_text("utf-8"))

    def _venv(self, folder: Path, install: Callable[[str], None], wanted: str = "") -> str:
        """Return the interpreter of an environment, which is made if it is not there, not whole or not as wanted."""
        python, stamp = folder / "bin" / "python", folder / "complete"
        wanted = f"{sys.version}\n{wanted}"
        if not stamp.exists() or stamp.read_text("utf-8") != wanted:
            print(f"setting up {folder} ...", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            install(str(python))
            stamp.write_text(wanted, encoding="utf-8")
        return str(python)

    @staticmethod
    def _revision(name: str) -> str | None:
        try:
            found = _run(["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", "--short", f"{name}^{{commit}}"])
        except Absent:
            return None
        return found.decode().strip()


def _pin(file: str, package: str) -> str:
    lines = (HERE / "peers" / f"{file}.txt").read_text("utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _versions() -> list[str]:
    """Return what is installed here, as pins; of this project there is none."""
    found = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name != "raftoral-nb"]


def _run(command: Sequence[str]) -> bytes:
    """Run an installer; returns its output. Raises `Absent` with the last line of what it complained of."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE, env=environment)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise Absent(f"{command[0]}: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in said if "error" in line.lower()]
        raise Absent((errors or said or [f"{command[0]} failed"])[-1].strip())
    return done.stdout

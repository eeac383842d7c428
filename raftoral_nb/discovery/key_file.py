"""Key files of running clusters, which only their owner can read, in Jupyter's runtime folder.

RUNTIME/raftoral/NAME.json    one per running cluster of this user; the folder is 0700, each file 0600

A user who can read the file may do everything with the cluster, running code in its processes included. So a file or
folder that others could have read or written is not used, and the error says so. A file whose processes are gone is
dropped by the process that comes next. None of this listens, waits for the network, or knows what a node is.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import quote

import msgspec

from ..errors import ClusterNameTakenError, KeyFileError, UnknownClusterError
from ..transport.certificate import Certificate
from .process_identity import Process

FORMAT: Final = 1
"""Version of what is in the file. A later one is refused, not guessed at."""

FOLDER: Final = "raftoral"
SUFFIX: Final = ".json"
MAX_FILE_BYTES: Final = 262_144
MAX_NAME_BYTES: Final = 120
"""Of the file's name; longer names of clusters are cut there, and told apart by a number."""

LOCK_SECONDS: Final = 5.0
"""The time to wait for another process that reads or writes key files (seconds)."""

LOCK_PAUSES: Final = (0.002, 0.1)
"""Between two looks whether it is done, at first and at most (seconds)."""

_OTHERS: Final = 0o077

Kind = Literal["kernel", "processes"]
"""The kind of a cluster: all nodes in the process that started them, or each in one of its own."""


class Place(msgspec.Struct, frozen=True):
    """The address of a node."""

    address: str
    """host:port, as others dial it; an IPv6 host is in brackets."""
    process: Process | None = None
    """The node's own process; None if it lives in the one that started the cluster."""


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a key file. Its repr does not show secrets."""

    name: str
    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    """The cluster's key (32 random bytes): a peer that has it is accepted."""
    kind: Kind
    owner: Process | None = None
    """The process that started the cluster; None if the cluster is meant to outlive that process."""
    nodes: Mapping[int, Place] = {}
    data_dir: str | None = None
    certificate: Certificate | None = None
    """The certificate, if the nodes listen beyond loopback."""
    made: float = msgspec.field(default_factory=time.time)
    """The time when it was made (Unix seconds)."""
    format: int = FORMAT

    def __repr__(self) -> str:
        return f"KeyFile({self.name!r}, {self.kind}, nodes {sorted(self.nodes)}, of {self.whose})"

    @property
    def processes(self) -> tuple[Process, ...]:
        """All processes that the cluster is known to live in."""
        own = () if self.owner is None else (self.owner,)
        return own + tuple(place.process for place in self.nodes.values() if place.process is not None)

    @property
    def gone(self) -> bool:
        """True if all processes of the cluster have certainly ended. Those of another host are assumed to run."""
        processes = self.processes
        return bool(processes) and all(process.gone for process in processes)

    @property
    def whose(self) -> str:
        """The processes, as text."""
        return ", ".join(dict.fromkeys(str(process) for process in self.processes)) or "no known process"


class Found(msgspec.Struct, frozen=True):
    """One file of the folder: what is in it, or what is wrong with it."""

    path: Path
    content: KeyFile | None
    problem: str | None = None


# --- the folder


def folder() -> Path:
    """Return the folder of this user's key files. Makes nothing, and asks Jupyter: `JUPYTER_RUNTIME_DIR` moves it."""
    from jupyter_core.paths import jupyter_runtime_dir  # takes longer than all else here

    return Path(jupyter_runtime_dir()) / FOLDER


@contextlib.contextmanager
def _opened(*, make: bool) -> Iterator[tuple[Path, int]]:
    """Return the folder, checked and locked against other processes: all names below are looked up in this very folder.

    Raises FileNotFoundError if it is not there, `KeyFileError` if it cannot be used.
    """
    place = folder()
    try:
        if make:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                place.mkdir(mode=0o700)
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if make:
            raise KeyFileError(f"{place} cannot be made; is {place.parent} a folder of yours?") from None
        raise
    except OSError as error:
        raise KeyFileError(
            f"{place} cannot be used for key files: {error}. It must be a folder of yours (not a link); JUPYTER_RUNTIME_DIR "
            "names another place"
        ) from error
    try:
        _refuse_shared(os.fstat(descriptor), place, "700")
        _lock(descriptor, place)
        yield place, descriptor
    except OSError as error:
        raise KeyFileError(f"key files in {place} cannot be read or written: {error}") from error
    finally:
        os.close(descriptor)


def _lock(descriptor: int, place: Path) -> None:
    """Take the lock until the descriptor is closed.

    No process keeps it for longer than it takes to read and write small files.

    Raises `KeyFileError` if a process does so all the same: a process that hangs, or was stopped.
    """
    try:
        import fcntl
    except ImportError:  # the system has no such locks; files are made exclusively all the same
        return
    deadline = time.monotonic() + LOCK_SECONDS
    pause = LOCK_PAUSES[0]
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise KeyFileError(
                    f"{place} has been locked for {LOCK_SECONDS:g} s by another process of yours, which hangs or was stopped: find it "
                    f"(fuser {place}), let it continue or end it, then try again"
                ) from None
        except OSError:  # nor has every file system
            return
        # The system cannot wait for a lock for a limited time, so it is asked: ever less often, and not for long.
        time.sleep(pause)
        pause = min(2 * pause, LOCK_PAUSES[1])


def _refuse_shared(found: os.stat_result, path: Path, mode: str) -> None:
    if found.st_uid != os.geteuid():
        raise KeyFileError(
            f"{path} belongs to user {found.st_uid}, not to you ({os.geteuid()}): it is not used. Remove it"
        )
    if found.st_mode & _OTHERS:
        raise KeyFileError(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):o}): what is in it is not secret. Stop what uses it, "
            f"then remove it, or: chmod {mode} {path}"
        )


# --- reading


def read(path: str | os.PathLike[str]) -> KeyFile:
    """Read a key file.

    Raises `KeyFileError` if it is missing, no regular file, another user's, open to others, damaged, or of a later
    version.
    """
    return _read(Path(path), None)


def _read(path: Path, directory: int | None) -> KeyFile:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe of that name must not make anybody wait
    try:
        descriptor = os.open(path if directory is None else path.name, flags, dir_fd=directory)
    except FileNotFoundError:
        raise KeyFileError(f"there is no key file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: it is no path at all
        raise KeyFileError(f"key file {path} cannot be opened (a link is not followed): {error}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(f"{path} is not a regular file")
        _refuse_shared(found, path, "600")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error}") from error
    finally:
        os.close(descriptor)
    return _decode(data, path)


def _decode(data: bytes, path: Path) -> KeyFile:
    try:
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"over {MAX_FILE_BYTES} bytes")
        written = msgspec.json.decode(data, type=dict[str, object])
        version = written.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise KeyFileError(
                f"key file {path} has format {version}, this version reads {FORMAT}: use the one that wrote it"
            )
        return msgspec.json.decode(data, type=KeyFile)
    except (ValueError, TypeError, RecursionError) as error:
        raise KeyFileError(f"{path} is not a key file of raftoral-nb, or is damaged ({error})") from error


def found() -> tuple[Found, ...]:
    """Return every key file of this user, by name; those whose processes are gone are dropped and not named.

    Raises `KeyFileError` if the folder cannot be used. A single file that cannot be used is among the answers.
    """
    try:
        with _opened(make=False) as (place, directory):
            return _look(place, directory)
    except FileNotFoundError:
        return ()


def of_cluster(name: str, kind: Kind | None = None) -> Found:
    """Return the key file of the running cluster of that name (and kind). `content` is set.

    Raises `UnknownClusterError` if there is none, naming those there are, or if there are several; and `KeyFileError`.
    """
    there = [one for one in found() if one.content is not None and kind in (None, one.content.kind)]
    named = [one for one in there if one.content is not None and one.content.name == name]
    if len(named) == 1:
        return named[0]
    if named:
        files = "; ".join(f"{one.path} ({one.content.whose})" for one in named if one.content is not None)
        raise UnknownClusterError(f"there are {len(named)} clusters named {name!r}: {files}")
    names = sorted({one.content.name for one in there if one.content is not None})
    raise UnknownClusterError(
        f"no cluster named {name!r} is running for you on this host; running: {', '.join(names) or 'none'}"
    )


def path_meant(given: str | os.PathLike[str]) -> Path | None:
    """Return the key file that is named by its path (`~` is resolved); None if the name of a cluster was given.

    A path ends in `.json` or has a slash in it, as a cluster's name may too: it is a name if such a cluster runs, and there is no such
    file. Raises `KeyFileError` for what is neither.
    """
    checked: object = given  # a notebook's code is not type-checked
    if not isinstance(checked, str | os.PathLike) or not isinstance(os.fspath(checked), str):
        raise KeyFileError(
            f"a cluster that runs is given by its name, or by the path of its key file, not as {given!r}"
        )
    if isinstance(given, str) and "/" not in given and not given.endswith(SUFFIX):
        return None
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:  # nobody knows that user's home
        raise KeyFileError(f"there is no key file {given}: {error}") from None
    if not path.is_file():
        with contextlib.suppress(KeyFileError):  # without a folder for key files it is no cluster's name
            if any(one.content is not None and one.content.name == given for one in found()):
                return None
    return path


def _look(place: Path, directory: int) -> tuple[Found, ...]:
    answers: list[Found] = []
    for name in _names(directory):
        path = place / name
        if name.endswith(_HALF):  # the process that wrote it held the lock, and was killed
            _unlink(name, directory)
        elif name.endswith(SUFFIX):
            try:
                content = _read(path, directory)
            except KeyFileError as error:
                answers.append(Found(path, None, str(error)))
                continue
            if content.gone:
                _unlink(name, directory)
            else:
                answers.append(Found(path, content))
    return tuple(answers)


# --- writing

_HALF: Final = ".half"


def write(content: KeyFile, *, unique: bool = False) -> Path:
    """Write a new key file and return its path. Never replaces one of a running cluster.

    Clusters may have equal names: the file then gets a number. With `unique`, a running cluster of the same name and kind is a
    `ClusterNameTakenError` that names its processes. Raises `KeyFileError` if the file cannot be written.
    """
    with _opened(make=True) as (place, directory):
        there = _look(place, directory)
        if unique:
            for one in there:
                other = one.content
                if other is not None and (other.name, other.kind) == (content.name, content.kind):
                    raise ClusterNameTakenError(
                        f"a cluster named {content.name!r} is running already: {other.whose}. Choose another name, or stop "
                        "that one"
                    )
        stem = quote(content.name, safe=" ")[:MAX_NAME_BYTES]
        if not stem or stem.startswith("."):
            stem = "_" + stem
        taken = set(_names(directory))
        name, number = stem + SUFFIX, 1
        while name in taken:
            number += 1
            name = f"{stem}+{number}{SUFFIX}"  # no name of a cluster is quoted to one with a plus sign
        half = _half(content, place, directory)
        try:
            os.link(half, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:  # by a process that the lock did not keep out
            raise KeyFileError(f"{place / name} was made by another process in this moment; try again") from None
        except OSError:  # no links there: the lock has to do
            os.rename(half, name, src_dir_fd=directory, dst_dir_fd=directory)
        _unlink(half, directory)
        return place / name


def _half(content: KeyFile, place: Path, directory: int) -> str:
    """Write the file completely, under a name that is not read; return that name."""
    half = f"{secrets.token_hex(8)}{_HALF}"
    try:
        descriptor = os.open(
            half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(content)))
    except OSError as error:
        _unlink(half, directory)
        raise KeyFileError(f"no key file can be written in {place}: {error}") from error
    return half


def update(path: Path, change: Callable[[KeyFile], KeyFile]) -> KeyFile:
    """Replace a key file by what `change` makes of it, whole or not at all, after what others change; returns that.

    `change` must not wait, nor touch key files. Raises `KeyFileError`, also if there is no such file.
    """
    with _opened(make=True) as (place, directory):
        content = change(_read(place / path.name, directory))
        half = _half(content, place, directory)
        os.rename(half, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        return content


def remove(path: Path, key: bytes) -> bool:
    """Remove the key file of the cluster that has this key; False if it is another's now, or gone. Raises `KeyFileError`."""
    try:
        with _opened(make=False) as (place, directory):
            try:
                content = _read(place / path.name, directory)
            except KeyFileError:
                return False
            return secrets.compare_digest(content.key, key) and _unlink(path.name, directory)
    except FileNotFoundError:
        return False


def _names(directory: int) -> list[str]:
    return sorted(os.listdir(directory))


def _unlink(name: str, directory: int) -> bool:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True

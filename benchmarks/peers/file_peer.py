"""Writing values to files by hand, and reading them back in another process: parquet (pandas on pyarrow), and pickle.

Parquet has tables only: an array is one of as many columns as it has, without compression, which random numbers do not need.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import Found, Task

ARRAYS = ("samples", "pictures", "labels")


def to_parquet(values: dict[str, Any], folder: Path) -> None:
    """Write a file for each value."""
    import pandas as pd  # type: ignore[import-untyped]

    for name in ARRAYS:
        array = values[name]
        columns = array.reshape(len(array), -1)
        frame = pd.DataFrame(columns, columns=[str(number) for number in range(columns.shape[1])])
        frame.to_parquet(folder / f"{name}.parquet", compression=None)
    values["table"].to_parquet(folder / "table.parquet", compression=None)


def from_parquet(folder: Path) -> dict[str, Any]:
    """Read them; arrays have their shapes again."""
    import pandas as pd

    values: dict[str, Any] = {name: pd.read_parquet(folder / f"{name}.parquet").to_numpy() for name in ARRAYS}
    values["labels"] = values["labels"].reshape(-1)
    values["table"] = pd.read_parquet(folder / "table.parquet")
    return values


def to_pickle(values: dict[str, Any], folder: Path) -> None:
    """Write all of them to one file."""
    with (folder / "values.pickle").open("wb") as file:
        pickle.dump(values, file, protocol=5)


def from_pickle(folder: Path) -> dict[str, Any]:
    """Read them."""
    with (folder / "values.pickle").open("rb") as file:
        found: dict[str, Any] = pickle.load(file)
    return found


WAYS: dict[str, tuple[Callable[[dict[str, Any], Path], None], Callable[[Path], dict[str, Any]], tuple[str, ...]]] = {
    "parquet": (to_parquet, from_parquet, ("numpy", "pandas", "pyarrow")),
    "pickle": (to_pickle, from_pickle, ("numpy", "pandas")),
}


def main() -> None:
    """Have another process write, and read here; or be the one that writes."""
    task = Task.given()
    write, read, needed = WAYS[task.side["of"]]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        Found(absent=f"not installed here: {', '.join(missing)}").say()
        return
    from benchmarks import keepsakes

    folder = Path(task.scratch)
    if "write" in sys.argv:
        values = keepsakes.made(task.numbers["megabytes"])
        write(values, folder)
        print(keepsakes.touched(values))
        return
    writer = [sys.executable, "-P", "-m", "benchmarks.peers.file_peer", sys.argv[1], "write"]
    written = int(subprocess.run(writer, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
    for name in needed:
        importlib.import_module(name)
    begun = time.perf_counter()
    values = read(folder)
    there = time.perf_counter() - begun
    total = keepsakes.touched(values)
    all_read = time.perf_counter() - begun
    if total != written:
        raise RuntimeError("what was read is not what was written")
    Found(task.numbers["megabytes"], figures={"there": there, "touched": all_read}).say()


if __name__ == "__main__":
    main()

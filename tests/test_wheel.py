"""The built wheel: complete, and usable from an environment that has never seen the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("raftoral_nb", "kernel_ext")

LOAD_THE_EXTENSION = """
import json, sys
from importlib.resources import files

from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "raftoral_nb")

import kernel_ext, raftoral_nb

static = files(kernel_ext) / "widgets" / "static"
facts = {
    "raftoral_nb": raftoral_nb.__file__,
    "kernel_ext": kernel_ext.__file__,
    "line_magics": [name for name in shell.magics_manager.magics["line"] if "raftoral" in name],
    "cell_magics": [name for name in shell.magics_manager.magics["cell"] if "workflow" in name],
    "static": sorted(entry.name for entry in static.rglob("*") if entry.is_file()),
    "typed": [(files(package) / "py.typed").is_file() for package in (raftoral_nb, kernel_ext)],
}
shell.run_line_magic("unload_ext", "raftoral_nb")
shell.history_manager.end_session()
print("FACTS " + json.dumps(facts))
"""


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What the command printed; a failure shows it all."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # Without isolation nothing is downloaded; the build backend is one of the test requirements.
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel in it.

    Its dependencies come from the environment of the tests, by a path that stands after its own site-packages. That path does
    not bring the checkout along: .pth files, editable installs among them, work only in a real site directory.
    """
    place = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=place)
    (site_packages,) = place.glob("lib/python*/site-packages")
    paths = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (site_packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths))
    return place


def clean_environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER", "IPYTHON"))}
    return {**kept, "HOME": str(home), "IPYTHONDIR": str(home / "ipython")}


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(wheel: Path) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_the_extension_loads_from_the_installed_wheel(environment: Path, tmp_path: Path) -> None:
    output = run(
        environment / "bin" / "python", "-c", LOAD_THE_EXTENSION, cwd=tmp_path, env=clean_environment(tmp_path)
    )
    (line,) = (line for line in output.splitlines() if line.startswith("FACTS "))
    facts = json.loads(line.removeprefix("FACTS "))
    for package in PACKAGES:
        assert Path(facts[package]).is_relative_to(environment), facts
    assert facts["line_magics"] == ["raftoral"]
    assert facts["cell_magics"] == ["workflow"]
    assert facts["static"] == sorted(
        path.name for path in (ROOT / "kernel_ext" / "widgets" / "static").rglob("*") if path.is_file()
    )
    assert any(name.endswith(".mjs") for name in facts["static"])
    assert facts["typed"] == [True, True]


def test_the_console_script_of_the_installed_wheel_explains_itself(environment: Path, tmp_path: Path) -> None:
    output = run(environment / "bin" / "raftoral-nb", "--help", cwd=tmp_path, env=clean_environment(tmp_path))
    assert "demo" in output

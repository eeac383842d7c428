"""What a reader gets who follows a Binder link: `binder/` read and replayed as Binder would, without Docker."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from playwright.sync_api import Browser

from tests.browser.binder import check
from tests.browser.binder_build import ROOT, BinderError, closure, read


@pytest.fixture
def binder(tmp_path: Path) -> Path:
    """A folder `binder/` that is in order."""
    folder = tmp_path / "binder"
    folder.mkdir()
    (folder / "runtime.txt").write_text("python-3.12\n")
    (folder / "requirements.txt").write_text("# what is needed\n-e .[demo]  # the checkout\n\nnumpy>=1.26\n")
    return folder


@pytest.mark.browser
def test_a_binder_link_opens_the_index_and_the_first_notebook_runs_with_its_view_in_less_than_a_gigabyte(
    browser: Browser, tmp_path: Path
) -> None:
    check(tmp_path, browser, offline=True)


def test_the_python_of_binder_is_one_that_the_project_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert read(ROOT / "binder").python in SpecifierSet(project["requires-python"])


def test_the_folder_is_read_as_repo2docker_reads_it(binder: Path) -> None:
    script = binder / "postBuild"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    plan = read(binder)
    assert (plan.python, plan.requirements) == ("3.12", ("-e .[demo]", "numpy>=1.26"))
    assert (plan.post_build, plan.start) == (script, None)


def test_a_file_that_would_silently_win_over_the_requirements_is_refused(binder: Path) -> None:
    (binder / "environment.yml").write_text("dependencies: []\n")
    with pytest.raises(BinderError, match=r"binder/environment\.yml is not replayed"):
        read(binder)


def test_a_runtime_that_names_no_python_is_refused_where_binder_would_take_one_of_its_own(binder: Path) -> None:
    (binder / "runtime.txt").write_text("3.12\n")
    with pytest.raises(BinderError, match=r"one line like python-3\.11, not '3\.12'"):
        read(binder)


def test_a_folder_without_requirements_is_refused(binder: Path) -> None:
    (binder / "requirements.txt").unlink()
    with pytest.raises(BinderError, match="nothing would be installed"):
        read(binder)


def test_a_script_that_cannot_be_executed_is_refused(binder: Path) -> None:
    (binder / "postBuild").write_text("#!/bin/sh\n")
    with pytest.raises(BinderError, match="binder/postBuild is not executable"):
        read(binder)


def test_offline_a_package_that_is_not_here_or_too_old_is_named() -> None:
    with pytest.raises(BinderError, match=r"no-such-package-of-anybody is not installed here"):
        closure(["no-such-package-of-anybody"])
    with pytest.raises(BinderError, match=r"pytest>=9999 is asked for"):
        closure(["pytest>=9999"])


def test_offline_only_what_was_asked_for_comes_along_with_what_that_requires() -> None:
    there = closure(["-e .[demo]"])
    assert {"jupyterlab", "anywidget", "msgspec", "jupyter-server"} <= set(there)
    assert not {"pytest", "playwright", "raftoral-nb"} & set(there)

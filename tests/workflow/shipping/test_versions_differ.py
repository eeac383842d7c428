"""Code that was registered with other versions of Python or of packages: who cannot load it says so, naming both."""

from __future__ import annotations

import platform
import sys
import types
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from raftoral_nb import VersionMismatchError
from raftoral_nb.core.records import Definition
from raftoral_nb.workflow.shipping import definitions, versions


def by_value(text: str, **names: Any) -> Callable[..., Any]:
    """A function as of a notebook's cell: it travels by value."""
    module = types.ModuleType("__main__")
    vars(module).update(names)
    exec(compile(text, "<cell>", "exec"), vars(module))
    found: Callable[..., Any] = vars(module)["flow"]
    return found


def built(text: str, **names: Any) -> Definition:
    return definitions.build("flow", 1, by_value(text, **names))[0]


def test_a_definition_carries_the_versions_of_python_and_of_the_packages_it_refers_to() -> None:
    definition = built("async def flow(ctx, x):\n    return msgspec.json, python", msgspec=msgspec, python=platform)
    assert definition.made_with == {"python": platform.python_version(), "msgspec": msgspec.__version__}
    assert definitions.load(definition).__name__ == "flow"


def test_code_of_another_python_is_not_even_unpickled() -> None:
    definition = built("async def flow(ctx, x):\n    return x")
    foreign = msgspec.structs.replace(definition, made_with={"python": "3.99.1"})
    with pytest.raises(VersionMismatchError) as caught:
        definitions.load(foreign)
    assert f"registered with Python 3.99.1, and this node runs Python {platform.python_version()}" in str(caught.value)
    same = ".".join(map(str, sys.version_info[:2]))
    definitions.load(msgspec.structs.replace(definition, made_with={"python": f"{same}.99"}))


def test_code_that_does_not_unpickle_names_the_packages_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("a_package_of_the_notebook")
    vars(package)["__version__"] = "1.5"
    exec("def helps():\n    return 1", vars(package))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    definition = built("async def flow(ctx, x):\n    return helps()", helps=vars(package)["helps"])
    assert definition.made_with[package.__name__] == "1.5"

    vars(package)["__version__"] = "2.0"
    definitions.load(definition)  # what loads is not refused for its versions
    del vars(package)["helps"]
    with pytest.raises(VersionMismatchError, match=r"a_package_of_the_notebook was 1\.5 where it was .* is 2\.0 here"):
        definitions.load(definition)
    monkeypatch.delitem(sys.modules, package.__name__)
    with pytest.raises(VersionMismatchError, match=r"was 1\.5 where it was registered, and is not installed here"):
        definitions.load(definition)


def test_versions_that_nobody_wrote_down_keep_nobody_from_anything() -> None:
    assert versions.other_python({}) is None
    assert versions.differences({}) == ""

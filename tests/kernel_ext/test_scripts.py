"""The live view's modules become one script."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kernel_ext.widgets.scripts import STATIC, bundled
from raftoral_nb.errors import InternalError
from tests.tools import require_tool

MODULES = sorted(STATIC.glob("*.mjs"))


def write(folder: Path, **modules: str) -> Path:
    for name, text in modules.items():
        (folder / f"{name}.mjs").write_text(text, "utf-8")
    return folder / "view.mjs"


def test_every_module_is_in_the_script_once_and_behind_those_it_imports() -> None:
    script = bundled()
    firsts = {module: module.read_text("utf-8").splitlines()[0] for module in MODULES}
    assert len(set(firsts.values())) == len(MODULES)
    for module, first in firsts.items():
        assert script.count(first) == 1, f"{module.name} begins with a line that says what it is"
        for needed in re.findall(r'from "\./([\w-]+\.mjs)"', module.read_text("utf-8")):
            assert script.index(firsts[STATIC / needed]) < script.index(first)
    assert not re.search(r"^import\b", script, re.MULTILINE)
    assert len(re.findall(r"^export\b", script, re.MULTILINE)) == 1


def test_the_script_is_a_module_that_can_be_loaded_and_exports_render(tmp_path: Path) -> None:
    """Two modules that declare the same name would make it a syntax error."""
    node = require_tool("node", get_it="apt-get install nodejs, or https://nodejs.org")
    (tmp_path / "one.mjs").write_text(bundled(), "utf-8")
    (tmp_path / "try.mjs").write_text(
        'import view from "./one.mjs"; if (typeof view.render !== "function") throw new Error("no render");', "utf-8"
    )
    done = subprocess.run([node, tmp_path / "try.mjs"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_what_two_modules_import_is_taken_once(tmp_path: Path) -> None:
    entry = write(
        tmp_path,
        low="// low\nexport const a = 1;\n",
        left='import { a } from "./low.mjs";\nexport function b() { return a; }\n',
        view='import {\n  a,\n} from "./low.mjs";\nimport { b } from "./left.mjs";\nexport default { a, b };\n',
    )
    assert bundled(entry) == "// low\nconst a = 1;\n\nfunction b() { return a; }\n\nexport default { a, b };\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('import * as all from "./low.mjs";\n', "cannot be put into one script: import"),
        ('import { a as b } from "./low.mjs";\n', "renames"),
        ('import { a } from "elsewhere";\n', "cannot be put into one script: import"),
        ("export { a };\n", "cannot be put into one script: export { a };"),
        ('import { b } from "./view.mjs";\n', "imports itself"),
    ],
)
def test_an_import_or_export_in_another_form_is_refused(tmp_path: Path, text: str, says: str) -> None:
    entry = write(tmp_path, low="export const a = 1;\n", view=text)
    with pytest.raises(InternalError, match=re.escape(says)):
        bundled(entry)

"""Makes one script of the live view's modules: a widget's front end loads a single one, and there is no build step.

The modules are real ones, so that Node and an editor can read them as they are. Here they are put behind one another, each
behind those it imports, and their `import` and `export` words are taken out. So they share one scope: no two of them may
declare the same name at their top level (a test holds that).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from raftoral_nb.errors import InternalError

STATIC: Final = Path(__file__).parent / "static"

_IMPORT: Final = re.compile(r'^import \{(?P<names>[^{}]*)\} from "\./(?P<module>[\w-]+\.mjs)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async function|function|const|let|class)\b)", re.MULTILINE)
_LEFT: Final = re.compile(r"^(?:import|export)\b(?! default )", re.MULTILINE)


def bundled(entry: Path = STATIC / "view.mjs") -> str:
    """The module `entry` and all it imports, as the text of one module that exports what `entry` exports by default.

    Raises `InternalError` for an import or export in another form than `import { a, b } from "./module.mjs";` on its own
    lines and `export` before a declaration.
    """
    parts: dict[Path, str] = {}
    _gather(entry, parts, ())
    return "\n".join(parts.values())


def _gather(module: Path, parts: dict[Path, str], importers: tuple[Path, ...]) -> None:
    if module in importers:
        raise InternalError(f"{module.name} imports itself, by way of {importers[-1].name}")
    if module in parts:
        return
    source = module.read_text("utf-8")
    for found in _IMPORT.finditer(source):
        if " as " in found["names"]:
            raise InternalError(
                f"{module.name} renames what it imports from {found['module']}; there is one scope for all"
            )
        _gather(module.parent / found["module"], parts, (*importers, module))
    text = _EXPORT.sub("", _IMPORT.sub("", source))
    if left := _LEFT.search(text):
        line = text[left.start() :].splitlines()[0]
        raise InternalError(f"{module.name} has an import or export that cannot be put into one script: {line}")
    parts[module] = text

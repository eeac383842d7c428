"""README's links to Binder, one for each notebook: made from `Binder` of `[project.urls]`, and none until it is set."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

ROOT: Final = Path(__file__).resolve().parents[2]
BEGIN: Final = "<!-- Binder: written by `make docs` from [project.urls] in pyproject.toml -->"
END: Final = "<!-- end of Binder -->"


def binder_url(pyproject: str) -> str | None:
    """The address that `[project.urls]` gives for Binder, as `https://mybinder.org/v2/gh/OWNER/NAME/HEAD`; None if it gives none."""
    urls: dict[str, str] = tomllib.loads(pyproject)["project"].get("urls", {})
    address = urls.get("Binder")
    if address is None:
        return None
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.path.startswith("/v2/") or parts.query:
        raise ValueError(
            f"Binder in [project.urls] is like https://mybinder.org/v2/gh/OWNER/NAME/HEAD, not {address!r}"
        )
    return address.rstrip("/")


def titles(folder: Path) -> dict[str, str]:
    """The notebooks of a folder, in order, and the heading of each."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.ipynb")):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        found[path.name] = first.partition("\n")[0].removeprefix("# ")
    return found


def badges(address: str | None, notebooks: dict[str, str]) -> str:
    """The Markdown: a badge for each notebook; nothing without an address."""
    if address is None:
        return ""
    image = f"https://{urlsplit(address).netloc}/badge_logo.svg"
    lines = ["Without installing anything, each notebook in a server of its own:", ""]
    lines += [
        f"* [![{title}, on Binder]({image})]({address}?labpath={quote(f'notebooks/{name}', safe='')}) {title}"
        for name, title in notebooks.items()
    ]
    return "\n".join(lines)


def with_badges(readme: str, made: str) -> str:
    """README with what is between the two marks replaced. Raises ValueError if they are not there, once each and in order."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"README needs these two lines, once each: {BEGIN} {END}")
    inside = f"\n{made}\n" if made else "\n"
    return f"{before}{begin}{inside}{end}{after}"


def readme() -> str:
    """README as it should be now."""
    made = badges(binder_url((ROOT / "pyproject.toml").read_text(encoding="utf-8")), titles(ROOT / "notebooks"))
    return with_badges((ROOT / "README.md").read_text(encoding="utf-8"), made)

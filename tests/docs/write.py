"""Writes what of the documentation is made by programs: `python -m tests.docs.write`, or `make docs`."""

from __future__ import annotations

from tests.docs import badges, reference


def main() -> None:
    """The command."""
    for path, text in ((reference.PATH, reference.reference()), (badges.ROOT / "README.md", badges.readme())):
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(badges.ROOT))


if __name__ == "__main__":
    main()

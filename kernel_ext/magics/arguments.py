"""Means to take apart what follows a subcommand. Pure: nothing here touches a cluster or a shell."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Final, NoReturn

from ..errors import MagicError

_NAME: Final = re.compile(r"\s*(?P<name>[^\s-]\S*)")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises our error, in place of printing to stderr and leaving Python."""

    def __init__(self, usage: str) -> None:
        super().__init__(prog="", usage=usage, add_help=False, allow_abbrev=False)
        self._line = usage

    def error(self, message: str) -> NoReturn:
        """Raises `MagicError` with how the line should look."""
        message = re.sub(r"^argument (\S+):", r"\1:", message)
        raise MagicError(f"{message}.\nUsage: {self._line}")

    def read(self, rest: str) -> argparse.Namespace:
        """Takes apart what was typed, quoted as in a shell. Raises `MagicError`."""
        try:
            words = shlex.split(rest)
        except ValueError as problem:
            raise MagicError(f"{str(problem).lower()} in {rest!r}.\nUsage: {self._line}") from None
        return self.parse_args(words)


def count(text: str) -> int:
    """A whole number from 1; raises what argparse expects."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, not {text!r}")
    return int(text)


def nothing(rest: str, usage: str) -> None:
    """Takes no arguments. Raises `MagicError` if there are some."""
    Parser(usage).read(rest)


def workflow_and_rest(name: str, rest: str, usage: str) -> tuple[str, str]:
    """The name of a workflow, and what stands behind it as it was typed. Raises `MagicError` if there is no name."""
    match = _NAME.match(rest)
    if not match:
        raise MagicError(f"{name} needs the name of a workflow.\nUsage: {usage}")
    return match["name"], rest[match.end() :]

"""The comment at the end of a magic's line: IPython gives magics the whole line. Pure."""

from __future__ import annotations

import io
import re
import tokenize
from typing import Final

_BEGINS: Final = re.compile(r"(?<!\S)#(?!\S)")

_QUOTED_OR_BEGINS: Final = re.compile(
    rf"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|(?P<begins>{_BEGINS.pattern})", re.DOTALL
)


def without_comment(line: str) -> str:
    """The line without the `# comment` that ends it. The `#` stands by itself and outside quotes: `a#b`, `#5` and `"a # b"` are no comments."""
    text = line.rstrip()
    at = text.find("#")
    if at >= 0:
        at = _place(text)
    return line if at < 0 or "\n" in text[at:] else text[:at].rstrip()


def _place(text: str) -> int:
    """The place where a comment begins; -1 if there is none."""
    try:
        # Python knows its own quotes best, such as those in an f-string.
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT and text.endswith(token.string):
                begins = len(text) - len(token.string)
                return begins if _BEGINS.match(text, begins) else -1
    except (tokenize.TokenError, SyntaxError):
        # Words such as `5m` or `run-007`, or a bracket that is left open.
        return next((one.start() for one in _QUOTED_OR_BEGINS.finditer(text) if one["begins"]), -1)
    return -1

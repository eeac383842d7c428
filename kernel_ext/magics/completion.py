"""Completion: what Tab offers after `%raftoral` and `%%workflow`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from .known import Known
from .subcommand import Typed
from .table import TABLE
from .workflow_line import workflow_offers

_LINE: Final = re.compile(r"(?:^|=)\s*%raftoral\s+(?P<rest>.*)$")
_DOTTED: Final = re.compile(r"[^\W\d]\w*(?:\.\w*)*$")
_CELL: Final = re.compile(r"^\s*%%workflow\s+(?P<rest>.*)$")


def offers(rest: str, known: Known) -> list[str] | None:
    """Offers what may stand where `rest`, the text after `%raftoral ` up to the cursor, ends; None to leave it to Python.

    Offers are whole words; whoever asks keeps those that begin as the last word does.
    """
    words = rest.split()
    current = "" if not words or rest[-1].isspace() else words.pop()
    if not words:
        return list(TABLE)
    subcommand = TABLE.get(words[0])
    if subcommand is None:
        return []
    before = words[1:]
    values = subcommand.flags.get(before[-1]) if before else None
    if values is not None:
        return list(values(known))
    flags = [flag for flag in subcommand.flags if flag not in before]
    if flags and current.startswith("-"):
        return flags
    return subcommand.offers(Typed(tuple(before), tuple(flags), known))


def make_matcher(known: Callable[[], Known]) -> Callable[[CompletionContext], SimpleMatcherResult]:
    """A matcher for `IPCompleter.custom_matchers`; `known` is asked at each completion, and must not block."""

    def match(context: CompletionContext) -> SimpleMatcherResult:
        line = _LINE.search(context.text_until_cursor)
        cell = _CELL.search(context.text_until_cursor) if context.cursor_line == 0 else None
        found: Sequence[str] | None = None
        rest = ""
        if line:
            rest = line["rest"]
            found = offers(rest, known())
        elif cell:
            rest = cell["rest"]
            found = workflow_offers(rest, known())
        if found is None:
            return _python(rest, known())
        return _result(found, rest, context.token)

    match.__qualname__ = "raftoral_matcher"
    decorated: Any = context_matcher(identifier="raftoral_matcher")(match)
    return decorated  # type: ignore[no-any-return] # IPython's decorator is untyped


def _python(rest: str, known: Known) -> SimpleMatcherResult:
    """IPython itself completes no Python behind a magic's name."""
    name = _DOTTED.search(rest)
    word = name[0] if name else ""
    matching = list(known.python(word)) if word else []
    completions = [SimpleCompletion(text=one, type="raftoral") for one in matching]
    return {"completions": completions, "matched_fragment": word, "suppress": bool(completions)}


def _result(found: Iterable[str], rest: str, token: str) -> SimpleMatcherResult:
    """IPython replaces its own token, which may be only the end of our word (it splits at `-`): the rest must not repeat."""
    word = "" if not rest or rest[-1].isspace() else rest.rsplit(maxsplit=1)[-1]
    kept = word[: len(word) - len(token)] if token and word.endswith(token) else ""
    matching = [offer[len(kept) :] for offer in found if offer.startswith(word)]
    return {
        "completions": [SimpleCompletion(text=offer, type="raftoral") for offer in matching],
        "matched_fragment": token if word else "",
        "suppress": True,
    }

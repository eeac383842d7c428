"""What Tab offers after `%raftoral` and `%%workflow`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, get_args

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from raftoral_nb.statistics import RunStatus

from .parsing import (
    DURABILITIES,
    FLAGS,
    LINK_ARGUMENTS,
    LINK_COMMANDS,
    LOG_LEVELS,
    MESSAGES,
    NODE_COMMANDS,
    NODE_WORDS,
    RUN_COMMANDS,
    RUN_OR_NODE,
    SUBCOMMANDS,
)

_DELAYS: Final = ("50ms", "200ms", "1s")
_AGES: Final = ("5m", "1h", "1d")
_ELECTIONS: Final = ("1s-2s", "5s-10s")
_SIZES: Final = ("20kB", "1MB", "8MB")
"""Times and sizes that are offered; any other may be typed."""
_LINE: Final = re.compile(r"(?:^|=)\s*%raftoral\s+(?P<rest>.*)$")
_DOTTED: Final = re.compile(r"[^\W\d]\w*(?:\.\w*)*$")
_CELL: Final = re.compile(r"^\s*%%workflow\s+(?P<rest>.*)$")


@dataclass(frozen=True)
class Known:
    """The names that can be completed, as they are now. `functions` are workflows of the notebook, registered or not."""

    nodes: tuple[int, ...] = ()
    workflows: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    """Those that can be attached to."""
    python: Callable[[str], Iterable[str]] = lambda _: ()
    """What Python offers for a name or a dotted name of the notebook."""


def offers(rest: str, known: Known) -> list[str] | None:
    """What may stand where `rest`, the text after `%raftoral ` up to the cursor, ends; None to leave it to Python.

    Offers are whole words; whoever asks keeps those that begin as the last word does.
    """
    words = rest.split()
    current = "" if not words or rest[-1].isspace() else words.pop()
    if not words:
        return list(SUBCOMMANDS)
    name, before = words[0], words[1:]
    previous = before[-1] if before else ""
    numbers = [str(number) for number in known.nodes]
    if name in NODE_COMMANDS:
        return [] if before else [*numbers, *NODE_WORDS[name], *(known.run_ids if name in RUN_OR_NODE else ())]
    if name in MESSAGES and len(before) > 1:
        return None
    if name in MESSAGES or name in RUN_COMMANDS:
        return [] if before else list(known.run_ids)
    values = {
        "--log-level": list(LOG_LEVELS),
        "--durability": list(DURABILITIES),
        "--node": numbers,
        "--nodes": [],
        "--last": [],
        "--version": [],
        "--id": [],
        "--status": list(get_args(RunStatus)),
        "--workflow": list(known.workflows),
        "--since": list(_AGES),
        "--delay": list(_DELAYS),
        "--jitter": list(_DELAYS),
        "--heartbeat": list(_DELAYS),
        "--election-timeout": list(_ELECTIONS),
        "--snapshot-after": list(_SIZES),
        "--keep-log": list(_SIZES),
        "--port": [],
    }
    if previous in values:
        return values[previous]
    flags = [flag for flag in FLAGS.get(name, ()) if flag not in before]
    if current.startswith("-"):
        return flags
    if name in LINK_COMMANDS:
        return _link_offers(name, before, known) + flags
    if name == "scenario":
        return flags if [word for word in before if not word.startswith("-")] else [*known.scenarios, *flags]
    if name == "run":
        # Behind the name, and any flags with their values, stands Python.
        return None if before else list(known.workflows)
    if name == "attach":
        return [] if before else list(known.clusters)
    if name == "move":
        return list(known.run_ids) if not before else []
    if name == "check":
        return None if before else [*dict.fromkeys((*known.functions, *known.workflows))]
    if name == "register" and not before:
        return list(known.functions)
    if name in ("log", "history") and not [word for word in before if not word.startswith("-")]:
        return list(known.run_ids) + flags
    return flags


def _link_offers(name: str, before: list[str], known: Known) -> list[str]:
    """The nodes and links that may stand behind a fault's name and these words."""
    given = [word for word in before if not word.startswith("-") and word not in _DELAYS]
    if name == "add" or (given and name in ("isolate", "transfer", "cut", "slow", "remove")):
        return []
    nodes = [one for one in (*map(str, known.nodes), *NODE_WORDS[name]) if one not in given]
    links = [f"{a}-{b}" for a, b in combinations(known.nodes, 2) if f"{a}-{b}" not in given]
    if name == "cut":
        return links
    if name == "partition" and given and given[-1] != "/":
        nodes.append("/")
    return nodes + (links if name in LINK_ARGUMENTS else [])


def workflow_offers(rest: str, known: Known) -> list[str]:
    """The same for `%%workflow`: a name, and its flags."""
    before = rest.split() if not rest or rest[-1].isspace() else rest.split()[:-1]
    if before and before[-1] == "--version":
        return []
    flags = [flag for flag in ("--version", "--strict") if flag not in before]
    return [*known.workflows, *flags] if not before else flags


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

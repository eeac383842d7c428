"""Results of steps that are found again, by what computed them and from what: the acting node's look into the cache.

What is found becomes the step's record, so executions never look. The cache itself is part of the replicated state
(`core/step_rules`): what is in it follows from the log.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from ...errors import RaftoralError
from ...limits import MAX_COPIED_BYTES, MAX_NAME_CHARS, MAX_SHOWN_INPUTS
from ..codec import digests, pickling, values
from ..execution.products import ForCache, Made
from ..shipping import arithmetic, versions

if TYPE_CHECKING:
    from ..codec.classes import Identity
    from ..execution.execution import Execution
    from .step_arguments import Call

_SHOWN: Final = 40
"""Characters of one input that are shown."""


def look(execution: Execution, call: Call, ttl: float | None) -> Made | ForCache | None:
    """Return the product of a step as it is in the cache; or what the cache is to be told of the result; or None: its inputs have no digest.

    What does not unpickle here, or is older than `ttl` seconds, is not found.
    """
    fn, args, kwargs = call
    name = values.shorten_text(str(getattr(fn, "__name__", None) or type(fn).__name__), MAX_NAME_CHARS)
    key = key_of(fn, args, kwargs)
    if key is None:
        execution.say_once(
            f"steps of {name} are computed each time: its inputs, or what it captured, have no digest, as they do not pickle or are too "
            "large. Give it plain data (numbers, text, lists, dicts, dataclasses, arrays, tables), or leave cache= out"
        )
        return None
    found = execution.around.cached_step(key)
    if found is not None and (ttl is None or execution.around.alarms.clock() - found.at < ttl):
        try:
            values.decode(found.value, what=f"what is cached from {found.source}", view=execution.classes)
        except RaftoralError:
            pass  # of a class that has changed since, say
        else:
            return Made(found.value, None, cached=ForCache(key, name, found.inputs, found.source))
    return ForCache(key, name, _shown(args, kwargs))


def key_of(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return what equal calls of the same code share, on every node and in every process; None if they cannot be told from others.

    Counted are: the function by its bytecode, with all by-value code that it reaches and the values that it captured; the versions
    of Python and of the packages that it refers to; the cell's arithmetic; the inputs by their canonical digest, and the code of the
    notebook's classes that they are made of.
    """
    code, inputs = digests.strict_code_digest(fn), digests.digest((args, kwargs))
    if code is None or inputs is None:
        return None
    classes: dict[Identity, type] = {}
    try:
        pickling.dumps((args, kwargs), MAX_COPIED_BYTES, classes)
    except Exception:  # pickling may raise anything
        return None
    digest, modules = code
    parts = (digest, inputs, _made_with(modules), sorted(arithmetic.settings().items()), sorted(map(tuple, classes)))
    return blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


@lru_cache(maxsize=128)
def _made_with(modules: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the versions of Python and of the packages of these modules. They stay as long as this process, and take time to be found."""
    return tuple(sorted(versions.made_with(modules).items()))


def _shown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    given = [values.shorten(value, _SHOWN) for value in args]
    given += [f"{name}={values.shorten(value, _SHOWN)}" for name, value in kwargs.items()]
    return values.shorten_text(", ".join(given), MAX_SHOWN_INPUTS)

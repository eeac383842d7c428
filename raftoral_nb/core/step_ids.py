"""Names of steps: a step_id is a *position* (the branch's path and an ordinal in it, `2.1.0`), a slash and a key.

A branch is one task of a workflow. Its path follows from the code alone: the main task's is empty, branch 1 of the operation at
position `2` has `2.1.`, and the second task that a branch makes by itself has `t1.` behind that branch's own path;
the third handler of an update that begins has `u3.`. The same code
gives the same operations the same names on every node and in every replay, whichever of its tasks runs first.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

from ..errors import StepKeyError
from ..limits import MAX_NAME_CHARS, MAX_STEP_ID_CHARS
from .records import StepId

# Control characters and line breaks garble every view; half surrogates cannot be encoded.
_UNUSABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_key(key: str) -> None:
    """Raise `StepKeyError` unless `key` can name a step: text of 1 to 256 characters, none a control character."""
    given: object = key  # a notebook's code is not type-checked
    if not isinstance(given, str):
        raise StepKeyError(f'a step\'s key is text, such as "charge"; got {type(given).__name__}')
    if not key or key.isspace():
        raise StepKeyError('a step\'s key must not be empty: name what the step does, such as "charge"')
    if len(key) > MAX_NAME_CHARS:
        raise StepKeyError(f"the step's key {key[:40]!r}... has {len(key)} characters; at most {MAX_NAME_CHARS} may be")
    if found := _UNUSABLE.search(key):
        raise StepKeyError(
            f"the step's key {key!r} has the character {found[0]!r}, which is not printable: leave it out"
        )


def position_of(step_id: StepId) -> str:
    """Return the branch's path and the ordinal: the step_id without its key."""
    return step_id.partition("/")[0]


class Branch:
    """The namer of the steps of one task of a workflow."""

    __slots__ = ("_gates", "ordinal", "path")

    path: str
    """Empty for the main task; `2.1.` for branch 1 of its operation 2, `t0.` for the first task that it made."""
    # Invariant: the number of operations that were named on this branch.
    ordinal: int
    # Invariant: by name of a gate, how often it was asked for on this branch.
    _gates: dict[str, int]

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.ordinal = 0
        self._gates = {}

    def __repr__(self) -> str:
        return f"Branch({self.path!r}, ordinal={self.ordinal})"

    def peek_id(self, key: str) -> StepId:
        """Return the step_id that the next operation would get under `key`. Raises `StepKeyError`."""
        return self._checked(f"{self.path}{self.ordinal}", key)

    def next_id(self, key: str) -> StepId:
        """Return the step_id of the next operation, which it is from now on.

        Raises `StepKeyError`, which takes no ordinal.
        """
        step_id = self._checked(f"{self.path}{self.ordinal}", key)
        self.ordinal += 1
        return step_id

    def next_gate_id(self, name: str) -> StepId:
        """Return the step_id of the gate `name`, asked for once more. It takes no ordinal: the steps around it keep their names.

        Raises `StepKeyError`.
        """
        check_key(name)
        number = self._gates.get(name, 0)
        # By its name, so that another gate before it changes nothing.
        step_id = self._checked(f"{self.path}g{_short(name)}.{number}", name)
        self._gates[name] = number + 1
        return step_id

    def _checked(self, position: str, key: str) -> StepId:
        check_key(key)
        step_id = f"{position}/{key}"
        if len(step_id) > MAX_STEP_ID_CHARS:
            raise StepKeyError(
                f"step {key!r} lies too deep: its step_id has {len(step_id)} characters, and {MAX_STEP_ID_CHARS} may be"
            )
        return step_id


def _short(name: str) -> str:
    return blake2b(name.encode(), digest_size=6).hexdigest()


def path_of(position: str, index: int) -> str:
    """Return the path of branch `index` (from 0) of the operation at `position`."""
    return f"{position}.{index}."

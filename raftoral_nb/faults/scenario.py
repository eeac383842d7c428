"""Scenarios: faults in a sequence that can be repeated, as data. The built-in ones are at the end.

A scenario is a list of steps, each `(when, what)`. `what` is a fault as `%raftoral` takes it (`"isolate leader"`), or a
sentence that is said (`"# the majority continues"`). `when` is a number of seconds (or a `timedelta`) after the step before, or a condition that
comes true, or came true since the last fault:

    Scenario("my-own", [
        ("step started", "isolate leader"),
        ("leader changed", "# what the old leader records now is not acknowledged"),
        (0.5, "heal"),
        ("level", "# everybody has everything"),
    ])
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..core.records import NodeId
from ..errors import FaultError, ScenarioError
from ..limits import MAX_NAME_CHARS
from ..threads.seconds import Seconds, as_number, is_number
from .fault_lines import Fault, numbers_in, parse_fault

CONDITIONS: Final = {
    "leader": "a node acts as leader",
    "leader changed": "another node acts as leader than before the last fault",
    "candidate": "a node has become a candidate",
    "step started": "a step's function has begun to run",
    "step recorded": "a step was recorded",
    "run ended": "a run has ended",
    "level": "every node that runs has applied what any node has",
}
"""The conditions that a step may wait for. `N steps recorded` waits for that many."""

MAX_SCENARIO_STEPS: Final = 1000
"""Steps of one scenario."""

MAX_SCENARIO_PAUSE: Final = 3600.0
"""Seconds between two steps."""

_STEPS_RECORDED: Final = re.compile(r"([1-9]\d{0,5}) steps recorded")
_MAGIC: Final = "%raftoral "
_NAME: Final = re.compile(r"[^\W\d][\w.-]*")

When = str | float


class ScenarioStep(msgspec.Struct, frozen=True):
    """One step: `when` is seconds after the step before, or a condition; `what` is a fault's line or a `# sentence`."""

    when: When
    what: str

    @property
    def fault(self) -> Fault | None:
        """The fault that is done; None if something is said."""
        return None if self.what.startswith("#") else parse_fault(self.what)

    @property
    def said(self) -> str:
        """The sentence that is said; "" if something is done."""
        return self.what.removeprefix("#").strip() if self.what.startswith("#") else ""

    @property
    def when_words(self) -> str:
        """`after 0.5 s`, `when leader changed`, or "" if it is done at once."""
        if isinstance(self.when, str):
            return f"when: {self.when}"
        return f"after {self.when:g} s" if self.when else ""


class Scenario(msgspec.Struct, frozen=True):
    """A sequence of faults that can be repeated. `steps` are pairs `(when, what)`; see the module.

    Raises `ScenarioError`, which names the step, if one of them is neither a fault nor a sentence, or waits for nothing
    that can be waited for. Which nodes there are is only known when it is played.
    """

    name: str
    steps: tuple[ScenarioStep, ...]
    description: str = ""

    if TYPE_CHECKING:  # what may be given is wider than what is kept

        def __init__(
            self, name: str, steps: Iterable[ScenarioStep | tuple[str | Seconds, str]], description: str = ""
        ) -> None: ...

    def __post_init__(self) -> None:
        given: Any = self.name  # a notebook's code is not type-checked
        if not isinstance(given, str) or not _NAME.fullmatch(given) or len(given) > MAX_NAME_CHARS:
            raise ScenarioError(f"a scenario's name is one word such as 'late-follower', not {given!r}")
        steps: Any = self.steps
        if isinstance(steps, str) or not isinstance(steps, Iterable):
            raise ScenarioError(f"scenario {self.name}: its steps are a list of pairs (when, what), not {steps!r}")
        made = tuple(_step(self.name, number, one) for number, one in enumerate(steps, 1))
        if not 1 <= len(made) <= MAX_SCENARIO_STEPS:
            raise ScenarioError(f"scenario {self.name} has {len(made)} steps; 1 to {MAX_SCENARIO_STEPS} are allowed")
        about: Any = self.description
        if not isinstance(about, str):
            raise ScenarioError(f"scenario {self.name}: its description is a sentence, not {about!r}")
        msgspec.structs.force_setattr(self, "steps", made)

    @classmethod
    def built_in(cls, name: str, nodes: Sequence[NodeId] = (1, 2, 3)) -> Scenario:
        """Return the built-in scenario of that name, for a cluster of these nodes. Raises `ScenarioError`; `SCENARIOS` has them all."""
        return _built_in(name, nodes)

    @property
    def node_numbers(self) -> frozenset[NodeId]:
        """The nodes that are named by their numbers."""
        return frozenset(number for step in self.steps if step.fault is not None for number in numbers_in(step.fault))

    @property
    def needs_run(self) -> bool:
        """True if it waits for something that only an unfinished run brings about."""
        return any(isinstance(step.when, str) and ("step" in step.when or "run" in step.when) for step in self.steps)

    def __str__(self) -> str:
        """Return the scenario as the magic lines that do the same; what to wait for before each stands above it."""
        lines = []
        for step in self.steps:
            if step.when_words:
                lines.append(f"# {step.when_words}")
            lines.append(f"# {step.said}" if step.fault is None else f"%raftoral {step.fault}")
        return "\n".join(lines)


def steps_awaited(when: When) -> int:
    """Return how many recorded steps a condition waits for; 0 if it waits for something else."""
    if when == "step recorded":
        return 1
    found = _STEPS_RECORDED.fullmatch(when) if isinstance(when, str) else None
    return int(found[1]) if found else 0


def _step(name: str, number: int, given: Any) -> ScenarioStep:
    where = f"scenario {name}, step {number}"
    if isinstance(given, ScenarioStep):
        given = (given.when, given.what)
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ScenarioError(f"{where} is not a pair (when, what): {given!r}")
    when, what = as_number(given[0]), given[1]
    if isinstance(when, str):
        if when not in CONDITIONS and not _STEPS_RECORDED.fullmatch(when):
            raise ScenarioError(
                f"{where} waits for {when!r}, which is not a condition that can be waited for; conditions are: "
                f"{', '.join(map(repr, CONDITIONS))}, '5 steps recorded', or a number of seconds"
            )
    elif not is_number(when) or not _is_pause(when):
        raise ScenarioError(f"{where} waits for {when!r}: expected 0 to {MAX_SCENARIO_PAUSE:g} s, or a condition")
    if not isinstance(what, str) or not what.strip():
        raise ScenarioError(f"{where} does {what!r}: expected a line such as 'isolate leader', or '# a sentence'")
    what = " ".join(what.split()).removeprefix(_MAGIC)  # as `str` of a scenario shows it
    if not what.startswith("#"):
        try:
            what = str(parse_fault(what))
        except FaultError as problem:
            raise ScenarioError(f"{where}: {problem}") from None
    return ScenarioStep(when if isinstance(when, str) else float(when), what)


def _is_pause(seconds: float) -> bool:
    return 0 <= seconds <= MAX_SCENARIO_PAUSE


# --- what is built in

_Steps = Sequence[tuple[When, str]]


def _leader_dies(nodes: Sequence[NodeId]) -> _Steps:  # noqa: ARG001
    return [
        ("step started", "kill leader"),
        ("leader changed", "# the step was begun and not recorded: the new leader does it again"),
        ("step recorded", "restart dead"),
        ("level", "# the old leader has caught up, as a follower"),
    ]


def _split_vote(nodes: Sequence[NodeId]) -> _Steps:  # noqa: ARG001
    return [
        ("leader", "kill leader"),
        (0.0, "campaign"),
        ("candidate", "# all ask for votes in the same term, and each has given its own to itself"),
        ("leader changed", "# random timeouts broke the tie, in a later term"),
        (0.0, "restart dead"),
        ("level", "# the old leader follows"),
    ]


def _minority_leader(nodes: Sequence[NodeId]) -> _Steps:  # noqa: ARG001
    return [
        ("step started", "isolate leader"),
        (0.0, "# it still runs the step, but no majority acknowledges its record"),
        ("leader changed", "# the majority has a leader of its own, which does the step again"),
        ("step recorded", "heal"),
        ("level", "# the old leader took over what the majority recorded"),
    ]


def _late_follower(nodes: Sequence[NodeId]) -> _Steps:  # noqa: ARG001
    return [
        ("leader", "kill follower"),
        ("3 steps recorded", "restart dead"),
        (0.0, "# it receives what it missed; the others do not wait for it"),
        ("level", "# its log has everything; its execution drains the catch-up queue"),
    ]


def _flapping_link(nodes: Sequence[NodeId]) -> _Steps:  # noqa: ARG001
    flap: list[tuple[When, str]] = [(0.3, "cut leader-follower"), (0.7, "heal")]
    return [
        ("leader", "# a follower that hears nothing asks before it campaigns; the others still hear the leader"),
        *(flap * 5),
        ("level", "# and it has everything again"),
    ]


def _rolling_restart(nodes: Sequence[NodeId]) -> _Steps:
    steps: list[tuple[When, str]] = []
    for node in nodes:
        steps += [("level", f"kill {node}"), ("leader" if len(nodes) > 2 else 0.0, f"restart {node}")]
    return [*steps, ("level", "# every node was restarted, one after the other")]


_BUILT_IN: Final[dict[str, tuple[str, Callable[[Sequence[NodeId]], _Steps]]]] = {
    "leader-dies": ("the leader dies in the middle of a step; another does it again (needs a run)", _leader_dies),
    "split-vote": ("the followers of a dead leader campaign at the same moment; none wins", _split_vote),
    "minority-leader": (
        "a leader cut off from the majority keeps writing, and nothing of it is committed (needs a run)",
        _minority_leader,
    ),
    "late-follower": ("a follower dies, misses steps and catches up (needs a run)", _late_follower),
    "flapping-link": ("the link between the leader and a follower fails again and again", _flapping_link),
    "rolling-restart": ("every node is restarted, one after the other", _rolling_restart),
}

SCENARIOS: Final = {name: description for name, (description, _) in _BUILT_IN.items()}
"""The built-in scenarios with what they show."""


def _built_in(name: str, nodes: Sequence[NodeId]) -> Scenario:
    if name not in _BUILT_IN:
        raise ScenarioError(f"there is no scenario {name!r}; there are: {', '.join(_BUILT_IN)}")
    description, make = _BUILT_IN[name]
    least = 1 if make is _rolling_restart else 3
    if len(nodes) < least:
        raise ScenarioError(f"scenario {name} needs {least} nodes, so that a majority is left; there are {len(nodes)}")
    return Scenario(name, tuple(ScenarioStep(when, what) for when, what in make(nodes)), description)

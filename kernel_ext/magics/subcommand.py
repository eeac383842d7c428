"""All that is known of one subcommand of `%raftoral`, in one value: how it is written, what it does, how it is explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import msgspec

from .known import Known

if TYPE_CHECKING:  # the structs below are never decoded
    from raftoral_nb import Cluster, Fault  # noqa: TC004

    from .session import Session  # noqa: TC004

Group = Literal["Cluster", "Workflows and runs", "Break it"]
"""The heading under which the help tells of it."""

Values = Callable[[Known], Sequence[str]]
"""A function that gives what Tab offers as the value of a flag."""

A = TypeVar("A")
"""The type of a subcommand's arguments, read from the line."""


class Settings(msgspec.Struct, frozen=True):
    """The settings of the magics, as `%config RaftoralMagics` has them now."""

    nodes: int
    log_level: str | None
    refresh_rate: float


class Notebook(msgspec.Struct, frozen=True):
    """The things that a line of `%raftoral` works with: the session, the names that it sees, and the settings."""

    session: Session
    names: dict[str, Any]
    settings: Settings


class Typed(msgspec.Struct, frozen=True):
    """The words between a subcommand and the one that is being completed."""

    before: tuple[str, ...]
    flags: tuple[str, ...]
    """The flags that may still be given."""
    known: Known

    @property
    def given(self) -> list[str]:
        """The words that are no flags."""
        return [word for word in self.before if not word.startswith("-")]

    @property
    def nodes(self) -> list[str]:
        """The numbers of the nodes."""
        return [str(number) for number in self.known.nodes]


class Subcommand(msgspec.Struct, Generic[A], frozen=True):
    """One subcommand. Its module says all of it, and `table` names it: nothing else knows of it."""

    name: str
    group: Group
    usage: str
    """The way it is written, from its name on."""
    does: str
    """Half a sentence about what it does."""
    examples: tuple[str, ...]
    """The lines of `%raftoral?` about it. More than one where they stand in several places of that page."""
    parse: Callable[[str, str], A]
    """Takes apart what follows its name; the second argument is `usage`, for errors. Raises `MagicError`."""
    do: Callable[[A, Notebook], Any]
    """Carries it out. Returns what is to be shown or used; None where it was shown already."""
    offers: Callable[[Typed], list[str] | None]
    """Gives what Tab offers beside the values of flags; None to leave it to Python."""
    flags: Mapping[str, Values | None] = msgspec.field(default_factory=dict)
    """Its flags with what Tab offers as their values; None for those without one."""
    gives: bool = False
    """True if it gives a value to work with, which a `;` at the end does not hide."""
    in_page: Callable[[A, Cluster], str | None] | None = None
    """Carries it out for the page, and returns what to say; None to leave it to `Cluster.cause`. Only for what is no fault."""
    caused: Callable[[Fault], str] | None = None
    """Says what was done, for a fault of that name that was caused from the page; `Fault` has numbers then, not names."""

    def read(self, rest: str) -> A:
        """Takes apart what follows its name. Raises `MagicError`."""
        return self.parse(rest, f"%raftoral {self.usage}")


def only_flags(typed: Typed) -> list[str]:
    """Offers the flags that may still be given, for a subcommand that takes nothing else."""
    return list(typed.flags)


def a_run(typed: Typed) -> list[str]:
    """Offers a run first, and nothing behind it."""
    return [] if typed.before else list(typed.known.run_ids)


def a_run_and_flags(typed: Typed) -> list[str]:
    """Offers flags, and a run as long as none is given."""
    return list(typed.flags) if typed.given else [*typed.known.run_ids, *typed.flags]


def one_of(*words: str) -> Values:
    """Offers these as the value of a flag."""
    return lambda _: words


FREE: Final[Values] = one_of()
"""The value of a flag that only the reader knows."""


def numbers(known: Known) -> Sequence[str]:
    """Offers a node's number as the value of a flag."""
    return [str(number) for number in known.nodes]


def workflow_names(known: Known) -> Sequence[str]:
    """Offers a workflow's name as the value of a flag."""
    return known.workflows

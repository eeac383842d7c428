"""What is asked of a run from outside, by way of any node: the commands, and the events that say it was granted.

Part of `model`, which names them all. Every command says when it was proposed (`at`, Unix seconds by the proposer's wall
clock): that is data to show and to search by, and decides nothing. Asking twice for the same thing changes nothing.
"""

from __future__ import annotations

import msgspec


class SendSignal(msgspec.Struct, frozen=True, gc=False, tag="signal", array_like=True):
    """Sends a message to a run, once per `signal_id`; with `update`, one that asks for an answer."""

    run_id: str
    signal_id: str
    name: str
    value: bytes
    update: bool = False
    at: float = 0.0


class CancelRun(msgspec.Struct, frozen=True, gc=False, tag="cancel", array_like=True):
    """Asks a run to end: what it waits for is interrupted, and it may clean up. Its attached children are asked too."""

    run_id: str
    reason: str = ""
    at: float = 0.0


class PauseRun(msgspec.Struct, frozen=True, gc=False, tag="pause", array_like=True):
    """Lets no new step of a run begin, until it is resumed."""

    run_id: str
    at: float = 0.0


class ResumeRun(msgspec.Struct, frozen=True, gc=False, tag="resume", array_like=True):
    """Ends a run's pause."""

    run_id: str
    at: float = 0.0


class TerminateRun(msgspec.Struct, frozen=True, gc=False, tag="terminate", array_like=True):
    """Ends a run at once, without cleanup; its attached children too."""

    run_id: str
    reason: str = ""
    at: float = 0.0


class CancelRequested(msgspec.Struct, frozen=True, gc=False):
    """A run was asked to end. It ends as cancelled unless its code decides otherwise."""

    run_id: str
    reason: str


class RunPaused(msgspec.Struct, frozen=True, gc=False):
    """No new step of the run begins from here on."""

    run_id: str


class RunResumed(msgspec.Struct, frozen=True, gc=False):
    """The run goes on."""

    run_id: str

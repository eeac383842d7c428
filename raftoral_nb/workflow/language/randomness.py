"""Randomness that is equal on every node: nothing of it needs recording, as it follows from the run and the branch."""

from __future__ import annotations

import random
import uuid

from .identity import ContextIdentity


def dice(ctx: ContextIdentity) -> random.Random:
    """See `WorkflowContext.rng`."""
    state = ctx._execution.here("random")
    if state.dice is None:
        # Seeded by text, which `random` hashes: the same in every process and on every platform.
        state.dice = random.Random(f"{ctx._execution.seed}/{state.branch.path}")
    return state.dice


def uuid4(ctx: ContextIdentity) -> uuid.UUID:
    """See `WorkflowContext.uuid4`."""
    return uuid.UUID(int=dice(ctx).getrandbits(128), version=4)

"""`ctx.patched`: one code for runs from before and after a change.

A gate is a record of the run, with a name of its own that takes no ordinal: the steps around it keep their names. If the run's records hold
it anywhere, its turn is waited for. Else, if the run was moved to another version behind the point where it is now, it passed here with code
that had no gate: the answer is False, at once. Else it is recorded now, and the answer is True.
"""

from __future__ import annotations

from .identity import ContextIdentity


async def patched(ctx: ContextIdentity, name: str) -> bool:
    """See `WorkflowContext.patched`."""
    execution = ctx._execution
    step_id = execution.here(f"patched {name!r}").branch.next_gate_id(name)
    if not execution.passes_gate(step_id):
        return False
    step = await execution.at(step_id, "patched", lambda step_id: execution.product(step_id, True))
    return bool(execution.decode(step))

"""`ctx.patched`: one code for runs from before and after a change.

The gate is a recorded boolean that is found by its position, like every step. What differs is what happens when another step
is recorded there, or in a branch below (the first step of a `gather`, the intent of a step at most once), or behind it: then
the run passed here with code that had no gate. The answer is False, and the gate takes no ordinal, so that the old side of the
`if` asks for that very step next. Every node comes to the same answer, because it follows from the record alone: nobody
decides while nothing is recorded from here on but the acting node, whose True is then recorded here, unless another record
comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.replay import Diverged, Missing, Recorded
from ..execution.branch_state import check_task
from ..execution.products import Product
from .identity import ContextIdentity

if TYPE_CHECKING:
    from ...core.records import StepId


async def patched(ctx: ContextIdentity, name: str) -> bool:
    """See `WorkflowContext.patched`."""
    execution, state = ctx._execution, ctx._state
    check_task(state, f"patched {name!r}")
    step_id = state.branch.peek_id(name)

    async def produce(step_id: StepId) -> Product:
        return execution.product(step_id, True)

    while True:
        await execution.around.pass_gate()
        match execution.replay.ask(step_id, "patched"):
            case Recorded(step=step):
                state.branch.next_id(name)
                execution.replay.consume(step_id)
                return bool(execution.decode(step))
            case Diverged() | Missing(ended=True):
                return False
            case Missing() if execution.replay.is_past(state.branch):
                return False
            case Missing():
                term = execution.may_begin()
                if term is None:
                    await execution._wait(step_id)
                else:
                    await execution._act(state, step_id, "patched", produce, term)

"""What replaying a plan takes of the GPU's memory at the least, from the plan alone.

A plan that can never fit is told so before anything else is put out of memory for it. Runs nothing.
"""

from __future__ import annotations

from sandbox.plan import AtenStep, ChoiceStep, Plan
from sandbox.plan_check import step_refs


def least_peak_bytes(plan: Plan) -> int:
    """A lower bound of the bytes in use at once: every buffer stays once it is touched, and a new result of an operator
    lies beside the buffer that it is copied into. What an autotuned launch touches alone is left out, as are guards."""
    inputs = {plan.values[index].storage for index in plan.inputs}
    touched, held, peak = set(inputs), _bytes(plan, inputs), 0
    for step in plan.steps:
        if isinstance(step, ChoiceStep):
            continue
        given = {plan.values[index].storage for index in step_refs(plan, step)}
        outputs = step.outputs if isinstance(step, AtenStep) else ()
        made = {plan.values[index].storage for index in outputs if index is not None}
        held += _bytes(plan, given - touched)
        touched |= given
        fresh = made - touched  # a view and a result that is written in place have their memory already
        held += _bytes(plan, fresh)
        touched |= fresh
        peak = max(peak, held + max((plan.storages[storage].num_bytes for storage in fresh), default=0))
    return peak


def _bytes(plan: Plan, storages: set[int]) -> int:
    return sum(plan.storages[storage].num_bytes for storage in storages)

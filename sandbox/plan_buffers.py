"""What each buffer of a plan is to its forward pass: filled before it, made anew in it, needed until a step.

Arithmetic on a validated plan, by buffer and coarse. Knows no torch; allocates and runs nothing.
"""

from __future__ import annotations

from sandbox.plan import AtenStep, LaunchStep, Plan
from sandbox.plan_check import step_refs, tensor_refs, written_arguments


def last_uses(plan: Plan) -> dict[int, list[int]]:
    """For the positions of steps, the results of operators that nothing needs after that step."""
    needed_at: dict[int, int] = {}
    for at, step in enumerate(plan.steps):
        if isinstance(step, LaunchStep | AtenStep):
            outputs = step.outputs if isinstance(step, AtenStep) else ()
            indices = (*step_refs(plan, step), *(o for o in outputs if o is not None))
            needed_at |= {plan.values[index].storage: at for index in indices}
    returned = {plan.values[index].storage for index in tensor_refs(plan.outputs)}
    over: dict[int, list[int]] = {}
    for storage in adoptable_storages(plan) - returned:
        over.setdefault(needed_at[storage], []).append(storage)
    return over


def fresh_storages(plan: Plan) -> frozenset[int]:
    """The buffers whose content no run may rely on: kernels are given them, and nothing has filled them before the
    forward pass."""
    given = {storage for step in plan.steps if isinstance(step, LaunchStep) for storage in _given(plan, step)}
    return frozenset(given - filled_storages(plan) - adoptable_storages(plan))


def kept_storages(plan: Plan) -> frozenset[int]:
    """The buffers that the forward pass uses and whose content outlives a call: weights, buffers, constants and what
    construction makes."""
    used: set[int] = set()
    for step in plan.steps:
        if isinstance(step, LaunchStep | AtenStep):
            used |= _given(plan, step)
    return frozenset(used & stateful_storages(plan))


def stateful_storages(plan: Plan) -> frozenset[int]:
    """The buffers whose content the module that a plan stands for has from one call to the next."""
    return frozenset(filled_storages(plan) - {plan.values[i].storage for i in plan.inputs})


def num_carrying(plan: Plan) -> int:
    """How many steps at a plan's end do nothing but put something in the place of what the module held, for its next
    call: tracing writes these copies, where a program puts a tensor in another's place for nothing. A copy into memory
    that is returned is work of this call, whatever a plan says of its outputs."""
    kept, count = stateful_storages(plan) - {plan.values[i].storage for i in tensor_refs(plan.outputs)}, 0
    for step in reversed(plan.steps):
        if not isinstance(step, AtenStep) or step.op != "aten.copy_.default":
            break
        targets = {plan.values[i].storage for i in written_arguments(step)} | _output_storages(plan, step)
        if not targets or not targets <= kept:
            break
        count += 1
    return count


def filled_storages(plan: Plan) -> set[int]:
    """The buffers that hold something when the forward pass begins."""
    filled = {plan.values[i].storage for i in (*plan.inputs, *(index for _, index in plan.weights))}
    filled |= {s for s, record in enumerate(plan.storages) if record.role == "constant"}
    for step in plan.init_steps:
        filled |= _given(plan, step)
        filled |= _output_storages(plan, step)
    return filled


def _given(plan: Plan, step: AtenStep | LaunchStep) -> set[int]:
    """The buffers that a step is given."""
    return {plan.values[index].storage for index in step_refs(plan, step)}


def adoptable_storages(plan: Plan) -> frozenset[int]:
    """The buffers that come to be as the result of an operator of the forward pass, untouched before."""

    touched = filled_storages(plan)
    adoptable: set[int] = set()
    for step in plan.steps:
        if isinstance(step, LaunchStep):
            touched |= _given(plan, step)
        elif isinstance(step, AtenStep):
            touched |= _given(plan, step)
            adoptable |= _output_storages(plan, step) - touched
            touched |= _output_storages(plan, step)
    return frozenset(adoptable)


def uses_given(plan: Plan) -> list[bool]:
    """For each step of a settled plan, whether what it is given may depend on the problem's inputs, on weights or on
    what construction made. An operator that does not only puts numbers in place, as zeros for atomic additions."""
    given = filled_storages(plan) - {s for s, record in enumerate(plan.storages) if record.role == "constant"}
    found: list[bool] = []
    for step in plan.steps:
        assert isinstance(step, LaunchStep | AtenStep)
        found.append(not _given(plan, step).isdisjoint(given))
        if found[-1]:
            given |= _given(plan, step) if isinstance(step, LaunchStep) else _written(plan, step)
    return found


def _written(plan: Plan, step: AtenStep) -> set[int]:
    """The buffers that an operator may write: its outputs, and where it works in place what it is given."""
    return _output_storages(plan, step) | (_given(plan, step) if written_arguments(step) else set())


def _output_storages(plan: Plan, step: AtenStep) -> set[int]:
    return {plan.values[o].storage for o in step.outputs if o is not None}

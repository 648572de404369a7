"""What the kernels of a plan take of the GPU, as a verdict tells it.

Reads a validated plan and runs nothing of it.
"""

from __future__ import annotations

from sandbox.plan import LaunchStep, Plan
from sandbox.plan_check import first_choices
from sandbox.types import MAX_KERNEL_FIGURES, KernelFigures

_MAX_NAME_CHARACTERS = 120  # names are the candidate's


def kernel_figures(plan: Plan) -> tuple[KernelFigures, ...]:
    """The launched kernels in the order of their first launch. An autotuned launch that is not settled counts as its
    first alternative; `plan.resolve` settles it."""
    launches: dict[int, list[LaunchStep]] = {}
    for step in first_choices(plan):
        if isinstance(step, LaunchStep):
            launches.setdefault(step.kernel, []).append(step)
    return tuple(
        KernelFigures(
            name=plan.kernels[index].name[:_MAX_NAME_CHARACTERS],
            registers=plan.kernels[index].num_registers,
            local_bytes=plan.kernels[index].local_bytes,
            shared_bytes=plan.kernels[index].shared_bytes,
            num_warps=plan.kernels[index].num_warps,
            grid=steps[0].grid,
            launches=len(steps),
        )
        for index, steps in list(launches.items())[:MAX_KERNEL_FIGURES]
    )

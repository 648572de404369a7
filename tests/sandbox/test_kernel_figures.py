"""What a verdict tells of a plan's kernels, and that it survives the way to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from sandbox.kernel_figures import kernel_figures
from sandbox.plan import LaunchStep, decode
from sandbox.tracer import Traced
from sandbox.types import MAX_KERNEL_FIGURES, Failure, KernelFigures, Status, Verdict

FIGURES = KernelFigures(
    name="k", registers=40, local_bytes=16, shared_bytes=2048, num_warps=4, grid=(7, 2, 1), launches=3
)


def test_launched_kernels_are_told_with_their_grid_and_launches(
    trace: Callable[[str, str], Traced], sources: dict[str, str]
) -> None:
    traced = trace(sources["relu"], sources["relu_answer"])
    assert traced.plan is not None
    plan = decode(traced.plan)
    (figures,) = kernel_figures(plan)
    (compiled,) = plan.kernels
    assert (figures.name, figures.grid, figures.launches) == ("relu_kernel", (7, 1, 1), 1)
    assert (figures.registers, figures.num_warps) == (compiled.num_registers, compiled.num_warps)
    (launch,) = [step for step in plan.steps if isinstance(step, LaunchStep)]
    twice = replace(plan, steps=(*plan.steps, replace(launch, grid=(9, 1, 1))))
    assert kernel_figures(twice) == (replace(figures, launches=2),)
    assert kernel_figures(replace(plan, steps=())) == (), "compiled but not launched"


def test_a_plan_of_many_kernels_is_told_in_part(trace: Callable[[str, str], Traced], sources: dict[str, str]) -> None:
    traced = trace(sources["relu"], sources["relu_answer"])
    assert traced.plan is not None
    plan = decode(traced.plan)
    (launch,) = [step for step in plan.steps if isinstance(step, LaunchStep)]
    kernels = tuple(replace(plan.kernels[0], name="k" * 1000 + str(n)) for n in range(40))
    many = replace(plan, kernels=kernels, steps=tuple(replace(launch, kernel=n) for n in range(40)))
    told = kernel_figures(many)
    assert len(told) == MAX_KERNEL_FIGURES
    assert max(len(figures.name) for figures in told) < 200


def verdict(*kernels: KernelFigures) -> Verdict:
    failure = Failure(error_class="E", message="m")
    return Verdict(candidate_id="c", status=Status.WRONG_VALUES, failure=failure, kernels=kernels)


def test_figures_survive_json() -> None:
    found = Verdict.from_json(json.loads(json.dumps(verdict(FIGURES, FIGURES).to_json())))
    assert found == verdict(FIGURES, FIGURES)
    assert KernelFigures.from_json(json.loads(json.dumps(FIGURES.to_json()))) == FIGURES


def test_a_verdict_of_too_many_kernels_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        verdict(*[FIGURES] * 17)

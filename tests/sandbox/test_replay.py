"""Making a plan ready to be timed, and naming its buffers: the parts of replaying that need no GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from sandbox.capture import AdoptingArena, adoptable_storages
from sandbox.compare import expect
from sandbox.execute import Arena, run_aten
from sandbox.plan import AtenStep, Plan, decode
from sandbox.plan_check import tensor_refs
from sandbox.reference import Case
from sandbox.replay import _compared, storage_name
from sandbox.tracer import Traced
from sandbox.types import Pattern, Status, Tolerance

Trace = Callable[[str, str], Traced]

OPERATORS = """
class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(100))
    def forward(self, x):
        y = torch.empty_like(x)
        y.copy_(x)
        z = y * self.scale
        z.add_(1.0)
        return torch.relu(z), z
"""


@pytest.fixture(scope="module")
def plan(trace: Trace, sources: dict[str, str]) -> Plan:
    traced = trace(sources["relu"], sources["head"] + OPERATORS)
    assert traced.plan is not None, traced.failure
    return decode(traced.plan)


def storages_of(plan: Plan, op: str) -> set[int]:
    steps = [s for s in plan.steps if isinstance(s, AtenStep) and s.op.split(".")[1] == op]
    return {plan.values[o].storage for s in steps for o in s.outputs if o is not None}


def test_results_are_adopted_only_where_the_plan_made_the_buffer_for_them(plan: Plan) -> None:
    adoptable = adoptable_storages(plan)
    assert storages_of(plan, "mul") <= adoptable and storages_of(plan, "relu") <= adoptable
    inputs = {plan.values[i].storage for i in plan.inputs}
    weights = {plan.values[i].storage for _, i in plan.weights}
    assert not adoptable & (inputs | weights)


def test_an_adopting_arena_computes_what_a_plain_one_does(plan: Plan) -> None:
    x = torch.randn(64, 100)
    found = []
    for adopting in (False, True):
        arena = (
            AdoptingArena(plan, device=torch.device("cpu"), poison=0xFF)
            if adopting
            else Arena(plan, device=torch.device("cpu"), poison=0xFF, guard_bytes=512)
        )
        arena.tensor(plan.inputs[0]).copy_(x)
        arena.tensor(plan.weights[0][1]).fill_(2.0)
        for _ in range(2):  # adopting again must let go of the last result
            for step in plan.steps:
                assert isinstance(step, AtenStep)
                if isinstance(arena, AdoptingArena):
                    run_aten(step, arena)
                else:
                    run_aten(step, arena)
        found.append([arena.tensor(i).clone() for i in tensor_refs(plan.outputs)])
    for plain, adopted in zip(*found, strict=True):
        assert torch.equal(plain, adopted)
    assert torch.equal(found[0][1], x * 2.0 + 1.0)


def test_buffers_are_named_in_the_candidates_terms(plan: Plan) -> None:
    assert storage_name(plan, plan.values[plan.inputs[0]].storage) == "input 0"
    assert storage_name(plan, plan.values[plan.weights[0][1]].storage) == "parameter scale"
    outputs = list(tensor_refs(plan.outputs))
    assert storage_name(plan, plan.values[outputs[1]].storage) == "output 1"
    assert "float32" in storage_name(plan, next(iter(storages_of(plan, "copy_"))))


def test_both_runs_are_held_to_an_answer_that_is_fetched_once() -> None:
    value = torch.arange(1.0, 65.0, dtype=torch.float64)
    fetched: list[int] = []

    def answer() -> torch.Tensor:
        fetched.append(1)
        return value

    wanted = dataclasses.replace(expect("", value, (value.float(),), Tolerance(), recompute=None), answer=answer)
    case = Case(seed=1, kind="given", inputs=(), weights={}, expected=(wanted,), hidden=(), matched=True)
    right, near, wrong = value.float(), value.float() * (1 + 1e-7), value.float() * 2
    for second, status, labels in (
        (right.clone(), None, ()),
        (near, None, ("varies_within_tolerance",)),
        (wrong, Status.WRONG_VALUES, ("varies_within_tolerance",)),
    ):
        fetched.clear()
        check = _compared([[right], [second]], case, "none")
        assert (len(fetched), check.status, check.labels) == (1, status, labels)
    found = _compared([[wrong], [wrong.clone()]], case, "none")
    assert found.failure is not None and found.failure.mismatch is not None
    assert found.failure.mismatch.pattern is not Pattern.RUN_TO_RUN

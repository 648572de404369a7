"""Making a plan ready to be timed, and naming its buffers: the parts of replaying that need no GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from sandbox.capture import AdoptingArena, TimedPlan
from sandbox.compare import expect
from sandbox.execute import Arena, bind_inputs, changed_input, run_aten
from sandbox.plan import AtenStep, LaunchStep, Plan, Value, decode
from sandbox.plan_buffers import (
    adoptable_storages,
    fresh_storages,
    kept_storages,
    num_carrying,
    stateful_storages,
    uses_given,
)
from sandbox.plan_check import Work, dataflow, tensor_refs
from sandbox.reference import Case
from sandbox.replay import _compared, storage_name
from sandbox.tracer import Traced
from sandbox.trees import dtype_named
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


KEPT = """
@triton.jit
def double(x_ptr, count_ptr, cache_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(count_ptr, tl.load(count_ptr) + 1.0)
    tl.store(cache_ptr + offsets, x * 2.0, mask=offsets < n)
    tl.store(out_ptr + offsets, tl.load(cache_ptr + offsets, mask=offsets < n), mask=offsets < n)


class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
    def forward(self, x):
        cache = torch.empty_permuted(tuple(x.shape), (1, 0), device=x.device)
        out = torch.empty_like(x)
        double[(triton.cdiv(x.numel(), 1024),)](x, self.count, cache, out, x.numel(), BLOCK=1024)
        return torch.relu(out)
"""


class _Scripted:
    """In the place of a runner that launches nothing."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def launcher(self, _arena: Arena) -> Callable[[object], None]:
        return lambda _step: None


def test_a_timed_run_gives_back_what_nothing_needs_any_more(plan: Plan) -> None:
    x = torch.randn(64, 100)

    def after(*, keep: bool) -> AdoptingArena:
        arena = AdoptingArena(plan, device=torch.device("cpu"), poison=0xFF)
        arena.tensor(plan.inputs[0]).copy_(x)
        arena.tensor(plan.weights[0][1]).fill_(2.0)
        for _ in range(2):
            TimedPlan(_Scripted(plan), arena, bound={}, keep=keep).run()  # type: ignore[arg-type]
        return arena

    lean, full = after(keep=False), after(keep=True)
    returned = {plan.values[i].storage for i in tensor_refs(plan.outputs)}
    kept = returned | {plan.values[plan.inputs[0]].storage, plan.values[plan.weights[0][1]].storage}
    assert returned <= set(lean.made()) and not set(lean.made()) & (adoptable_storages(plan) - returned)
    assert kept < set(full.made())
    for index in tensor_refs(plan.outputs):
        assert torch.equal(lean.tensor(index), full.tensor(index))


def test_before_each_timed_run_buffers_forget_what_a_kernel_left(trace: Trace, sources: dict[str, str]) -> None:
    traced = trace(sources["relu"], sources["head"] + KEPT)
    assert traced.plan is not None, traced.failure
    plan = decode(traced.plan)
    x, count = plan.values[plan.inputs[0]].storage, plan.values[plan.weights[0][1]].storage
    fresh, kept = fresh_storages(plan), kept_storages(plan)
    assert len(fresh) == 2 and kept == {count} and x not in fresh
    arena = AdoptingArena(plan, device=torch.device("cpu"), poison=0xFF)
    for storage in (x, count, *fresh):
        arena.buffer(storage).fill_(1)
    bound = {count: torch.zeros(4, dtype=torch.uint8)}
    TimedPlan(_Scripted(plan), arena, bound=bound).forget()  # type: ignore[arg-type]
    assert all(bool((arena.buffer(storage) == 0xFF).all()) for storage in fresh)
    assert not arena.buffer(count).any()
    assert bool((arena.buffer(x) == 1).all())


def test_a_second_call_finds_what_the_first_left_in_the_module(trace: Trace, sources: dict[str, str]) -> None:
    """And nothing else of it; the guard bands around it are the second call's."""
    traced = trace(sources["relu"], sources["head"] + KEPT)
    assert traced.plan is not None, traced.failure
    plan = decode(traced.plan)
    x, count = plan.values[plan.inputs[0]].storage, plan.values[plan.weights[0][1]].storage
    first, second = (Arena(plan, device=torch.device("cpu"), poison=poison, guard_bytes=512) for poison in (0xFF, 0x7B))
    for storage in range(len(plan.storages)):
        first.buffer(storage).fill_(1)
    second.take_over(first.hand_over(stateful_storages(plan)))
    assert second.made() == (count,) and count not in first.made() and x in first.made()
    assert bool((second.buffer(count) == 1).all()) and second.broken_guards() == []


SUMMED = """
@triton.jit
def add_up(x_ptr, total_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(total_ptr, tl.sum(tl.load(x_ptr + offsets, mask=offsets < n, other=0.0), axis=0))


class ModelNew(torch.nn.Module):
    def forward(self, x):
        total = torch.empty(1, device=x.device)
        total.zero_()
        add_up[(triton.cdiv(x.numel(), 1024),)](x, total, x.numel(), BLOCK=1024)
        spare = torch.ones(1, device=x.device) + 1.0
        means, variances = torch.zeros(x.shape[-1], device=x.device), torch.ones(x.shape[-1], device=x.device)
        torch.native_batch_norm(x, None, None, means, variances, True, 1.0, 0.0)
        return x * total.add_(spare) - means.exp()
"""


def test_operators_that_only_put_numbers_in_place_are_told_from_those_that_work(
    trace: Trace, sources: dict[str, str]
) -> None:
    traced = trace(sources["relu"], sources["head"] + SUMMED)
    assert traced.plan is not None, traced.failure
    plan = decode(traced.plan)
    names = [step.op.split(".")[1] if isinstance(step, AtenStep) else "launch" for step in plan.steps]
    used = dict(zip(names, uses_given(plan), strict=True))
    working = {"launch", "add_", "mul", "native_batch_norm", "exp", "sub"}
    assert {name for name, used in used.items() if used} == working
    assert {"zero_", "ones", "add"} <= {name for name, used in used.items() if not used}


PUTS_IN_PLACE = """
@triton.jit
def relu(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(y_ptr + offsets, tl.maximum(x, 0.0), mask=offsets < n)


class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(64, 100)
        self.register_buffer("count", torch.zeros(64, 100))

    def forward(self, x):
        self.count.copy_(x)
        y = torch.empty_like(x)
        relu[(1,)](x + self.seen + self.count, y, x.numel(), BLOCK=8192)
        self.seen = y
        return y + 1
"""


def test_copies_that_tracing_writes_for_the_next_call_are_told_from_those_of_the_program(
    trace: Trace, sources: dict[str, str]
) -> None:
    traced = trace(sources["relu"], sources["head"] + PUTS_IN_PLACE)
    assert traced.plan is not None, traced.failure
    plan = decode(traced.plan)
    copies = [at for at, step in enumerate(plan.steps) if isinstance(step, AtenStep) and "copy_" in step.op]
    assert (len(copies), num_carrying(plan), copies[-1]) == (2, 1, len(plan.steps) - 1)
    carrying = plan.steps[-1]
    assert isinstance(carrying, AtenStep) and carrying.outputs[0] is not None
    (returned,) = tensor_refs(plan.outputs)
    target, source = carrying.args
    forged = [
        dataclasses.replace(carrying, args=[{"tensor": returned}, source], outputs=(None,)),
        dataclasses.replace(carrying, args=[{"tensor": returned}, source]),
        dataclasses.replace(carrying, args=[], kwargs={"self": {"tensor": returned}, "src": source}, outputs=(None,)),
        dataclasses.replace(carrying, args=[target, source], outputs=(returned,)),
    ]
    for step in forged:
        assert num_carrying(dataclasses.replace(plan, steps=(*plan.steps[:-1], step))) == 0, step
    kept_returned = dataclasses.replace(plan, outputs={"tensor": carrying.outputs[0]})
    assert num_carrying(kept_returned) == 0


def test_what_a_module_held_cannot_be_returned_where_its_next_call_finds_another_there(
    trace: Trace, sources: dict[str, str]
) -> None:
    """The copy for the next call would write over the answer."""
    returns_it = PUTS_IN_PLACE.replace("self.seen = y", "before, self.seen = self.seen, y")
    traced = trace(sources["relu"], sources["head"] + returns_it.replace("return y + 1", "return before"))
    assert traced.status is Status.TRACE_ERROR and traced.failure is not None
    assert traced.failure.error_class == "KeptOutput"


def test_what_an_operator_is_given_by_keyword_may_be_its_result(trace: Trace, sources: dict[str, str]) -> None:
    """A forged plan could say nothing of an operator's results, and have torch's work pass for a kernel's."""
    traced = trace(sources["relu"], sources["head"] + PUTS_IN_PLACE)
    assert traced.plan is not None, traced.failure
    plan = decode(traced.plan)
    (returned,) = tensor_refs(plan.outputs)
    (x,) = plan.inputs
    out = {"tensor": returned}
    launch = next(step for step in plan.steps if isinstance(step, LaunchStep))
    onto = dataclasses.replace(launch, args=(launch.args[0], returned, *launch.args[2:]))
    for op, args, kwargs in (
        ("aten.add_.Tensor", [], {"self": out, "other": {"tensor": x}}),
        ("aten.exp.out", [{"tensor": x}], {"out": out}),
        ("aten.topk.values", [{"tensor": x}, 3], {"values": out, "indices": out}),
    ):
        step = AtenStep(op=op, args=args, kwargs=kwargs, outputs=(None,))
        assert dataflow(dataclasses.replace(plan, steps=(onto, step))).work is Work.MIXED, op


@pytest.mark.parametrize(
    ("dtype", "shape", "stride", "offset"),
    [
        ("float32", (4, 5), (10, 2), 0), ("bool", (3, 3), (7, 2), 1), ("float16", (), (), 3), ("int64", (6,), (2,), 0),
        ("float64", (3, 4), (0, 2), 1), ("uint8", (0, 4), (4, 1), 0), ("complex64", (2, 2), (1, 4), 0),
    ],
)  # fmt: skip
def test_what_lies_between_the_elements_of_an_input_is_looked_at(
    dtype: str, shape: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    num_bytes = 64 * dtype_named(dtype).itemsize
    value = Value(storage=0, dtype=dtype, shape=shape, stride=stride, offset=offset, device="cuda")
    storage = SimpleNamespace(num_bytes=num_bytes, role="input", content=None)
    plan = cast(Plan, SimpleNamespace(values=[value], storages=[storage], inputs=(0,)))
    arena = Arena(plan, device=torch.device("cpu"), poison=0x7B, guard_bytes=512)
    given = torch.ones(shape).to(dtype_named(dtype))
    bind_inputs(plan, arena, [given])
    assert changed_input(plan, arena, [given]) is None
    arena.buffer(0)[-1] = 1
    assert changed_input(plan, arena, [given]) == 0

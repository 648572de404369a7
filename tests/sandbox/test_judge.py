"""Verdicts without a GPU: what passes, what fails and with which words, and that equal plans are judged once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sandbox.judge import InterpretJudge
from sandbox.settings import JudgeSettings
from sandbox.tracer import ProblemFailed, Tracer
from sandbox.types import Candidate, Operator, Pattern, Problem, Status, Verdict

Judge = Callable[[str, str], Verdict]


def test_a_right_answer_passes_and_is_not_timed(verdict: Judge, sources: dict[str, str]) -> None:
    found = verdict(sources["relu"], sources["relu_answer"])
    assert found.status is Status.PASSED, found.feedback
    assert found.correctness is not None and len(found.correctness.seeds) == 3
    assert found.performance is None and found.speedup == 0.0
    assert "triton" in found.labels


@pytest.mark.parametrize(
    ("change", "status", "pattern"),
    [
        (("tl.maximum(x, 0.0)", "x"), Status.WRONG_VALUES, None),  # right on torch.rand inputs, not under stress
        (("tl.maximum(x, 0.0)", "x * 0.0"), Status.WRONG_VALUES, Pattern.ZEROS),
        (("tl.maximum(x, 0.0)", "tl.maximum(x, 0.0) * 0.99"), Status.WRONG_VALUES, Pattern.CONSTANT_RATIO),
        (("triton.cdiv(n, 1024)", "n // 1024"), Status.WRONG_VALUES, Pattern.UNWRITTEN),
        ((", tl.maximum(x, 0.0), mask=mask)", ", tl.maximum(x, 0.0))"), Status.ILLEGAL_ACCESS, None),
        (("y = torch.empty_like(x)", "y = torch.empty_like(x, dtype=torch.float16)"), Status.WRONG_DTYPE, None),
        (("return y", "return y[:1]"), Status.WRONG_SHAPE, None),
        (("return y", "return torch.relu(x)"), Status.REJECTED, None),
        (("y = torch.empty_like(x)", "y = x.clone()"), Status.PASSED, None),
        (
            (
                "relu_kernel[(triton.cdiv(n, 1024),)](x, y, n, BLOCK=1024)",
                "z = x.clone(); relu_kernel[(7,)](z, y, n, BLOCK=1024); y = torch.relu(z)",
            ),
            Status.REJECTED,
            None,
        ),
        (("return y", "return x"), Status.REJECTED, None),
        (("y = torch.empty_like(x)", "y = x"), Status.REJECTED, None),
    ],
)
def test_wrong_answers_are_told_apart(
    verdict: Judge, sources: dict[str, str], change: tuple[str, str], status: Status, pattern: Pattern | None
) -> None:
    found = verdict(sources["relu"], sources["relu_answer"].replace(*change))
    assert found.status is status, found.feedback
    if pattern is not None:
        assert found.failure is not None and found.failure.mismatch is not None
        assert found.failure.mismatch.pattern is pattern


def test_inputs_changed_in_place_fail(verdict: Judge, sources: dict[str, str]) -> None:
    source = sources["relu_answer"].replace("return y", "x.add_(1.0)\n        return y")
    found = verdict(sources["relu"], source)
    assert found.status is Status.WRONG_VALUES and "changed in place" in found.feedback


LINEAR_ANSWER = """
@triton.jit
def linear_relu(x_ptr, w_ptr, b_ptr, y_ptr, N: tl.constexpr, K: tl.constexpr, KP: tl.constexpr):
    row = tl.program_id(0)
    n = tl.arange(0, N)
    k = tl.arange(0, KP)
    x = tl.load(x_ptr + row * K + k, mask=k < K, other=0.0)
    w = tl.load(w_ptr + n[:, None] * K + k[None, :], mask=k[None, :] < K, other=0.0)
    y = tl.sum(w * x[None, :], axis=1) + tl.load(b_ptr + n)
    tl.store(y_ptr + row * N + n, tl.maximum(y, 0.0))


class ModelNew(torch.nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.NAME = torch.nn.Linear(n_in, n_out)

    def forward(self, x):
        y = torch.empty(x.shape[0], 16, device=x.device)
        linear_relu[(x.shape[0],)](x, self.NAME.weight, self.NAME.bias, y, N=16, K=48, KP=64)
        return y
"""


@pytest.mark.parametrize(("name", "how"), [("linear", "by_name"), ("projection", "by_seed")])
def test_weights_are_matched_by_name_else_drawn_in_the_same_order(
    verdict: Judge, sources: dict[str, str], name: str, how: str
) -> None:
    found = verdict(sources["linear"], sources["head"] + LINEAR_ANSWER.replace("NAME", name))
    assert found.status is Status.PASSED, found.feedback
    assert found.correctness is not None and found.correctness.weights == how


def test_weights_folded_at_construction_are_folded_from_the_right_numbers(
    verdict: Judge, sources: dict[str, str]
) -> None:
    source = (sources["head"] + LINEAR_ANSWER).replace("NAME", "linear")
    source = source.replace("n_out)\n\n", "n_out)\n        self.w = (self.linear.weight * 2.0).detach()\n\n")
    source = source.replace("self.linear.weight, self", "self.w, self").replace(
        "w * x[None, :]", "w * 0.5 * x[None, :]"
    )
    found = verdict(sources["linear"], source)
    assert found.status is Status.PASSED, found.feedback


def test_too_large_is_unverified_with_a_reason(verdict: Judge, sources: dict[str, str]) -> None:
    large = sources["relu"].replace("64, 100", "8192, 4096")
    found = verdict(large, sources["relu_answer"])
    assert found.status is Status.UNVERIFIED and "too large" in found.feedback


def test_equal_plans_are_judged_once(tracer: Tracer, interpret_judge: InterpretJudge, sources: dict[str, str]) -> None:
    problem = Problem(id="once", source=sources["relu"] + "\n# once", origin="test")
    first, second = (
        Candidate(problem_id="once", source=sources["relu_answer"] + comment, operator=Operator.DRAFT)
        for comment in ("", "\n# b")
    )
    one = interpret_judge.judge(problem, first, tracer.trace(problem, first))
    two = interpret_judge.judge(problem, second, tracer.trace(problem, second))
    assert one.passed and two.passed and two.candidate_id == second.id
    assert "interpret" in one.stage_seconds and "interpret" not in two.stage_seconds


def test_a_problem_that_does_not_stand_is_the_users_to_mend(tracer: Tracer, sources: dict[str, str]) -> None:
    broken = Problem(
        id="broken", source=sources["relu"].replace("torch.rand(64, 100)", "no_such_name"), origin="here.py"
    )
    candidate = Candidate(problem_id="broken", source=sources["relu_answer"], operator=Operator.DRAFT)
    with pytest.raises(ProblemFailed, match=r"here\.py"):
        tracer.trace(broken, candidate)


SOFTMAX = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=1)
def get_inputs():
    return [torch.randn(8, 1000)]
def get_init_inputs():
    return []
"""

SOFTMAX_ANSWER = """
from torch._inductor.runtime import triton_helpers
from torch._inductor.runtime.triton_helpers import libdevice


@triton.jit
def add(a, b):
    return a + b


@triton.jit
def softmax_kernel(x_ptr, y_ptr, columns, rnumel):
    RBLOCK: tl.constexpr = 1024
    row = tl.program_id(0)
    r = tl.arange(0, RBLOCK)
    x = tl.load(x_ptr + row * columns + r, mask=r < columns, other=float("-inf"))
    top = triton_helpers.promote_to_tensor(triton_helpers.max2(x, 0))
    e = libdevice.exp(x - top)
    y = e / tl.reduce(e, 0, add)
    tl.store(y_ptr + row * columns + r, y, mask=r < columns)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        softmax_kernel[(8,)](x, y, 1000, 1000)
        return y
"""


def test_inductor_style_reductions_are_interpreted_quickly(verdict: Judge, sources: dict[str, str]) -> None:
    found = verdict(SOFTMAX, sources["head"] + SOFTMAX_ANSWER)
    assert found.status is Status.PASSED, found.feedback
    assert found.stage_seconds["interpret"] < 20  # element by element it takes minutes


def test_wrong_values_from_unmasked_reads_are_told_as_such(verdict: Judge, sources: dict[str, str]) -> None:
    source = (sources["head"] + SOFTMAX_ANSWER).replace('mask=r < columns, other=float("-inf")', "")
    found = verdict(SOFTMAX, source)
    assert found.status is Status.ILLEGAL_ACCESS and "reads outside its tensors" in found.feedback


def test_an_address_passed_as_a_number_is_refused(verdict: Judge, sources: dict[str, str]) -> None:
    source = sources["relu_answer"].replace("](x, y, n,", "](x.data_ptr(), y, n,")
    assert verdict(sources["relu"], source).status is not Status.PASSED


def test_a_reference_that_fails_is_told_before_any_candidate_is_blamed(tracer: Tracer, sources: dict[str, str]) -> None:
    source = sources["relu"].replace("return torch.relu(x)", "return torch.relu(x) @ torch.ones(3, 3)")
    broken = Problem(id="broken_forward", source=source, origin="there.py")
    candidate = Candidate(problem_id="broken_forward", source=sources["relu_answer"], operator=Operator.DRAFT)
    with pytest.raises(ProblemFailed, match=r"there\.py"):
        tracer.trace(broken, candidate)


def test_a_confirmation_knows_nothing_of_the_verdict_before(
    tracer: Tracer, interpret_judge: InterpretJudge, settings: JudgeSettings, sources: dict[str, str]
) -> None:
    problem = Problem(id="twice", source=sources["relu"] + "\n# twice", origin="test")
    candidate = Candidate(problem_id="twice", source=sources["relu_answer"], operator=Operator.DRAFT)
    traced = tracer.trace(problem, candidate)
    first = interpret_judge.judge(problem, candidate, traced)
    more = replace(settings, num_seeds=settings.num_seeds + 1)
    again = interpret_judge.confirm(problem, candidate, traced, settings=more)
    assert first.passed and again.passed
    assert first.correctness is not None and again.correctness is not None
    assert len(again.correctness.seeds) == len(first.correctness.seeds) + 1
    assert not set(first.correctness.seeds) & set(again.correctness.seeds), "fresh secret seeds"
    assert "interpret" in again.stage_seconds, "judged, not remembered"
    assert [kernel.name for kernel in again.kernels] == ["relu_kernel"]
    known = interpret_judge.judge(problem, candidate, traced)
    assert known.correctness == first.correctness, "and leaves nothing behind"

"""What a kernel's dots compute in, read off real compilations, and what a run makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sandbox.judge import precheck
from sandbox.plan import Plan, decode
from sandbox.precision import plan_precision
from sandbox.tracer import Tracer
from sandbox.types import Status, Verdict
from tests.judge_settings import judge_settings
from tests.sandbox.conftest import make_candidate, make_problem

PROBLEM = """
import torch
class Model(torch.nn.Module):
    def forward(self, a, b):
        return (a @ b).float()
def get_inputs():
    return [torch.randn(32, 32).to(torch.DTYPE), torch.randn(32, 32).to(torch.DTYPE)]
def get_init_inputs():
    return []
"""

ANSWER = """
@triton.jit
def product(a_ptr, b_ptr, c_ptr, N: tl.constexpr):
    i = tl.arange(0, N)
    at = i[:, None] * N + i[None, :]
    a, b = tl.load(a_ptr + at), tl.load(b_ptr + at)
    c = DOT
    tl.store(c_ptr + at, c.to(tl.float32))


class ModelNew(torch.nn.Module):
    def forward(self, a, b):
        c = torch.empty((32, 32), device=a.device, dtype=torch.float32)
        product[(1,)](a, b, c, N=32)
        return c
"""
# PTX that a text brings along: one TF32 product of a warp, its operands rounded nowhere.
ASSEMBLY = (
    "tl.dot(a, b, input_precision='ieee') + tl.inline_asm_elementwise("
    "'mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {$0,$1,$2,$3}, {$4,$5}, {$6}, {$4,$5,$6,$7};', "
    "'=f,=f,=f,=f,r,r,r,r', [a.to(tl.int32, bitcast=True)], dtype=tl.float32, is_pure=True, pack=4)"
)


def planned(tracer: Tracer, head: str, dot: str, dtype: str) -> Plan:
    problem = make_problem(PROBLEM.replace("DTYPE", dtype))
    traced = tracer.trace(problem, make_candidate(head + ANSWER.replace("DOT", dot)))
    assert traced.plan is not None, traced.failure
    return decode(traced.plan)


@pytest.mark.parametrize(
    ("dtype", "dot", "dots", "precision"),
    [
        ("float32", "tl.dot(a, b)", ("tf32",), "tf32"),
        ("float32", "tl.dot(a, b, allow_tf32=False)", (), "ieee"),
        ("float32", "tl.dot(a, b, input_precision='ieee')", (), "ieee"),
        ("float32", "tl.dot(a, b, input_precision='tf32x3')", ("tf32x3",), "ieee"),
        ("float32", "tl.dot(a.to(tl.float16), b.to(tl.float16))", (), "ieee"),
        ("float16", "tl.dot(a, b)", (), "ieee"),
        ("float16", "tl.dot(a, b, out_dtype=tl.float16)", ("fp16_accumulate",), "fp16_accumulate"),
        ("float16", "tl.dot(a, b, tl.zeros((N, N), tl.float16), out_dtype=tl.float16)", ("fp16_accumulate",),
         "fp16_accumulate"),
        ("bfloat16", "tl.dot(a, b)", (), "ieee"),
        ("float16", "tl.dot(a.to(tl.float8e5), b.to(tl.float8e5), max_num_imprecise_acc=0)", (), "ieee"),
        ("float16", "tl.dot(a.to(tl.float8e5), b.to(tl.float8e5))", ("fp8_imprecise",), "fp16_accumulate"),
        ("float32", "a + b", (), "ieee"),
        ("float32", ASSEMBLY, ("tf32",), "tf32"),
        ("float32", ASSEMBLY.replace(".m16n8k4.row", "/**/ .m16n8k4 .row"), ("tf32",), "tf32"),
        ("float32", ASSEMBLY.replace("ieee", "tf32x3"), ("tf32", "tf32x3"), "tf32"),
        ("float32", ASSEMBLY.replace("mma", "m$(ma$)").replace("ieee", "tf32x3"), ("tf32", "tf32x3"), "tf32"),
    ],
)  # fmt: skip
def test_dots_say_what_they_compute_in(
    tracer: Tracer, sources: dict[str, str], dtype: str, dot: str, dots: tuple[str, ...], precision: str
) -> None:
    plan = planned(tracer, sources["head"], dot, dtype)
    assert [kernel.dots for kernel in plan.kernels] == [dots]
    assert plan_precision(plan) == precision


def test_a_run_refuses_what_it_does_not_allow(tracer: Tracer, sources: dict[str, str]) -> None:
    plan = planned(tracer, sources["head"], "tl.dot(a, b)", "float32")
    labels, refused = precheck(plan, judge_settings())
    assert labels == ("triton", "precision_tf32") and refused is not None
    assert refused[0] is Status.REJECTED and refused[1].error_class == "Precision"
    assert 'kernel product computes its dots in TF32; write tl.dot(..., input_precision="ieee")' in refused[1].message
    allowed: dict[str, Any] = {"precision": ("tf32",)}
    assert precheck(plan, judge_settings(**allowed)) == (("triton", "precision_tf32"), None)
    assert precheck(plan, judge_settings(precision=("fp16_accumulate",)))[1] is not None


def test_a_wrong_shape_is_told_before_a_precision(
    verdict: Callable[[str, str], Verdict], sources: dict[str, str]
) -> None:
    source = sources["head"] + ANSWER.replace("DOT", "tl.dot(a, b)")
    problem = PROBLEM.replace("DTYPE", "float32")
    refused = verdict(problem, source)
    assert refused.status is Status.REJECTED and "precision_tf32" in refused.labels
    assert "input_precision=" in refused.feedback
    assert verdict(problem, source.replace("return c", "return c[:, :16]")).status is Status.WRONG_SHAPE

"""Answers with the mistakes of models, mended by rules alone until they pass the judge: each replacement is compiled
for sm_90 and interpreted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import replacements
from sandbox.judge import InterpretJudge
from sandbox.mend import mended, rules
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Operator, Problem, Status, Verdict
from sandbox.unknown_names import LIBDEVICE, TL
from tests.judge_settings import judge_settings

FUNCTIONS = Problem(
    id="functions",
    origin="test",
    source="""
import torch
class Model(torch.nn.Module):
    def forward(self, x, y):
        a = torch.tanh(x) + torch.sigmoid(x) + torch.relu(x) + torch.maximum(x, y) + torch.minimum(x, y)
        b = torch.clamp(x, -1.0, 1.0) + torch.where(x > y, x, 2.0 * y) + torch.log1p(x.abs()) + torch.expm1(-x.abs())
        c = torch.pow(x.abs() * 0.1 + 1.0, 2.0) + torch.nn.functional.silu(y) + 1.0 / (x.abs() + 1.0)
        d = torch.round(x) + torch.atan(y) + x / (y.abs() + 1.0) + torch.fmod(x, 3.0) + torch.ones_like(x)
        return a + b + c + d
def get_inputs():
    return [torch.randn(2, 65), torch.randn(2, 65)]
def get_init_inputs():
    return []
""",
)
INVENTED = """
import torch
import torch.nn as nn
import triton
import triton.language as tl
from torch._inductor.runtime import triton_helpers
from torch._inductor.runtime.triton_helpers import math as tl_math

@triton.jit
def kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n).to(tl.f32)
    y = tl.load(y_ptr + i, mask=i < n)
    a = tl.tanh(x) + tl_math.sigmoid(x) + tl.relu(x) + tl.math.max(x, y) + tl_math.min(x, y)
    b = tl.clip(x, -1.0, 1.0) + tl_math.where(x > y, x, 2.0 * y) + tl.math.log1p(tl.abs(x))
    b += tl.libdevice.expm1(-tl.abs(x)) + tl.math.pow(tl.abs(x) * 0.1 + 1.0, 2.0) + tl.silu(y)
    tl.syncthreads()
    c = tl.math.reciprocal(tl.abs(x) + 1.0) + tl.round(x) + triton_helpers.arctan(y)
    d = tl_math.div(x, tl.math.fabs(y) + 1.0) + tl.fmod(x, 3.0) + tl.ones((BLOCK,), tl.float32)
    tl.store(out_ptr + i, a + b + c + d, mask=i < n)

class ModelNew(nn.Module):
    def forward(self, x, y):
        out = torch.empty_like(x)
        kernel[(triton.ceil_div(x.numel(), 64),)](x, y, out, x.numel(), BLOCK=64)
        return out
"""
RELU = Problem(
    id="relu",
    origin="test",
    source="""
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) + 0.5
def get_inputs():
    return [torch.randn(6, 50)]
def get_init_inputs():
    return []
""",
)
INDUCTOR = """
import torch
import triton
import triton.language as tl
from torch._inductor.runtime.triton_heuristics import grid
from torch._C import _cuda_getCurrentRawStream as get_raw_stream
from torch._inductor.runtime import triton_helpers
import torch.nn as nn
assert_size_stride = torch._C._dynamo.guards.assert_size_stride
empty_strided_cuda = torch._C._dynamo.guards._empty_strided_cuda

@triton.jit
def poi(in_ptr0, out_ptr0, xnumel, XBLOCK: tl.constexpr):
    xnumel = 300
    xoffset = tl.program_id(0) * XBLOCK
    xindex = xoffset + tl.arange(0, XBLOCK)[:]
    xmask = xindex < xnumel
    x0 = xindex
    tmp0 = tl.load(in_ptr0 + x0, xmask)
    tmp1 = triton_helpers.maximum(tl.full([1], 0, tl.int32), tmp0)
    tl.store(out_ptr0 + x0, tmp1 + 0.5, xmask)

def call(args):
    arg0_1, = args
    args.clear()
    assert_size_stride(arg0_1, (6, 50), (50, 1))
    with torch.cuda._DeviceGuard(0):
        torch.cuda.set_device(0)
        buf0 = empty_strided_cuda((6, 50), (50, 1), torch.float32)
        get_raw_stream(0)
        poi[grid(300)](arg0_1, buf0, 300, XBLOCK=128, num_warps=4, num_stages=1)
        del arg0_1
    return buf0,

class ModelNew(nn.Module):
    def forward(self, input_0):
        output = call([input_0])
        return output[0]
"""
OTHER_SIZES = INDUCTOR.replace("(6, 50), (50, 1)", "(4, 64), (64, 1)").replace("300", "256")
UNMASKED = OTHER_SIZES.replace("    xmask = xindex < xnumel\n", "").replace(", xmask)", ", None)")
LINES = (
    "import triton.language as tl\n",
    "import torch.nn as nn\n",
    "from torch._inductor.runtime import triton_helpers\n",
    "empty_strided_cuda = torch._C._dynamo.guards._empty_strided_cuda\n",
)


class Bench:
    def __init__(self) -> None:
        self.tracer = Tracer(judge_settings())
        self.judge = InterpretJudge(judge_settings())

    def rounds(self, problem: Problem, source: str) -> list[Verdict]:
        """The verdicts on `source` and on what rules made of it, until there is nothing to mend."""
        verdicts: list[Verdict] = []
        while len(verdicts) < 5:
            candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.FIX)
            verdicts.append(self.judge.judge(problem, candidate, self.tracer.trace(problem, candidate)))
            if not verdicts[-1].fixable:
                break
            source = mended(source, verdicts[-1].findings)
        return verdicts

    def close(self) -> None:
        self.tracer.close()
        self.judge.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def told(verdicts: list[Verdict]) -> list[tuple[Status, tuple[str, ...]]]:
    return [(verdict.status, tuple(sorted(rules(verdict.findings)))) for verdict in verdicts]


def test_invented_names_all_mended_at_once_give_the_right_answer(bench: Bench) -> None:
    verdicts = bench.rounds(FUNCTIONS, INVENTED)
    assert told(verdicts) == [(Status.TRACE_ERROR, ("unknown_name",)), (Status.PASSED, ())]
    assert "line 14: triton.language has no tanh: write libdevice.tanh(x)" in verdicts[0].feedback
    assert verdicts[1].findings == ()


def test_whatever_the_rules_write_is_there(bench: Bench) -> None:
    """A name that is missing in this version of Triton would make its rule silently do nothing."""
    table = bench.tracer._names
    assert replacements._IN_TL - table[TL].keys() == set()
    assert replacements._IN_LIBDEVICE - table[LIBDEVICE].keys() == set()
    assert {"float32", "bfloat16", "int1", "debug_barrier"} <= table[TL].keys()
    assert {"grid", "split_scan_grid"} <= table["torch._inductor.runtime.triton_heuristics"].keys(), "restored names"


@pytest.mark.parametrize("source", [OTHER_SIZES, UNMASKED], ids=["masked", "unmasked"])
def test_sizes_and_counts_of_another_problem_are_mended_in_two_rounds(bench: Bench, source: str) -> None:
    verdicts = bench.rounds(RELU, source)
    assert told(verdicts) == [
        (Status.TRACE_ERROR, ("asserted_size",)),
        (Status.WRONG_SHAPE, ("numel", "output_size")),
        (Status.PASSED, ()),
    ]
    assert verdicts[0].failure is not None
    assert verdicts[0].failure.message == "expected size (4, 64), got (6, 50)"
    assert "what it writes has 300" in verdicts[1].feedback


def test_a_wrong_count_alone_fails_on_its_values_and_is_mended(bench: Bench) -> None:
    verdicts = bench.rounds(RELU, INDUCTOR.replace("300", "290"))
    assert told(verdicts) == [(Status.WRONG_VALUES, ("numel",)), (Status.PASSED, ())]


def test_equal_plans_of_other_texts_are_told_with_their_own_findings(bench: Bench) -> None:
    first = INDUCTOR.replace("300", "290")
    second = "# a line more\n" + first
    one, other = (bench.rounds(RELU, source)[0] for source in (first, second))
    assert one.plan_hash == other.plan_hash
    for verdict, source in ((one, first), (other, second)):
        assert all(source[f.start : f.end] == f.found for f in verdict.findings) and verdict.findings
        assert verdict.findings[0].message in verdict.feedback


def test_imports_left_out_are_mended_at_once(bench: Bench) -> None:
    source = INDUCTOR
    for line in LINES:
        assert line in source
        source = source.replace(line, "")
    assert told(bench.rounds(RELU, source)) == [(Status.TRACE_ERROR, ("missing_import",)), (Status.PASSED, ())]


def test_a_helper_called_by_another_name_is_mended(bench: Bench) -> None:
    source = INDUCTOR.replace("call([input_0])", "launch([input_0])")
    assert source != INDUCTOR
    assert told(bench.rounds(RELU, source)) == [(Status.TRACE_ERROR, ("undefined_helper",)), (Status.PASSED, ())]


def test_a_second_gpu_is_mended(bench: Bench) -> None:
    source = INDUCTOR.replace("call([input_0])", "call([input_0 + torch.zeros(50, device='cuda:1')])")
    assert told(bench.rounds(RELU, source)) == [(Status.TRACE_ERROR, ("device_index",)), (Status.PASSED, ())]


def test_an_assertion_that_is_caught_stays_caught(bench: Bench) -> None:
    caught = (
        "    try:\n        assert_size_stride(arg0_1, (4, 64), (64, 1))\n    except AssertionError:\n        pass\n"
    )
    source = INDUCTOR.replace("    assert_size_stride(arg0_1, (6, 50), (50, 1))\n", caught)
    assert caught in source
    assert told(bench.rounds(RELU, source)) == [(Status.PASSED, ())]


def test_names_that_are_never_reached_refuse_nobody(bench: Bench) -> None:
    unused = "\n@triton.jit\ndef unused(x_ptr):\n    tl.store(x_ptr, tl.tanh(tl.load(x_ptr)))\n\nclass ModelNew"
    source = INDUCTOR.replace("\nclass ModelNew", unused)
    assert told(bench.rounds(RELU, source)) == [(Status.PASSED, ())]

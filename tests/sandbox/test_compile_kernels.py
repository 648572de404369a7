"""Kernels compiled again from their texts: the same cubins as the candidate's own, whatever a kernel uses; and what
becomes of plans whose text is not what was compiled."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sandbox import wire
from sandbox.clean_kernels import Refused, launched_only, with_clean_kernels
from sandbox.kernel_store import KernelStore
from sandbox.plan import Plan, decode, plan_hash
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Operator, Problem, Status
from sandbox.zygote import ChildOutcome

ANSWER = """
import math
from triton.language.extra import libdevice
from torch._inductor.runtime import triton_helpers
from torch._inductor.runtime.triton_helpers import math as tl_math

SCALE = tl.constexpr(0.5)
COUNT = tl.constexpr(3)
KINDS = tl.constexpr((1, 2, 3))
BEFORE

@triton.jit
def double(v, by=-2.0, kind=tl.float32, times: tl.constexpr = tl.constexpr(2)):
    return (v * -by).to(kind) * (times // 2)


@triton.jit
def halve(v):
    return v * SCALE


def twice():
    @triton.jit
    def halve(v):
        return v * 0.25

    return halve


quarter = twice()


@triton.jit
def added(a, b):
    return a + b


@triton.jit
def weighted(a, wa, b, wb):
    return a * wb + b, wa * wb


@triton.jit
def answer(x_ptr, y_ptr, n, factor, EXTRA: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
    y = x
BODY
    tl.store(y_ptr + offsets, y, mask=mask)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        triton.set_allocator(lambda size, align, stream: torch.empty(size, dtype=torch.int8, device=x.device))
        answer[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), 2.5, EXTRA=EXTRA_VALUE, BLOCK=1024, OPTIONS)
        return y
"""


def answer(body: str, *, head: str, extra: str = "1", options: str = "", before: str = "") -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return head + ANSWER.replace("BODY", lines).replace("EXTRA_VALUE", extra).replace("OPTIONS", options).replace(
        "BEFORE", before
    )  # fmt: skip


def traced_by_the_child(tracer: Tracer, problem: Problem, source: str) -> Plan:
    """The plan as the candidate's process sends it, with that process's cubins."""
    body = {"source": source, "spec": tracer.spec(problem), "capability": 90}
    outcome = tracer._run("trace", wire.pack(body), tracer._settings.trace_limits)
    assert outcome.result is not None
    message, blobs = wire.unpack(outcome.result)
    assert message["status"] is None, message
    return decode(bytes(blobs[0]))


BODIES = {
    "computed_defaults": "y = double(x)",
    "default_overridden": "y = double(x, by=3.0, kind=tl.float32)",
    "constexpr_in_the_module": "for i in tl.static_range(COUNT):\n    y += SCALE * i",
    "tuple_in_the_module": "y = x * KINDS[1]",
    "function_by_closure": "y = halve(x) + quarter(x)",
    "compile_time_value": "HALF: tl.constexpr = BLOCK // 2\nz = tl.reshape(x, (2, HALF))\ny = tl.reshape(z, (BLOCK,))",
    "annotated_value": "z: tl.float32 = 0.0\ny = x + z",
    "scan": "y, w = tl.associative_scan((x, x * 0 + 0.5), 0, weighted)",
    "reduce": "y = x - tl.reduce(x, 0, added)",
    "libdevice": "y = libdevice.tanh(x) + libdevice.pow(x, 2.0)",
    "mathematics": "y = x / math.sqrt(BLOCK) * math.pi + tl.math.rsqrt(x) + tl_math.abs(x)",
    "inductor": "y = triton_helpers.maximum(x, 0.0) + triton_helpers.max2(x[None, :], 1)[:, None].reshape(1)",
    "inductor_promoted": "y = x + triton_helpers.promote_to_tensor(tl.sum(x, 0))",
    "random": "y = x * tl.rand(7, offsets) + tl.randn(8, offsets)",
    "assembly": (
        "y = tl.inline_asm_elementwise('mul.f32 $0, $1, 2.0;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1)"
    ),
    "while": "i = 0\nwhile i < n:\n    y += 1.0\n    i += 512",
    "hints": "tl.static_assert(BLOCK % 2 == 0, 'even')\no = tl.max_contiguous(tl.multiple_of(offsets, 8), 8)\ny += o",
    "pipelined": "for i in tl.range(0, n, BLOCK, num_stages=3):\n    y += tl.load(x_ptr + i + tl.arange(0, BLOCK))",
    "sort_and_flip": "y = tl.flip(tl.sort(x), 0)",
    "softmax": "y = tl.softmax(x) + tl.sigmoid(x) + tl.cumsum(x, 0, reverse=True)",
    "joined": "a, b = tl.split(tl.reshape(x, (BLOCK // 2, 2)))\ny = tl.interleave(a, b) + tl.ravel(tl.join(a, b))",
    "bits": "y = x.to(tl.int32, bitcast=True).to(tl.float32, bitcast=True) + (offsets & 3).to(tl.float32)",
    "atomics": "tl.atomic_add(y_ptr + offsets, x, mask=mask, sem='relaxed')\ntl.debug_barrier()",
    "eviction": "y = tl.load(x_ptr + offsets, mask, eviction_policy='evict_last')",
    "device_checks": "tl.device_assert(n > 0, 'n')\ntl.device_print('n', n)",
    "block_pointer": (
        "p = tl.make_block_ptr(x_ptr, (n,), (1,), (0,), (BLOCK,), (0,))\n"
        "y = tl.load(tl.advance(p, (BLOCK,)), boundary_check=(0,), padding_option='zero')"
    ),
    "descriptor": "d = tl.make_tensor_descriptor(x_ptr, [n], [1], [BLOCK])\ny = d.load([0])",
    "clamped": "y = tl.clamp(x, 0.0, 1.0) + tl.fma(x, x, x) + tl.where(x > 0, x, -x) + x.abs() + min(1, 2)",
    "conditional": "if EXTRA == 1:\n    y = x + 1\nelif EXTRA is None:\n    y = x\nelse:\n    tl.static_print('no')",
    "comparisons": "y = tl.where((x >= 0) & ~(x != x) | (x == float('inf')), x, float('-inf'))",
    "comprehension": "parts = [i + 1 for i in (1, 2)]\ny = x * parts[1]",
    "gathered": "y = tl.gather(x, offsets % BLOCK, 0) + tl.zeros_like(x) + tl.full((BLOCK,), 1.0, tl.float32)",
    "arguments_of_python": "y = x * factor + tl.cdiv(n, 4) + tl.num_programs(0)",
    "histogram": "h = tl.histogram(offsets, 64)\ny = x + tl.max(h, 0) + tl.min(x, 0, return_indices=True)[1]",
    "noninlined": "y = apart(tl.max(x, 0)) + x",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_kernel_compiles_from_its_text_to_the_same_cubin(
    tracer: Tracer, sources: dict[str, str], problem: Problem, body: str
) -> None:
    assert_same(tracer, problem, answer(body, head=sources["head"], before=APART))


APART = """
@triton.jit(noinline=True)
def apart(v):
    return v + 1.0
"""


@pytest.mark.parametrize(
    ("extra", "body"),
    [
        ("None", "y = x if EXTRA is None else x + 1"),
        ("added", "y = EXTRA(x, x)"),
        ("(added, 2)", "y = EXTRA[0](x, EXTRA[1])"),
        ("quarter", "y = EXTRA(halve(x))"),
        ("tl.bfloat16", "y = x.to(EXTRA).to(tl.float32)"),
        ("'relu'", "y = tl.maximum(x, 0.0) if EXTRA == 'relu' else x"),
        ("(64, 16)", "y = tl.reshape(tl.reshape(x, EXTRA), (BLOCK,))"),
        ("float('inf')", "y = tl.where(x == EXTRA, 0.0, x)"),
        ("True", "if EXTRA:\n    y = x + 1"),
        ("tl.constexpr(4)", "y = x * EXTRA"),
        ("-1.5", "y = x * EXTRA"),
    ],
    ids=lambda part: part if len(part) < 20 else None,
)
def test_compile_time_arguments_of_any_kind(
    tracer: Tracer, sources: dict[str, str], problem: Problem, extra: str, body: str
) -> None:
    assert_same(tracer, problem, answer(body, head=sources["head"], extra=extra))


@pytest.mark.parametrize(
    "options",
    ["num_warps=8", "num_stages=1", "maxnreg=64", "enable_fp_fusion=False", "debug=True", "num_ctas=2",
     "launch_cooperative_grid=True", "launch_pdl=True", "sanitize_overflow=False"],
)  # fmt: skip
def test_compile_options_are_kept(tracer: Tracer, sources: dict[str, str], problem: Problem, options: str) -> None:
    body = "tl.device_assert(n > 0, 'n')\ny = x * x + factor"
    assert_same(tracer, problem, answer(body, head=sources["head"], options=options))


def assert_same(tracer: Tracer, problem: Problem, source: str) -> None:
    """That the kernels compiled from their texts are those that the candidate's process compiled."""
    before, _ = launched_only(traced_by_the_child(tracer, problem, source), capability=90)
    traced = tracer.trace(problem, make_candidate(source))
    assert traced.plan is not None, traced.failure
    after = decode(traced.plan)
    for mine, ours in zip(before.kernels, after.kernels, strict=True):
        assert mine.cubin == ours.cubin
        assert (mine.entry, mine.shared_bytes, mine.num_registers) == (
            ours.entry,
            ours.shared_bytes,
            ours.num_registers,
        )
        assert mine.num_warps == ours.num_warps


def make_candidate(source: str) -> Candidate:
    return Candidate(problem_id="problem", source=source, operator=Operator.DRAFT)


@pytest.fixture
def problem(sources: dict[str, str]) -> Problem:
    return Problem(id="problem", source=sources["relu"], origin="test")


def test_a_name_that_cannot_be_described_is_nobodys_fault(
    tracer: Tracer, sources: dict[str, str], problem: Problem
) -> None:
    before = "@triton.constexpr_function\ndef three():\n    return 3\n"
    source = answer("y = x * three()", head=sources["head"], before=before)
    traced = tracer.trace(problem, make_candidate(source))
    assert traced.status is Status.UNVERIFIED and traced.failure is not None
    assert "cannot be checked on any machine: its text uses three" in traced.failure.message
    assert "triton.constexpr_function" in traced.failure.message


TUNED = """
@triton.autotune(configs=[triton.Config({"BLOCK": b}, num_warps=w) for b in (64, 128) for w in (1, 2)], key=["n"])
@triton.jit
def tuned(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(y_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=mask), 0.0), mask=mask)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        tuned[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)](x, y, x.numel())
        tuned.fn[(1,)](x, y, 16, BLOCK=64, num_warps=1)
        return y
"""


def test_all_kernels_of_a_plan_are_compiled_in_one_child(
    sources: dict[str, str], problem: Problem, tracer: Tracer
) -> None:
    plan = traced_by_the_child(tracer, problem, sources["head"] + TUNED)
    twice = dataclasses.replace(plan, kernels=plan.kernels * 2)  # the second half of which nothing launches
    store = KernelStore(None, memory_bytes=1 << 20, disk_bytes=0)
    requests: list[bytes] = []

    def compile_recipes(request: bytes) -> ChildOutcome:
        requests.append(request)
        return tracer._run("compile", request, tracer._settings.trace_limits)

    clean, _ = with_clean_kernels(twice, capability=90, store=store, compile_recipes=compile_recipes)
    again, ran = with_clean_kernels(plan, capability=90, store=store, compile_recipes=compile_recipes)
    assert isinstance(clean, Plan) and clean == again and ran is None
    assert len(requests) == 1 and len(wire.unpack(requests[0])[0]["recipes"]) == len(clean.kernels) == 4
    forged = [dataclasses.replace(kernel, cubin=b"\x7fELF", num_registers=1) for kernel in clean.kernels]
    assert plan_hash(dataclasses.replace(clean, kernels=tuple(forged))) == plan_hash(clean)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"timed_out": True, "signal": 9}, Status.TIMEOUT),
        ({"signal": 9}, Status.COMPILE_ERROR),
        ({"exit_code": 1}, Status.COMPILE_ERROR),
        ({"signal": 9, "out_of_memory": True}, Status.OUT_OF_MEMORY),
    ],
)
def test_a_compile_child_that_ends_early(
    sources: dict[str, str], problem: Problem, tracer: Tracer, changes: dict[str, Any], status: Status
) -> None:
    plan = traced_by_the_child(tracer, problem, sources["relu_answer"])
    ended: dict[str, Any] = {"result": None, "exit_code": None, "signal": None, "timed_out": False}
    ended["out_of_memory"] = False
    figures: dict[str, Any] = {"cpu_seconds": 1.0, "max_rss_bytes": 1, "wall_seconds": 1.0}
    outcome = ChildOutcome(**{**ended, **changes, **figures})
    store = KernelStore(None, memory_bytes=1 << 20, disk_bytes=0)
    refused, _ = with_clean_kernels(plan, capability=90, store=store, compile_recipes=lambda _: outcome)
    assert isinstance(refused, Refused) and refused.status is status

"""Tracing: what becomes a plan, what does not and why, and that code written for a GPU traces without one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.feedback import render_feedback
from sandbox.plan import AtenStep, ChoiceStep, LaunchStep, Plan, decode, num_alternatives, resolve
from sandbox.tracer import Traced
from sandbox.types import Status

Trace = Callable[[str, str], Traced]


def plan_of(traced: Traced) -> Plan:
    assert traced.plan is not None, traced.failure
    return decode(traced.plan)


def test_one_kernel_becomes_one_launch_with_a_cubin(trace: Trace, sources: dict[str, str]) -> None:
    plan = plan_of(trace(sources["relu"], sources["relu_answer"]))
    (step,) = plan.steps
    assert isinstance(step, LaunchStep)
    assert step.grid == (7, 1, 1)
    assert step.args[2] == 6400
    kernel = plan.kernels[0]
    assert kernel.capability == 90 and kernel.num_registers > 0
    assert kernel.constants == {"BLOCK": {"value": 1024, "kind": "int"}}
    assert "@" not in kernel.functions["relu_kernel"] and "constexpr" not in kernel.functions["relu_kernel"]


def test_equal_work_has_one_hash_whatever_the_host_code(trace: Trace, sources: dict[str, str]) -> None:
    renamed = sources["relu_answer"].replace(
        "y = torch.empty_like(x)", "y = torch.empty_like(x)  # a comment\n        z = 1"
    )
    other = sources["relu_answer"].replace("BLOCK=1024", "BLOCK=512").replace("cdiv(n, 1024)", "cdiv(n, 512)")
    first, second, third = (trace(sources["relu"], s).plan_hash for s in (sources["relu_answer"], renamed, other))
    assert first == second != third


def test_views_leave_no_step_and_carry_their_offset(trace: Trace, sources: dict[str, str]) -> None:
    source = sources["relu_answer"].replace("n = x.numel()", "x = x[3:, 1:].t(); y = y[3:, 1:]; n = 5")
    plan = plan_of(trace(sources["relu"], source))
    (step,) = plan.steps
    assert isinstance(step, LaunchStep)
    assert plan.values[step.args[0]].offset == 301  # type: ignore[index]
    # 301 floats in is not 16-byte aligned, so the compiled kernel must not assume it.
    assert plan.values[step.args[0]].shape == (99, 61)  # type: ignore[index]


def test_autotuned_launch_records_its_alternatives(trace: Trace, sources: dict[str, str]) -> None:
    configs = "@triton.autotune([triton.Config({'BLOCK': b}) for b in (256, 512, 1024)], key=['n'])\n@triton.jit"
    source = sources["relu_answer"].replace("@triton.jit", configs).replace(", BLOCK=1024)", ")")
    source = source.replace("[(triton.cdiv(n, 1024),)]", "[lambda meta: (triton.cdiv(n, meta['BLOCK']),)]")
    plan = plan_of(trace(sources["relu"], source))
    assert num_alternatives(plan) == (3,)
    assert isinstance(plan.steps[0], ChoiceStep)
    chosen = resolve(plan, (1,)).steps[0]
    assert isinstance(chosen, LaunchStep) and chosen.grid == (13, 1, 1)


def test_heuristics_are_computed(trace: Trace, sources: dict[str, str]) -> None:
    heuristic = "@triton.heuristics({'BLOCK': lambda a: triton.next_power_of_2(a['n'] // 10)})\n@triton.jit"
    source = sources["relu_answer"].replace("@triton.jit", heuristic).replace(", BLOCK=1024)", ")")
    plan = plan_of(trace(sources["relu"], source))
    assert plan.kernels[0].constants["BLOCK"]["value"] == 1024


INDUCTOR_ANSWER = """
import torch
from torch._inductor.select_algorithm import extern_kernels
import triton
import triton.language as tl
from torch._inductor.runtime.triton_heuristics import grid
from torch._C import _cuda_getCurrentRawStream as get_raw_stream
from torch._inductor.runtime import triton_helpers
from torch._inductor.runtime.triton_helpers import libdevice
import torch.nn as nn
assert_size_stride = torch._C._dynamo.guards.assert_size_stride
empty_strided_cuda = torch._C._dynamo.guards._empty_strided_cuda
reinterpret_tensor = torch._C._dynamo.guards._reinterpret_tensor


@triton.jit
def triton_poi_fused_relu_0(in_out_ptr0, in_ptr0, xnumel, XBLOCK: tl.constexpr):
    xoffset = tl.program_id(0) * XBLOCK
    xindex = xoffset + tl.arange(0, XBLOCK)[:]
    xmask = xindex < xnumel
    x0 = xindex % 16
    tmp0 = tl.load(in_out_ptr0 + xindex, xmask)
    tmp1 = tl.load(in_ptr0 + x0, xmask, eviction_policy='evict_last')
    tmp2 = triton_helpers.maximum(tl.full([1], 0, tl.int32), tmp0 + tmp1)
    tl.store(in_out_ptr0 + xindex, tmp2, xmask)


def call(args):
    primals_1, primals_2, primals_3 = args
    args.clear()
    assert_size_stride(primals_1, (16, 48), (48, 1))
    with torch.cuda._DeviceGuard(0):
        torch.cuda.set_device(0)
        buf0 = empty_strided_cuda((32, 16), (16, 1), torch.float32)
        extern_kernels.mm(primals_3, reinterpret_tensor(primals_1, (48, 16), (1, 48), 0), out=buf0)
        buf1 = buf0
        stream0 = get_raw_stream(0)
        triton_poi_fused_relu_0[grid(512)](buf1, primals_2, 512, XBLOCK=256, num_warps=4, num_stages=1)
    return buf1,


class ModelNew(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, input_0):
        return call([self.linear.weight, self.linear.bias, input_0])[0]
"""


def test_inductor_style_answers_trace_with_their_old_names(trace: Trace, sources: dict[str, str]) -> None:
    traced = trace(sources["linear"], INDUCTOR_ANSWER)
    plan = plan_of(traced)
    assert "names_restored" in traced.labels
    assert [name for name, _ in plan.weights] == ["linear.weight", "linear.bias"]
    launch = plan.steps[-1]
    assert isinstance(launch, LaunchStep) and launch.grid == (2, 1, 1)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (("tl.maximum(x, 0.0)", "tl.relu(x)"), Status.COMPILE_ERROR, "no attribute 'relu'"),
        (("BLOCK=1024", "BLOCK=1000"), Status.COMPILE_ERROR, "power of 2"),
        (("import triton\n", "import no_such_module\nimport triton\n"), Status.TRACE_ERROR, "no_such_module"),
        (("assert x.is_cuda", "if x.sum().item() > 0: pass"), Status.UNTRACEABLE, "_local_scalar_dense"),
        (("assert x.is_cuda", "x = x.cpu()"), Status.TRACE_ERROR, "cannot be accessed from Triton"),
        (("return y", "return None"), Status.TRACE_ERROR, "returned no tensor"),
        (("assert x.is_cuda", "raise SystemExit(0)"), Status.TRACE_ERROR, "0"),
        (("(triton.cdiv(n, 1024),)", "(2**31,)"), Status.LAUNCH_ERROR, "grid"),
        (("(triton.cdiv(n, 1024),)", "(1, 70000)"), Status.LAUNCH_ERROR, "grid"),
    ],
)
def test_failures_carry_status_and_message(
    trace: Trace, sources: dict[str, str], change: tuple[str, str], status: Status, message: str
) -> None:
    traced = trace(sources["relu"], sources["relu_answer"].replace(*change))
    assert traced.status is status and traced.failure is not None
    assert message in traced.failure.message


def test_a_compile_error_names_the_candidates_own_line(trace: Trace, sources: dict[str, str]) -> None:
    traced = trace(sources["relu"], sources["relu_answer"].replace("tl.maximum(x, 0.0)", "tl.relu(x)"))
    assert traced.failure is not None
    assert traced.failure.source_line == "tl.store(y_ptr + offsets, tl.relu(x), mask=mask)"
    number = traced.failure.line_number
    assert number is not None
    assert "tl.relu" in sources["relu_answer"].replace("tl.maximum(x, 0.0)", "tl.relu(x)").splitlines()[number - 1]


def test_indexing_and_assignment_follow_python(trace: Trace, sources: dict[str, str]) -> None:
    body = """
        y = torch.zeros(4, 5, 6, device="cuda")
        y[1] = 2.0
        y[..., -1] = x[0, 0]
        y[:, 1:3, ::2] = y[:, 3:5, ::2]
        y[torch.arange(4, device="cuda"), 0] = 1.0
        assert y[None, ..., 0].shape == (1, 4, 5)
        assert y[1:3, 2].shape == (2, 6)
        assert y[[0, 2]].shape == (2, 5, 6)
        assert y[:, torch.arange(2, device="cuda")].shape == (4, 2, 6)
        assert y[-1, -1, -1].shape == ()
        return y
"""
    source = sources["head"] + "class ModelNew(torch.nn.Module):\n    def forward(self, x):" + body
    plan = plan_of(trace(sources["relu"], source))
    assert plan.values[plan.outputs["tensor"]].shape == (4, 5, 6)


A_TUPLE = """
@triton.jit
def kernel(both, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(both[0] + offsets, mask=offsets < n)
    tl.store(y_ptr + offsets, tl.maximum(x, 0.0), mask=offsets < n)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        n = x.numel()
        kernel[(triton.cdiv(n, 128),)]((x, n), y, n, BLOCK=128)
        return y
"""


def test_a_tuple_is_told_for_what_it_is(trace: Trace, sources: dict[str, str]) -> None:
    traced = trace(sources["relu"], sources["head"] + A_TUPLE)
    assert traced.status is Status.UNTRACEABLE and traced.failure is not None
    assert "both is a tuple, and tuples are not" in traced.failure.message
    feedback = render_feedback(traced.status, traced.failure)
    assert "what is not supported: a tuple" in feedback.splitlines()[0]
    assert "Hint: Pass what a tuple holds as arguments of their own" in feedback
    assert "values in a tensor" not in feedback and "only allocate outputs" not in feedback


PUT_IN_ITS_PLACE = """
class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.zeros(4))

    def forward(self, x):
        total = x.sum() READ
        self.kept = torch.ones(SIZE, device=x.device)
        return total
"""


@pytest.mark.parametrize(("read", "size", "num_copies"), [("+ self.kept", 4, 1), ("", 4, 0), ("+ self.kept", 5, 0)])
def test_what_is_put_in_a_buffers_place_is_what_the_next_call_finds_there(
    trace: Trace, sources: dict[str, str], read: str, size: int, num_copies: int
) -> None:
    source = sources["head"] + PUT_IN_ITS_PLACE.replace("READ", read).replace("SIZE", str(size))
    plan = plan_of(trace(sources["relu"], source))
    copies = [step for step in plan.steps if isinstance(step, AtenStep) and step.op == "aten.copy_.default"]
    assert [step.outputs for step in copies] == [(dict(plan.weights)["kept"],)] * num_copies


@pytest.mark.parametrize(("returned", "unused"), [("found[0]", [1, 2]), ("(found[0], found[2])", [1]), ("found", [])])
def test_results_that_nothing_uses_are_no_part_of_the_plan(
    trace: Trace, sources: dict[str, str], returned: str, unused: list[int]
) -> None:
    norm = "torch.native_layer_norm(x, x.shape[-1:], None, None, 1e-5)"
    source = f"class ModelNew(torch.nn.Module):\n    def forward(self, x):\n        found = {norm}\n"
    plan = plan_of(trace(sources["relu"], sources["head"] + source + f"        return {returned}\n"))
    (step,) = (s for s in plan.steps if isinstance(s, AtenStep) and len(s.outputs) == 3)
    assert [at for at, output in enumerate(step.outputs) if output is None] == unused

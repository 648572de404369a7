"""Real candidates to their verdicts on a GPU, through its judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.gpu_judge import GpuJudge
from sandbox.plan import decode
from sandbox.settings import JudgeSettings
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Operator, Pattern, Problem, Status, Verdict

pytestmark = pytest.mark.gpu
CASE = "problem"
BIG_RELU = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)
def get_inputs():
    return [torch.rand(4096, 4096)]
def get_init_inputs():
    return []
"""
BIG_PRODUCT = """
import torch
class Model(torch.nn.Module):
    def forward(self, a, b):
        return a @ b
def get_inputs():
    return [torch.randn(1024, 1024), torch.randn(1024, 1024)]
def get_init_inputs():
    return []
"""
AUTOTUNE = "@triton.autotune([triton.Config({'BLOCK': b}) for b in (256, 1024, 4096)], key=['n'])\n@triton.jit"
# Ends by itself: about 2^33 dependent additions on one thread block take several seconds.
SLOW = "    for _ in range(1 << 30):\n        x = x * 1.0001 + 0.5\n    tl.store(y_ptr + offsets, x, mask=mask)"
# A copy by torch between two launches: a third of the device time, where half is allowed.
TWICE = "z = torch.empty_like(y)\n        relu_kernel[(n // 1024,)](y.clone(), z, n, BLOCK=1024)\n        return z"
STORE = "    tl.store(y_ptr + offsets, tl.maximum(x, 0.0), mask=mask)"


@pytest.fixture(scope="module")
def gpu_settings(settings: JudgeSettings) -> JudgeSettings:
    return replace(settings, mode="replay", replay_seconds=20.0, timing_rounds=12, timing_seconds=0.5)


@pytest.fixture(scope="module")
def gpu_judge(gpu_settings: JudgeSettings) -> Iterator[GpuJudge]:
    judge = GpuJudge(gpu_settings, device=0)
    yield judge
    judge.close()


@pytest.fixture(scope="module")
def replay(tracer: Tracer, gpu_judge: GpuJudge) -> Callable[[str, str], Verdict]:
    def judge(problem_source: str, source: str) -> Verdict:
        problem = Problem(id=CASE, source=problem_source, origin="test")
        candidate = Candidate(problem_id=CASE, source=source, operator=Operator.DRAFT)
        return gpu_judge.judge(problem, candidate, tracer.trace(problem, candidate))

    return judge


def test_a_right_answer_passes_and_is_timed(replay: Callable[[str, str], Verdict], sources: dict[str, str]) -> None:
    found = replay(BIG_RELU, sources["relu_answer"])
    assert found.status is Status.PASSED, found.feedback
    assert found.performance is not None
    assert 0.7 < found.speedup < 1.5  # both read and write memory once
    assert found.performance.speedup_low <= found.speedup <= found.performance.speedup_high
    assert {"gpu", "torch", "triton", "timer", "precision"} <= set(found.performance.conditions)
    assert "graph" in found.performance.conditions["timer"]


@pytest.mark.parametrize(
    ("change", "status", "pattern"),
    [
        (("tl.maximum(x, 0.0)", "x"), Status.WRONG_VALUES, None),
        (("tl.maximum(x, 0.0)", "x * 0.0"), Status.WRONG_VALUES, Pattern.ZEROS),
        (("triton.cdiv(n, 1024)", "n // 1024 // 2"), Status.WRONG_VALUES, None),
        (("offsets, tl.maximum(x, 0.0), mask=mask)", "offsets + 64, tl.maximum(x, 0.0))"), Status.ILLEGAL_ACCESS, None),
        (("y_ptr + offsets", "y_ptr + offsets.to(tl.int64) * (1 << 33)"), Status.ILLEGAL_ACCESS, None),
        (("y_ptr + offsets, tl", "x_ptr + offsets, tl"), Status.WRONG_VALUES, None),
        (("return y", "return y.t()"), Status.WRONG_VALUES, None),
        (("return y", "return torch.relu(x) + 0.0 * y"), Status.REJECTED, None),
        (("return y", TWICE), Status.PASSED, None),
        (("@triton.jit", AUTOTUNE), Status.PASSED, None),
    ],
)
def test_answers_are_told_apart_on_the_device(
    replay: Callable[[str, str], Verdict],
    sources: dict[str, str],
    change: tuple[str, str],
    status: Status,
    pattern: Pattern | None,
) -> None:
    source = sources["relu_answer"].replace(*change)
    if change[1] is AUTOTUNE:
        source = source.replace(", BLOCK=1024)", ")")
        source = source.replace("[(triton.cdiv(n, 1024),)]", "[lambda meta: (triton.cdiv(n, meta['BLOCK']),)]")
    found = replay(BIG_RELU, source)
    assert found.status is status, (found.status, found.feedback)
    if pattern is not None:
        assert found.failure is not None and found.failure.mismatch is not None
        assert found.failure.mismatch.pattern is pattern


def test_a_winner_is_confirmed_on_fresh_seeds_with_a_figure_that_agrees(
    tracer: Tracer, gpu_settings: JudgeSettings, sources: dict[str, str]
) -> None:
    problem = Problem(id=CASE, source=BIG_RELU, origin="test")
    candidate = Candidate(problem_id=CASE, source=sources["relu_answer"], operator=Operator.DRAFT)
    traced = tracer.trace(problem, candidate)
    judge = GpuJudge(gpu_settings, device=0)
    try:
        first = judge.judge(problem, candidate, traced)
        more = replace(gpu_settings, num_seeds=gpu_settings.num_seeds + 2, racing=False)
        again = judge.confirm(problem, candidate, traced, settings=more)
        other = replace(candidate, source=candidate.source.replace("1024", "512"))
        after = judge.judge(problem, other, tracer.trace(problem, other))
    finally:
        judge.close()
    assert first.passed and again.passed and after.passed, (first.feedback, again.feedback, after.feedback)
    assert first.correctness is not None and again.correctness is not None
    assert not set(first.correctness.seeds) & set(again.correctness.seeds)
    assert len(again.correctness.seeds) == len(first.correctness.seeds) + 2
    assert first.performance is not None and again.performance is not None
    assert 0.8 < again.speedup / first.speedup < 1.25
    assert [kernel.name for kernel in again.kernels] == ["relu_kernel"]


def test_a_broken_context_is_not_the_next_ones_fault(
    replay: Callable[[str, str], Verdict], sources: dict[str, str]
) -> None:
    broken = sources["relu_answer"].replace("x_ptr + offsets", "x_ptr + offsets.to(tl.int64) * (1 << 33)")
    assert replay(BIG_RELU, broken).status is Status.ILLEGAL_ACCESS
    after = replay(BIG_RELU, sources["relu_answer"].replace("BLOCK=1024", "BLOCK=512").replace("n, 1024", "n, 512"))
    assert after.status is Status.PASSED, after.feedback


def test_kernels_that_take_too_long_time_out_and_are_killed(
    tracer: Tracer, gpu_settings: JudgeSettings, sources: dict[str, str]
) -> None:
    problem = Problem(id=CASE, source=sources["relu"], origin="test")
    candidate = Candidate(problem_id=CASE, source=sources["relu_answer"].replace(STORE, SLOW), operator=Operator.DRAFT)
    judge = GpuJudge(replace(gpu_settings, replay_seconds=1.5), device=0)
    try:
        found = judge.judge(problem, candidate, tracer.trace(problem, candidate))
        assert found.status is Status.TIMEOUT, found.feedback
        assert judge.calibrate(problem, tracer.spec(problem), precision="ieee").admitted
    finally:
        judge.close()


MATMUL = """
import torch
class Model(torch.nn.Module):
    def forward(self, a, b):
        return a @ b
def get_inputs():
    return [torch.randn(512, 512, dtype=torch.float16), torch.randn(512, 512, dtype=torch.float16)]
def get_init_inputs():
    return []
"""
MATMUL_ANSWER = """
import torch
import triton
import triton.language as tl

@triton.jit
def matmul(a_ptr, b_ptr, c_ptr, N, B: tl.constexpr, K: tl.constexpr):
    rows = tl.program_id(0) * B + tl.arange(0, B)
    columns = tl.program_id(1) * B + tl.arange(0, B)
    inner = tl.arange(0, K)
    total = tl.zeros((B, B), dtype=tl.float32)
    for k in range(0, N, K):
        a = tl.load(a_ptr + rows[:, None] * N + (k + inner)[None, :])
        b = tl.load(b_ptr + (k + inner)[:, None] * N + columns[None, :])
        total = tl.dot(a, b, total)
    tl.store(c_ptr + rows[:, None] * N + columns[None, :], total.to(tl.float16))


class ModelNew(torch.nn.Module):
    def forward(self, a, b):
        c = torch.empty_like(a)
        matmul[(4, 4)](a, b, c, 512, B=128, K=64, num_stages=3, num_warps=8)
        return c
"""


def test_kernels_with_much_shared_memory_run(replay: Callable[[str, str], Verdict], tracer: Tracer) -> None:
    problem = Problem(id=CASE, source=MATMUL, origin="test")
    candidate = Candidate(problem_id=CASE, source=MATMUL_ANSWER, operator=Operator.DRAFT)
    traced = tracer.trace(problem, candidate)
    assert traced.plan is not None, traced.failure
    assert decode(traced.plan).kernels[0].shared_bytes > 48 << 10
    found = replay(MATMUL, MATMUL_ANSWER)
    assert found.status is Status.PASSED, found.feedback


def test_kernels_on_a_cluster_run(replay: Callable[[str, str], Verdict], sources: dict[str, str]) -> None:
    found = replay(BIG_RELU, sources["relu_answer"].replace("BLOCK=1024)", "BLOCK=1024, num_ctas=2)"))
    assert found.status is Status.PASSED, found.feedback


def test_atomics_that_stay_within_tolerance_are_no_fault(
    replay: Callable[[str, str], Verdict], sources: dict[str, str]
) -> None:
    problem = BIG_RELU.replace("torch.relu(x)", "x.sum(dim=0)").replace("4096, 4096", "64, 262144")
    source = sources["relu_answer"].replace(STORE, "    tl.atomic_add(y_ptr + offsets % 262144, x, mask=mask)")
    found = replay(problem, source.replace("y = torch.empty_like(x)", "y = torch.zeros(262144, device=x.device)"))
    assert found.status is Status.PASSED, found.feedback
    assert "varies_within_tolerance" in found.labels


def test_weights_are_taken_by_name(replay: Callable[[str, str], Verdict], sources: dict[str, str]) -> None:
    answer = """
class ModelNew(torch.nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = torch.nn.Linear(n_in, n_out)
    def forward(self, x):
        z = torch.nn.functional.linear(x, self.linear.weight, self.linear.bias)
        y = torch.empty_like(z)
        relu_kernel[(1,)](z, y, z.numel(), BLOCK=1024)
        return y
"""
    source = sources["relu_answer"].split("class ModelNew")[0] + answer
    found = replay(sources["linear"], source)
    assert found.status in (Status.PASSED, Status.REJECTED), found.feedback  # the share of such short kernels may vary
    assert found.correctness is not None and found.correctness.weights == "by_name"


def test_a_kernel_that_finds_its_last_answer_is_timed_with_its_work(replay: Callable[[str, str], Verdict]) -> None:
    """It leaves the work out where fresh memory holds the bits of its inputs: no run may find what another left."""
    programs = Path(__file__).parents[1] / "adversarial" / "programs"
    cheat = (programs / "answers_kept_for_the_next_run.py").read_text()
    honest = cheat.replace("if tl.load(tag_ptr + program) != seen:", "if seen == seen:")
    assert honest != cheat
    found = [replay(BIG_PRODUCT, source).performance for source in (honest, cheat)]
    assert found[0] is not None and found[1] is not None
    assert found[1].runtime_us > 0.7 * found[0].runtime_us

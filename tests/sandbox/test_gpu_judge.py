"""The judge of a GPU: who is blamed for what, with a scripted worker; on a GPU, real candidates to their verdicts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.gpu_judge import GpuJudge
from sandbox.gpu_workers import worker_environment
from sandbox.plan import decode
from sandbox.settings import JudgeSettings
from sandbox.tracer import ProblemFailed, Traced, Tracer
from sandbox.types import Candidate, Operator, Pattern, Problem, Status, Verdict
from sandbox.zygote import SandboxError

Trace = Callable[[str, str], Traced]

ROOT = Path(__file__).parents[2]
SCRIPT = f"""
import json, os, signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
from sandbox.worker_process import read_message, write_message
out = os.fdopen(os.dup(1), "wb")
answers = json.loads(sys.argv[1])
while (message := read_message(sys.stdin.buffer)):
    answer = answers[message[0]["do"]]
    if answer == "hang":
        time.sleep(60)
    elif isinstance(answer, int):
        os.kill(os.getpid(), answer)
    else:
        write_message(out, {{"json": json.dumps(answer)}})
"""
AGREES: dict[str, object] = {
    "status": None, "failure": None, "max_error_ratio": 0.25, "rms_error_ratio": 0.5, "weights": "none", "labels": [],
    "writes": None, "choices": [], "chosen": [], "dead": False,
}  # fmt: skip
CALIBRATION = {
    "admitted": True, "reason": None, "num_nulls": 9, "num_rejected": 9, "passed": [], "unseen": [], "seen_weights": [],
    "kinds": ["given", "outliers", "given"], "seconds": 0.1,
}  # fmt: skip
TIMED = {"status": None, "failure": None, "not_timed": None, "dead": False}
ANSWERS: dict[str, object] = {
    "load": {},
    "probe": {"healthy": True, "conditions": {"gpu": "scripted"}},
    "open": {"inadmissible": None, "key": "k", "seeds": [1, 2, 3], "timing_seeds": [4, 5],
             "kinds": ["given", "outliers", "given"], "hidden": [], "exact": True, "eager_us": 100.0,
             "calibration": CALIBRATION},
    "verify": AGREES,
    "timing_inputs": {"not_timed": None},
    "prepare": {**TIMED, "kind": "graph", "uncapturable": None, "floor_us": 8.0, "least_plausible_us": 5.0,
                "conditions": {"gpu": "scripted"}},
    "measure": {**TIMED, "times_us": [10.0]},
    "finish": TIMED,
}  # fmt: skip
BASELINE_ANSWERS: dict[str, object] = {
    "probe": {"healthy": True, "conditions": {"gpu": "scripted", "torch": "1"}},
    "open": {"unusable": None},
    "prepare": {"unusable": None, "kind": "graph", "uncapturable": None},
    "measure": {"times_us": [20.0]},
    "forget": {},
}
CASE = "problem"


@pytest.fixture(scope="module")
def traced(trace: Trace, sources: dict[str, str]) -> Traced:
    return trace(sources["relu"], sources["relu_answer"])


@pytest.fixture
def scripted(settings: JudgeSettings) -> Iterator[Callable[..., GpuJudge]]:
    judges: list[GpuJudge] = []

    def make(**changes: object) -> GpuJudge:
        quick = replace(settings, replay_seconds=0.5, timing_seconds=0.1, timing_rounds=8)
        baseline = {**BASELINE_ANSWERS, **{n[9:]: a for n, a in changes.items() if n.startswith("baseline_")}}
        ours = {**ANSWERS, **{n: a for n, a in changes.items() if not n.startswith("baseline_")}}
        commands = [[sys.executable, "-c", SCRIPT, json.dumps(answers)] for answers in (ours, baseline)]
        judges.append(GpuJudge(quick, device=0, command=commands[0], baseline_command=commands[1]))
        return judges[-1]

    yield make
    for judge in judges:
        judge.close()


def ask(judge: GpuJudge, traced: Traced, sources: dict[str, str]) -> Verdict:
    problem = Problem(id=CASE, source=sources["relu"], origin="test")
    candidate = Candidate(problem_id=CASE, source=sources["relu_answer"], operator=Operator.DRAFT)
    return judge.judge(problem, candidate, traced)


def test_a_plan_that_agrees_passes_with_its_figures(
    scripted: Callable[..., GpuJudge], traced: Traced, sources: dict[str, str]
) -> None:
    judge = scripted()
    found = ask(judge, traced, sources)
    assert found.status is Status.PASSED and found.speedup == 2.0
    assert found.correctness is not None
    assert (found.correctness.seeds, found.correctness.max_error_ratio) == ((1, 2, 3), 0.25)
    assert found.correctness.conditions["gpu"] == "scripted"
    assert found.spend.gpu_seconds > 0 and {"triton", "weights_none"} <= set(found.labels)
    again = ask(judge, traced, sources)
    assert again.speedup == 2.0 and again.spend.gpu_seconds == 0.0


def test_a_confirmation_is_reached_in_another_process_with_other_seeds(
    scripted: Callable[..., GpuJudge], traced: Traced, sources: dict[str, str], settings: JudgeSettings
) -> None:
    judge = scripted()
    ask(judge, traced, sources)
    before = judge._workers._worker
    problem = Problem(id=CASE, source=sources["relu"], origin="test")
    candidate = Candidate(problem_id=CASE, source=sources["relu_answer"], operator=Operator.DRAFT)
    found = judge.confirm(problem, candidate, traced, settings=settings)
    assert found.passed and found.spend.gpu_seconds > 0, "judged, not remembered"
    assert [(kernel.name, kernel.grid) for kernel in found.kernels] == [("relu_kernel", (7, 1, 1))]
    assert judge._workers._worker is not None and judge._workers._worker is not before
    assert ask(judge, traced, sources).spend.gpu_seconds == 0.0, "what this judge knew it still knows"


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"verify": "hang"}, Status.TIMEOUT, "did not finish"),
        ({"measure": "hang"}, Status.TIMEOUT, "did not finish"),
        ({"verify": 11}, Status.LAUNCH_ERROR, "signal 11"),
        ({"prepare": 6}, Status.LAUNCH_ERROR, "signal 6"),
        (
            {"finish": {**TIMED, "status": "wrong_values", "failure": {"error_class": "Mismatch", "message": "stale"}}},
            Status.WRONG_VALUES,
            "stale",
        ),
        (
            {"verify": {"status": "illegal_access", "failure": {"error_class": "Cuda", "message": "illegal address"},
                        "dead": True}},
            Status.ILLEGAL_ACCESS,
            "illegal address",
        ),
        ({"verify": {"late": True, "dead": True}}, Status.TIMEOUT, "1000 times PyTorch's own time"),
    ],
)  # fmt: skip
def test_what_a_candidate_does_to_the_worker_is_charged_to_it(
    scripted: Callable[..., GpuJudge],
    traced: Traced,
    sources: dict[str, str],
    changes: dict[str, object],
    status: Status,
    words: str,
) -> None:
    judge = scripted(**changes)
    found = ask(judge, traced, sources)
    assert found.status is status
    assert found.failure is not None and words in found.failure.message
    problem = Problem(id=CASE, source=sources["relu"], origin="test")
    assert judge.calibrate(problem, {}, precision="ieee").admitted  # by a worker that replaced it


@pytest.mark.parametrize(
    "changes",
    [
        {"verify": 9},  # the machine's memory ran out, or somebody killed it
        {"probe": {"healthy": False, "conditions": {}}},
        {"probe": 11},
        {"open": 11},
        {"timing_inputs": 11},
        {"baseline_probe": 11},
        {"baseline_open": 11},
        {"baseline_measure": 11},
        {"baseline_measure": {"error": "KeyError: 'eager'", "dead": True}},
        {"verify": {"error": "KeyError: 'plan'", "dead": True}},
    ],
)
def test_what_is_ours_is_raised(
    scripted: Callable[..., GpuJudge], traced: Traced, sources: dict[str, str], changes: dict[str, object]
) -> None:
    with pytest.raises(SandboxError):
        ask(scripted(**changes), traced, sources)


def test_a_problem_that_does_not_fit_is_tried_alone_before_its_author_is_told(
    scripted: Callable[..., GpuJudge], traced: Traced, sources: dict[str, str]
) -> None:
    judge = scripted(open={"inadmissible": "does not fit", "calibration": None, "out_of_memory": True})
    asked: list[object] = []
    exchange = judge._workers.exchange

    def noted(request: Mapping[str, Any], *rest: Any, **options: Any) -> dict[str, Any]:
        asked.append(request.get("alone"))
        return exchange(request, *rest, **options)

    judge._workers.exchange = noted  # type: ignore[method-assign]
    with pytest.raises(ProblemFailed, match="does not fit"):
        ask(judge, traced, sources)
    assert asked == [False, True]


def test_a_problem_that_does_not_stand_is_told_to_its_author(
    scripted: Callable[..., GpuJudge], traced: Traced, sources: dict[str, str]
) -> None:
    judge = scripted(open={"inadmissible": "the reference does not agree with itself", "calibration": None})
    with pytest.raises(ProblemFailed, match="does not agree"):
        ask(judge, traced, sources)


def test_a_time_that_cannot_be_true_is_no_record(
    scripted: Callable[..., GpuJudge], traced: Traced, sources: dict[str, str]
) -> None:
    judge = scripted(measure={**TIMED, "times_us": [4.9]})  # where 5 are needed to move the bytes
    found = ask(judge, traced, sources)
    assert found.passed and not found.timed and found.speedup == 0.0 and "not_timed" in found.labels


def test_correctness_alone_starts_no_baseline_process(
    settings: JudgeSettings, traced: Traced, sources: dict[str, str]
) -> None:
    command = [sys.executable, "-c", SCRIPT, json.dumps(ANSWERS)]
    untimed = replace(settings, timing_rounds=0)
    judge = GpuJudge(untimed, device=0, command=command, baseline_command=["/nowhere/python"])
    try:
        found = ask(judge, traced, sources)
    finally:
        judge.close()
    assert found.passed and not found.timed and "baseline" not in found.stage_seconds


def test_the_policy_is_kept_before_the_gpu_is_asked(
    scripted: Callable[..., GpuJudge], trace: Trace, sources: dict[str, str]
) -> None:
    torch_only = trace(sources["relu"], sources["relu_answer"].replace("return y", "return torch.relu(x)"))
    assert ask(scripted(probe=11), torch_only, sources).status is Status.REJECTED


def test_the_worker_sees_one_gpu_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f")
    monkeypatch.setenv("API_KEY", "secret")
    assert worker_environment("/home", device=1)["CUDA_VISIBLE_DEVICES"] == "GPU-5f"
    assert "secret" not in worker_environment("/home", device=1).values()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert worker_environment("/home", device=1)["CUDA_VISIBLE_DEVICES"] == "1"


# --- on a GPU -----------------------------------------------------------------------------------------------------

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


@pytest.mark.gpu
def test_a_right_answer_passes_and_is_timed(replay: Callable[[str, str], Verdict], sources: dict[str, str]) -> None:
    found = replay(BIG_RELU, sources["relu_answer"])
    assert found.status is Status.PASSED, found.feedback
    assert found.performance is not None
    assert 0.7 < found.speedup < 1.5  # both read and write memory once
    assert found.performance.speedup_low <= found.speedup <= found.performance.speedup_high
    assert {"gpu", "torch", "triton", "timer", "precision"} <= set(found.performance.conditions)
    assert "graph" in found.performance.conditions["timer"]


@pytest.mark.gpu
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
        (("y = torch.empty_like(x)", "y = torch.empty_like(x)\n        x = x.clone()"), Status.PASSED, None),
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


@pytest.mark.gpu
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


@pytest.mark.gpu
def test_a_broken_context_is_not_the_next_ones_fault(
    replay: Callable[[str, str], Verdict], sources: dict[str, str]
) -> None:
    broken = sources["relu_answer"].replace("x_ptr + offsets", "x_ptr + offsets.to(tl.int64) * (1 << 33)")
    assert replay(BIG_RELU, broken).status is Status.ILLEGAL_ACCESS
    after = replay(BIG_RELU, sources["relu_answer"].replace("BLOCK=1024", "BLOCK=512").replace("n, 1024", "n, 512"))
    assert after.status is Status.PASSED, after.feedback


@pytest.mark.gpu
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


@pytest.mark.gpu
def test_kernels_with_much_shared_memory_run(replay: Callable[[str, str], Verdict], tracer: Tracer) -> None:
    problem = Problem(id=CASE, source=MATMUL, origin="test")
    candidate = Candidate(problem_id=CASE, source=MATMUL_ANSWER, operator=Operator.DRAFT)
    traced = tracer.trace(problem, candidate)
    assert traced.plan is not None, traced.failure
    assert decode(traced.plan).kernels[0].shared_bytes > 48 << 10
    found = replay(MATMUL, MATMUL_ANSWER)
    assert found.status is Status.PASSED, found.feedback


@pytest.mark.gpu
def test_kernels_on_a_cluster_run(replay: Callable[[str, str], Verdict], sources: dict[str, str]) -> None:
    found = replay(BIG_RELU, sources["relu_answer"].replace("BLOCK=1024)", "BLOCK=1024, num_ctas=2)"))
    assert found.status is Status.PASSED, found.feedback


@pytest.mark.gpu
def test_atomics_that_stay_within_tolerance_are_no_fault(
    replay: Callable[[str, str], Verdict], sources: dict[str, str]
) -> None:
    problem = BIG_RELU.replace("torch.relu(x)", "x.sum(dim=0)").replace("4096, 4096", "64, 262144")
    source = sources["relu_answer"].replace(STORE, "    tl.atomic_add(y_ptr + offsets % 262144, x, mask=mask)")
    found = replay(problem, source.replace("y = torch.empty_like(x)", "y = torch.zeros(262144, device=x.device)"))
    assert found.status is Status.PASSED, found.feedback
    assert "varies_within_tolerance" in found.labels


@pytest.mark.gpu
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


@pytest.mark.gpu
def test_a_kernel_that_finds_its_last_answer_is_timed_with_its_work(replay: Callable[[str, str], Verdict]) -> None:
    """It leaves the work out where fresh memory holds the bits of its inputs: no run may find what another left."""
    programs = Path(__file__).parents[1] / "adversarial" / "programs"
    cheat = (programs / "answers_kept_for_the_next_run.py").read_text()
    honest = cheat.replace("if tl.load(tag_ptr + program) != seen:", "if seen == seen:")
    assert honest != cheat
    found = [replay(BIG_PRODUCT, source).performance for source in (honest, cheat)]
    assert found[0] is not None and found[1] is not None
    assert found[1].runtime_us > 0.7 * found[0].runtime_us

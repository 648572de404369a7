"""The judge of a GPU with a scripted worker: who is blamed for what. Needs no GPU."""

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
from sandbox.judge import ProblemShortOfMemory
from sandbox.settings import JudgeSettings
from sandbox.tracer import ProblemFailed, Traced
from sandbox.types import Candidate, Operator, Problem, Status, Verdict
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
                "num_sets": 2, "conditions": {"gpu": "scripted"}},
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
        quick = replace(settings, timing_seconds=0.1, timing_rounds=8)
        if "hang" in json.dumps(changes):
            quick = replace(quick, replay_seconds=0.5)
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


@pytest.mark.parametrize(
    ("whole", "error", "alone"), [(True, ProblemFailed, [False, True]), (False, ProblemShortOfMemory, [False, False])]
)
def test_a_problem_that_does_not_fit_is_tried_alone_before_its_author_is_told(
    scripted: Callable[..., GpuJudge], traced: Traced, sources: dict[str, str],
    whole: bool, error: type[ProblemFailed], alone: list[bool],
) -> None:  # fmt: skip
    """What is not the problem's fault beside an engine's memory is told apart, and no answer is narrowed for it."""
    judge = scripted(open={"inadmissible": "does not fit", "calibration": None, "out_of_memory": True})
    asked: list[object] = []
    exchange = judge._workers.exchange

    def noted(request: Mapping[str, Any], *rest: Any, **options: Any) -> dict[str, Any]:
        asked.append(request.get("alone"))
        return exchange(request, *rest, **options)

    judge._workers.exchange = noted  # type: ignore[method-assign]
    judge.has_whole_gpu = whole
    with pytest.raises(ProblemFailed, match="does not fit") as told:
        ask(judge, traced, sources)
    assert type(told.value) is error
    assert asked == alone


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


def test_verifying_times_nothing_and_settles_nothing(
    scripted: Callable[..., GpuJudge], traced: Traced, sources: dict[str, str]
) -> None:
    judge = scripted(timing_inputs=11, baseline_probe=11)  # either process would crash
    problem = Problem(id=CASE, source=sources["relu"], origin="test")
    candidate = Candidate(problem_id=CASE, source=sources["relu_answer"], operator=Operator.DRAFT)
    found = judge.verify(problem, candidate, traced)
    assert found.passed and not found.timed and found.correctness is not None
    with pytest.raises(SandboxError):
        ask(judge, traced, sources)  # it was not remembered as judged


def test_the_policy_is_kept_before_the_gpu_is_asked(
    scripted: Callable[..., GpuJudge], trace: Trace, sources: dict[str, str]
) -> None:
    torch_only = trace(sources["relu"], sources["relu_answer"].replace("return y", "return torch.relu(x)"))
    assert ask(scripted(probe=11), torch_only, sources).status is Status.REJECTED


def test_a_verdict_names_the_gpu_that_was_asked_and_only_then(
    scripted: Callable[..., GpuJudge], traced: Traced, trace: Trace, sources: dict[str, str]
) -> None:
    probe = {"healthy": True, "conditions": {"gpu": "scripted", "gpu_uuid": "GPU-5f"}}
    judge = scripted(probe=probe)
    assert ask(judge, traced, sources).gpu == ask(judge, traced, sources).gpu == "GPU-5f"
    assert ask(scripted(probe=probe, verify="hang"), traced, sources).gpu == "GPU-5f"
    torch_only = trace(sources["relu"], sources["relu_answer"].replace("return y", "return torch.relu(x)"))
    assert ask(judge, torch_only, sources).gpu is None


def test_a_gpus_processes_keep_what_is_switched_off_between_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"NCCL_NVLS_ENABLE": "0", "NVSHMEM_DISABLE_NVLS": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    assert kept.items() <= worker_environment("/home", device=0).items()


def test_the_worker_sees_one_gpu_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f")
    monkeypatch.setenv("API_KEY", "secret")
    assert worker_environment("/home", device=1)["CUDA_VISIBLE_DEVICES"] == "GPU-5f"
    assert "secret" not in worker_environment("/home", device=1).values()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert worker_environment("/home", device=1)["CUDA_VISIBLE_DEVICES"] == "1"

"""The wall time of one real call: taken over with its terms, or absent with the reason. What measures is scripted."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType

import pytest

from agent.call_figure import with_python_call
from sandbox.types import Candidate, Correctness, Operator, Performance, Problem, Status, Verdict
from sandbox.zygote import SandboxError
from tests.judge_settings import judge_settings

PROBLEM = Problem(id="p", source="", origin="test")
CANDIDATE = Candidate(problem_id="p", source="class ModelNew: ...", operator=Operator.DRAFT)


class PythonCallFailed(RuntimeError):
    pass


@dataclass
class Call:
    call_us: float = 44.5
    low_us: float = 44.0
    high_us: float = 47.0
    num_calls: int = 900
    eager_call_us: float = 60.25
    conditions: dict[str, str] = field(default_factory=lambda: {"clock": "wall"})


def verdict(*, timed: bool = True) -> Verdict:
    performance = Performance(
        runtime_us=10.0, baseline_us={"eager": 20.0}, against="eager", speedup=2.0, speedup_low=1.9, speedup_high=2.1,
        repetitions=3, conditions={"gpu": "scripted"},
    )  # fmt: skip
    correctness = Correctness(checked_by="replay", seeds=(1,), weights="none", max_error_ratio=0.1, rms_error_ratio=0.1)
    return Verdict(
        candidate_id=CANDIDATE.id,
        status=Status.PASSED,
        plan_hash="h",
        correctness=correctness,
        performance=performance if timed else None,
    )


def asked(monkeypatch: pytest.MonkeyPatch, *, trouble: Exception | None, timed: bool = True) -> tuple[Verdict, int]:
    calls: list[dict[str, object]] = []

    def measure_call(problem: Problem, source: str, **options: object) -> Call:
        assert (problem, source) == (PROBLEM, CANDIDATE.source)
        calls.append(options)
        if trouble is not None:
            raise trouble
        return Call()

    module = ModuleType("sandbox.python_call")
    module.measure_call = measure_call  # type: ignore[attr-defined]
    module.PythonCallFailed = PythonCallFailed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sandbox.python_call", module)
    settings = judge_settings(isolation="strict")
    found = with_python_call(verdict(timed=timed), problem=PROBLEM, candidate=CANDIDATE, settings=settings)
    assert all(options["device"] == 0 and options["isolation"] == "strict" for options in calls)
    return found, len(calls)


def test_the_figure_is_taken_over_with_what_it_was_measured_under(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = asked(monkeypatch, trouble=None)
    assert found.performance is not None
    assert found.performance.python_call_us == 44.5
    assert found.performance.conditions["gpu"] == "scripted"
    assert found.performance.conditions["python_call clock"] == "wall"
    assert "eager 60.25 us" in found.performance.conditions["python_call"]
    assert found.speedup == 2.0, "it decides nothing"


@pytest.mark.parametrize("trouble", [SandboxError("no GPU is left"), PythonCallFailed("it raised\nTypeError")])
def test_where_it_fails_there_is_a_reason_and_no_figure(monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    found, _ = asked(monkeypatch, trouble=trouble)
    assert found.performance is not None and found.passed
    assert found.performance.python_call_us is None
    assert found.performance.conditions["python_call"] == f"not measured: {' '.join(str(trouble).split())}"


def test_what_was_not_timed_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    found, num_calls = asked(monkeypatch, trouble=None, timed=False)
    assert (found, num_calls) == (verdict(timed=False), 0)

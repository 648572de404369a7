"""What the benchmark of the loop says of a ledger, of rates, and of a machine."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import pytest

from agent.events import Outcome, RunSummary
from agent.ledger import Ledger
from agent.sampler import Completion, SampleRequest
from sandbox.types import Failure, Status, Verdict
from tests.benchmarks import machine_watch
from tests.benchmarks.loop_figures import Answered, Ranked, ledger_faults, rates, speedup_table, stages
from tests.small_run import NUM_PROBLEMS, run


class Echo:
    """Answers with a program of its own for each seed."""

    async def sample(self, request: SampleRequest) -> Completion:
        text = f"class ModelNew:\n    by = {request.seed}\n"
        return Completion(text=text, finish_reason="stop", prompt_tokens=3, completion_tokens=7)

    async def close(self) -> None: ...


def faults(root: Path, summary: RunSummary) -> dict[str, int]:
    with Ledger.open_read_only(root / "ledger.sqlite") as ledger:
        return ledger_faults(ledger, summary)


def test_a_whole_run_has_no_faults_and_a_wrong_charge_is_one(tmp_path: Path) -> None:
    summary = asyncio.run(run(tmp_path, Echo()))
    assert summary.outcome is Outcome.COMPLETED
    assert set(faults(tmp_path, summary).values()) == {0}
    first, *rest = summary.searches
    twice = replace(first, spend=replace(first.spend, tokens=first.spend.tokens + 10))
    assert faults(tmp_path, replace(summary, searches=(twice, *rest)))["charged_wrongly"] == 1


def test_an_answer_that_is_gone_is_lost(tmp_path: Path) -> None:
    summary = asyncio.run(run(tmp_path, Echo()))
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger._connection.execute("PRAGMA foreign_keys = OFF")
        ledger._connection.execute("DELETE FROM sampled WHERE proposal_id = (SELECT min(proposal_id) FROM sampled)")
    found = faults(tmp_path, summary)
    assert found["lost"] == found["charged_wrongly"] >= 1
    assert found["lost"] <= NUM_PROBLEMS


def verdict(status: Status, **seconds: float) -> Verdict:
    failure = None if status is Status.PASSED else Failure(error_class="E", message="m")
    return Verdict(candidate_id="c", status=status, failure=failure, stage_seconds=seconds)


def test_rates_are_of_the_time_before_the_end() -> None:
    answers = [Answered(at=at, tokens=100) for at in (1.0, 2.0, 3.0, 9.0)]
    ranked = [Ranked(at=at, verdict=verdict(Status.TRACE_ERROR)) for at in (2.0, 4.0, 10.0)]
    found = rates(answers, ranked, begin=0.0, end=6.0)
    assert (found["samples"], found["judged"], found["passed"]) == (3, 2, 0)
    assert found["sampled_per_minute"] == pytest.approx(60.0)
    assert found["ranked_per_minute"] == pytest.approx(20.0)
    assert found["tokens_per_second"] == pytest.approx(100.0)


def test_a_stage_counts_those_that_had_it() -> None:
    found = stages(
        [verdict(Status.TRACE_ERROR, trace=1.0), verdict(Status.TRACE_ERROR, trace=3.0, time=2.0)], seconds=8
    )
    assert found["trace"] == {"count": 2, "median": 2.0, "total": 4.0, "share": 0.5}
    assert found["time"]["count"] == 1


def test_the_table_has_losses_and_what_was_not_timed() -> None:
    rows = [
        {"problem": "a", "confirmed": True, "samples": 4, "passed": 2, "statuses": "passed 2", "kernel_us": 10.0,
         "baseline_us": {"eager": 20.0, "compile": 8.0}, "against": "compile", "speedup": 0.8, "low": 0.79,
         "high": 0.81},
        {"problem": "b", "confirmed": False, "samples": 4, "passed": 0, "statuses": "wrong_values 4"},
    ]  # fmt: skip
    text = "\n".join(speedup_table(rows))
    assert "| a | 10.0 | 8.0 | 20.0 | 0.80 (0.79 to 0.81) compile | 2 of 4 |" in text
    assert "1 of 2 problems solved and timed, 1 of them confirmed." in text
    assert "Against eager: geometric mean 2.00, faster on 1 of 1" in text
    assert "Against the fastest of them: geometric mean 0.80, faster on 0 of 1" in text
    assert "Not timed: b (wrong_values 4)." in text


class Nvml(types.ModuleType):
    """One GPU, which is busy half of the time and takes 100 W."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.asked = 0

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> types.SimpleNamespace:
        self.asked += 1
        return types.SimpleNamespace(gpu=100 * (self.asked % 2))

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(used=512 << 20)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 100_000


def test_a_machine_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(machine_watch, "EVERY_SECONDS", 0.01)
    watch = machine_watch.MachineWatch(["1"])
    begin = time.monotonic()
    watch.start()
    while nvml.asked < 20:
        assert time.monotonic() - begin < 60
        time.sleep(0.01)
    watch.stop()
    found = watch.shares(begin, time.monotonic())
    assert found["gpu 1"]["busy_share"] == pytest.approx(0.5, abs=0.05)
    assert found["gpu 1"]["share_of_samples_at_zero"] == pytest.approx(0.5, abs=0.05)
    assert (found["gpu 1"]["most_memory_mib"], found["gpu 1"]["mean_power_w"]) == (512, 100)
    assert "gpu 1" not in watch.shares(begin - 2, begin - 1)


def test_the_kernel_tells_how_busy_the_cores_were() -> None:
    core = min(os.sched_getaffinity(0))
    stat = f"cpu  1 1 1 1 1 1 1 1 0 0\ncpu{core} 10 0 5 80 5 0 0 0 0 0\ncpu{core + 4096} 9 9 9 9 9 9 9 9 0 0\n"
    found = machine_watch.read_cores(stat, at=2.0)
    assert (found.busy, found.total) == (15, 100)

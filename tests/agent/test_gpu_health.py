"""When a GPU is left alone: faults in a row, by UUID, and not for one candidate's sake."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.faults import Fault, FaultKind, FaultLog, read_faults
from agent.gpu_health import MAX_FAULTS, GpuHealth


@pytest.fixture
def told() -> list[Fault]:
    return []


@pytest.fixture
def health(told: list[Fault]) -> GpuHealth:
    return GpuHealth(told.append)


def fail(health: GpuHealth, gpu: str, *subjects: str) -> None:
    for subject in subjects:
        health.failed(gpu, subject=subject, reason=f"over {subject}")


def test_faults_in_a_row_over_several_candidates_put_it_in_quarantine(health: GpuHealth, told: list[Fault]) -> None:
    fail(health, "GPU-a", "x", "y")
    fail(health, "GPU-b", "z")
    assert health.quarantined == frozenset()
    fail(health, "GPU-a", "x")
    assert health.quarantined == {"GPU-a"}
    assert told[-1] == Fault(
        kind=FaultKind.GPU_QUARANTINED, gpus=("GPU-a",), reason="3 faults in a row, the last: over x"
    )


def test_what_works_in_between_begins_the_row_anew(health: GpuHealth) -> None:
    for _ in range(3):
        fail(health, "GPU-a", "x", "y")
        health.worked("GPU-a")
    assert health.quarantined == frozenset()


def test_one_candidate_alone_is_not_enough(health: GpuHealth) -> None:
    fail(health, "GPU-a", *["x"] * (2 * MAX_FAULTS))
    assert health.quarantined == frozenset()
    fail(health, "GPU-a", "y")
    assert health.quarantined == {"GPU-a"}


def test_quarantine_is_told_once(health: GpuHealth, told: list[Fault]) -> None:
    for _ in range(2):
        health.quarantine("GPU-a", reason="given up")
    assert [fault.kind for fault in told] == [FaultKind.GPU_QUARANTINED]


def test_faults_are_read_back_and_a_line_that_is_none_is_an_error(tmp_path: Path, told: list[Fault]) -> None:
    path = tmp_path / "faults.jsonl"
    assert read_faults(path) == ()
    log = FaultLog(path, clock=lambda: 1.0)
    written = [
        Fault(kind=FaultKind.ENGINE_DIED, gpus=("GPU-a", "GPU-b"), reason="no answer"),
        Fault(kind=FaultKind.JUDGE_FAILED, gpus=(), reason="lost"),
    ]
    for fault in written:
        log.tell(fault)
    assert list(read_faults(path)) == written
    path.write_text('{"kind": "no such kind", "gpus": [], "reason": ""}\n')
    with pytest.raises(ValueError, match="a line is no fault"):
        read_faults(path)


def test_a_disk_that_takes_no_line_does_not_stop_the_run(tmp_path: Path) -> None:
    log = FaultLog(tmp_path / "no such folder" / "faults.jsonl", clock=lambda: 1.0)
    log.tell(Fault(kind=FaultKind.JUDGE_FAILED, gpus=(), reason="lost"))

"""How long one Python call takes, as the candidate's own process tells it: timed from outside, whatever it answers."""

from __future__ import annotations

import dataclasses

import pytest

from sandbox import python_call, python_caller
from sandbox.environment import gpu_usable
from sandbox.isolation import layers_for
from sandbox.python_call import Batches, PythonCallFailed, measure_call, time_calls
from sandbox.types import Problem

PROBLEM = Problem(
    id="relu",
    source="""
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)
def get_inputs():
    return [torch.rand(64, 100)]
def get_init_inputs():
    return []
""",
    origin="test",
)
SLEEPER = "import time\nimport torch\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        {deed}\n"

FORGERY = """import os
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"x" * 64)
            except OSError:
                pass
        os._exit(0)"""


def on_cpu(deed: str, *, seconds: float = 100.0) -> Batches:
    source = SLEEPER.format(deed=deed)
    return time_calls(PROBLEM, source, device="cpu", seconds=seconds, layers=layers_for("best_effort"))


def test_a_call_takes_as_long_as_it_sleeps() -> None:
    timed = on_cpu("time.sleep(0.1)")
    assert 100_000 <= min(timed.call_us) < 150_000  # on a busy machine other batches are woken late
    assert timed.num_calls > 0 and timed.num_calls & (timed.num_calls - 1) == 0


def test_the_process_and_what_it_starts_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    if "control_group" not in layers_for("best_effort"):
        pytest.skip("no control group can be made here")
    fork = "import os; [os.fork() or os._exit(0) for _ in range(40)]"
    once = "import os; self.done = hasattr(self, 'done') or [os.fork() or os._exit(0) for _ in range(40)]"
    assert on_cpu(f"{once}; self.done is True or [os.wait() for _ in range(40)]").num_calls > 0
    few = dataclasses.replace(python_caller.limits_for(100.0), num_processes=24)
    monkeypatch.setattr(python_call, "limits_for", lambda _: few)
    with pytest.raises(PythonCallFailed, match="BlockingIOError"):
        on_cpu(fork)


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("raise ValueError('a\\nb')", "ValueError: a b"),
        ("import os; os._exit(0)", "the process ended at call"),
        (FORGERY, "is not a message"),
        ("open('/etc/passwd')", "PermissionError"),
    ],
)
def test_what_a_candidate_does_instead_is_its_own_failure(deed: str, told: str) -> None:
    with pytest.raises(PythonCallFailed, match=told):
        on_cpu(deed)


def test_a_call_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_call, "_FIRST_SECONDS", 8.0)  # importing torch is among the first calls
    with pytest.raises(PythonCallFailed, match="in time"):
        on_cpu("time.sleep(60)")
    later = "self.calls = getattr(self, 'calls', 0) + 1; time.sleep(60 if self.calls > 3 else 0)"
    with pytest.raises(PythonCallFailed, match="in time"):
        on_cpu(later, seconds=0.5)


def test_first_calls_may_take_longer_than_all_that_is_timed() -> None:
    compiled = "time.sleep(0 if hasattr(self, 'done') else 3); self.done = True"
    assert max(on_cpu(compiled, seconds=2.5).call_us) < 10_000


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_usable(), reason="needs an NVIDIA GPU")
def test_a_kernel_is_called_on_the_gpu_behind_the_walls(sources: dict[str, str]) -> None:
    timed = measure_call(PROBLEM, sources["relu_answer"], device=0, seconds=120.0, isolation="best_effort")
    assert 1.0 < timed.low_us <= timed.call_us <= timed.high_us < 10_000
    assert 1.0 < timed.eager_call_us < 10_000
    assert "landlock" in timed.conditions["isolation"] and timed.conditions["gpu"]

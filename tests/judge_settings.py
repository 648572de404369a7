"""The judge settings that tests and benchmarks start from; each says what it changes.

Needs no pydantic, since a GPU machine may have none: the defaults of a run are `agent/config.py`'s.
"""

from __future__ import annotations

from sandbox.settings import JudgeSettings, Limits

# The same inputs in every run: a test that fails does so again. `tests/benchmarks/soak.py` looks for others.
SECRET = "tests"
LIMITS = Limits(
    wall_seconds=60, cpu_seconds=60, memory_bytes=16 << 30, output_bytes=64 << 20, file_bytes=64 << 20,
    num_processes=256,
)  # fmt: skip


def judge_settings(**changes: object) -> JudgeSettings:
    """Interpreting, three seeds, best-effort isolation, eager as the only baseline."""
    values: dict[str, object] = {
        "mode": "interpret", "capability": 90, "num_seeds": 3, "seed": 0, "policy": "triton", "precision": ("ieee",),
        "min_kernel_share": 0.5, "isolation": "best_effort", "trace_limits": LIMITS, "interpret_limits": LIMITS,
        "interpret_max_bytes": 64 << 20, "interpret_max_programs": 20_000, "replay_seconds": 60.0,
        "max_slowdown": 1000.0, "baselines": ("eager",), "timing_rounds": 60, "timing_seconds": 2.0,
        "timing_interval": 0.02, "racing": False, "cache_dir": None,
    }  # fmt: skip
    return JudgeSettings(**{**values, **changes})  # type: ignore[arg-type]

"""How verdicts are reached, and what a sandboxed child may use. Plain records: the defaults stand in the run
configuration.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one sandboxed child may use. Bytes and seconds."""

    wall_seconds: float
    cpu_seconds: int
    memory_bytes: int
    output_bytes: int
    file_bytes: int
    num_processes: int

    @property
    def scratch_bytes(self) -> int:
        """What a child's scratch folder holds in all: two files of the largest size."""
        return 2 * self.file_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """How verdicts are reached. Built from the run configuration, which holds the defaults.

    `mode` is "interpret" or "replay"; `isolation` "strict", "best_effort" or "off"; `policy` says what may win:
    "triton" (the output depends on a candidate kernel, and on a GPU at least `min_kernel_share` of the device time is
    in candidate kernels), or "any". `seed` is mixed with the problem's key to draw the secret input seeds.
    `precision` lists what kernels may compute in: "ieee", "tf32", "fp16_accumulate"; baselines run in the fastest of
    them. `baselines` are those of `BASELINES` that a candidate is timed against. A kernel is given `replay_seconds` at
    most, and less where `max_slowdown` times the eager reference's time is less. Timing goes on until the 95 % interval
    of the speedup is within `timing_interval` of it, relatively, or for `timing_rounds` or `timing_seconds`; with
    `racing` it also ends once the candidate cannot be its problem's best. `cache_dir` keeps compiled baselines and
    their times from one process to the next; None keeps nothing.
    """

    mode: str
    capability: int
    num_seeds: int
    seed: int
    policy: str
    precision: tuple[str, ...]
    min_kernel_share: float
    isolation: str
    trace_limits: Limits
    interpret_limits: Limits
    interpret_max_bytes: int
    interpret_max_programs: int
    replay_seconds: float
    max_slowdown: float
    baselines: tuple[str, ...]
    timing_rounds: int
    timing_seconds: float
    timing_interval: float
    racing: bool
    cache_dir: str | None

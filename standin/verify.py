"""Judges pairs without a GPU: our own tracer and interpreting judge, warm, on inputs that depend on nothing but the
problem.

The isolation of the children is at its least here, since the programs are our own.
"""

from __future__ import annotations

from multiprocessing import util
from types import TracebackType
from typing import Self

from sandbox.judge import InterpretJudge
from sandbox.settings import JudgeSettings, Limits
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Operator, Problem, Verdict, content_hash

_LIMITS = Limits(
    wall_seconds=60, cpu_seconds=60, memory_bytes=16 << 30, output_bytes=64 << 20, file_bytes=64 << 20,
    num_processes=256,
)  # fmt: skip
SETTINGS = JudgeSettings(
    mode="interpret", capability=90, num_seeds=2, seed=0, policy="triton", precision=("ieee",), min_kernel_share=0.5,
    isolation="off", trace_limits=_LIMITS, interpret_limits=_LIMITS, interpret_max_bytes=64 << 20,
    interpret_max_programs=20_000, replay_seconds=60.0, max_slowdown=1000.0, baselines=("eager",), timing_rounds=60,
    timing_seconds=2.0, timing_interval=0.02, racing=False, cache_dir=None,
)  # fmt: skip
_SECRET = "the stand-in's examples"  # none: the same pair must get the same feedback on every machine


_opened: Verifier | None = None  # a worker process's own: its pool hands it nothing from call to call


class Verifier:
    """One warm tracer and one warm judge. Use as a context manager, or call `close`."""

    def __init__(self) -> None:
        self._tracer = Tracer(SETTINGS)
        self._judge = InterpretJudge(SETTINGS, secret=_SECRET)

    def verdict(self, problem: str, source: str) -> Verdict:
        """What our judge says of `source`, for the problem in `problem`. Raises ProblemFailed where the problem itself
        cannot be judged, SandboxError where the fault is the machine's."""
        known = Problem(id=f"standin_{content_hash(problem)[:12]}", source=problem, origin="standin")
        candidate = Candidate(problem_id=known.id, source=source, operator=Operator.DRAFT)
        return self._judge.judge(known, candidate, self._tracer.trace(known, candidate))

    def close(self) -> None:
        self._tracer.close()
        self._judge.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def opened() -> Verifier:
    """This process's verifier, which is closed when the process ends."""
    global _opened
    if _opened is None:
        _opened = Verifier()
        util.Finalize(None, close_opened, exitpriority=10)  # workers of multiprocessing leave without running atexit
    return _opened


def close_opened() -> None:
    """After a fault, say: the next `opened` begins anew."""
    global _opened
    known, _opened = _opened, None
    if known is not None:
        known.close()

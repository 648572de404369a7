"""Every program under `honest/` must pass: refusing an honest kernel is as bad as being fooled.

Runs without a GPU. The first line of a program names the problem that it answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.judge import InterpretJudge
from sandbox.problems import load_problems
from sandbox.tracer import Tracer
from sandbox.types import Candidate, JudgeSettings, Limits, Operator, Status, Verdict

HERE = Path(__file__).parent
FOLDERS = (HERE / "problems", HERE.parent.parent / "configs" / "problems")
PROGRAMS = sorted((HERE / "honest").glob("*.py"))
HEADER = "# problem: "

_LIMITS = Limits(
    wall_seconds=60, cpu_seconds=60, memory_bytes=8 << 30, output_bytes=16 << 20, file_bytes=16 << 20, num_processes=64
)
_SETTINGS = JudgeSettings(
    mode="interpret", capability=90, num_seeds=3, seed=0, policy="triton", min_kernel_share=0.5,
    isolation="best_effort", trace_limits=_LIMITS, interpret_limits=dataclasses.replace(_LIMITS, wall_seconds=30),
    interpret_max_bytes=64 << 20, interpret_max_programs=20_000, replay_seconds=60.0, timing_rounds=20,
    timing_seconds=2.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def verdict() -> Iterator[Callable[[Path], Verdict]]:
    """The verdict on a program, from one warm tracer and judge for all of them."""
    judge = InterpretJudge(_SETTINGS)
    with Tracer(_SETTINGS) as tracer:

        def judged(program: Path) -> Verdict:
            source = program.read_text()
            assert source.startswith(HEADER), f"{program.name} does not name its problem"
            stem = source.splitlines()[0].removeprefix(HEADER).strip()
            (problem,) = load_problems(next(f / f"{stem}.py" for f in FOLDERS if (f / f"{stem}.py").exists()))
            candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
            return judge.judge(problem, candidate, tracer.trace(problem, candidate))

        yield judged
    judge.close()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_honest_program_passes(verdict: Callable[[Path], Verdict], program: Path) -> None:
    told = verdict(program)
    assert told.status is Status.PASSED, told.feedback
    assert told.labels[0] == "triton", told.labels

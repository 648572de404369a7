"""Every program under `honest/` must pass: refusing an honest kernel is as bad as being fooled.

Runs without a GPU. The first line of a program names the problem that it answers; a second line `# precision: tf32`
says that its run allows TF32 too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.judge import InterpretJudge
from sandbox.problems import load_problems
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Operator, Status, Verdict
from tests.judge_settings import LIMITS, judge_settings

HERE = Path(__file__).parent
FOLDERS = (HERE / "problems", HERE.parent.parent / "configs" / "problems")
PROGRAMS = sorted((HERE / "honest").glob("*.py"))
HEADER, PRECISION = "# problem: ", "# precision: "
ALLOWED = {"ieee": ("ieee",), "tf32": ("ieee", "tf32")}

_SETTINGS = judge_settings(interpret_limits=dataclasses.replace(LIMITS, wall_seconds=30))


@pytest.fixture(scope="module")
def verdict() -> Iterator[Callable[[Path], Verdict]]:
    """The verdict on a program, from one warm tracer and judge for all of them."""
    judges = {
        name: InterpretJudge(dataclasses.replace(_SETTINGS, precision=allowed)) for name, allowed in ALLOWED.items()
    }
    with Tracer(_SETTINGS) as tracer:

        def judged(program: Path) -> Verdict:
            source = program.read_text()
            assert source.startswith(HEADER), f"{program.name} does not name its problem"
            first, second, *_ = source.splitlines()
            stem = first.removeprefix(HEADER).strip()
            judge = judges[second.removeprefix(PRECISION) if second.startswith(PRECISION) else "ieee"]
            (problem,) = load_problems(next(f / f"{stem}.py" for f in FOLDERS if (f / f"{stem}.py").exists()))
            candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
            return judge.judge(problem, candidate, tracer.trace(problem, candidate))

        yield judged
    for judge in judges.values():
        judge.close()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_honest_program_passes(verdict: Callable[[Path], Verdict], program: Path) -> None:
    told = verdict(program)
    assert told.status is Status.PASSED, told.feedback
    assert told.labels[0] == "triton", told.labels

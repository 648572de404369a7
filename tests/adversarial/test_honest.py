"""Every program under `honest/` must pass: refusing an honest kernel is as bad as being fooled.

Runs without a GPU. The first line of a program names the problem that it answers; a second one may name a precision
below IEEE's that the run must allow for it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
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
HEADER = re.compile(r"# problem: (?P<problem>\S+)\n(?:# precision: (?P<precision>tf32)\n)?")

_SETTINGS = judge_settings(interpret_limits=dataclasses.replace(LIMITS, wall_seconds=30))


class Bench:
    """One warm tracer for all programs, and a warm judge for each precision that they are judged under."""

    def __init__(self) -> None:
        self.tracer = Tracer(_SETTINGS)
        self._judges: dict[tuple[str, ...], InterpretJudge] = {}

    def verdict(self, program: Path) -> Verdict:
        source = program.read_text()
        header = HEADER.match(source)
        assert header is not None, f"{program.name} does not name its problem"
        (problem,) = load_problems(next(f for f in (d / f"{header['problem']}.py" for d in FOLDERS) if f.exists()))
        candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
        precision = ("ieee",) if header["precision"] is None else ("ieee", header["precision"])
        if precision not in self._judges:
            self._judges[precision] = InterpretJudge(dataclasses.replace(_SETTINGS, precision=precision))
        return self._judges[precision].judge(problem, candidate, self.tracer.trace(problem, candidate))

    def close(self) -> None:
        self.tracer.close()
        for judge in self._judges.values():
            judge.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_honest_program_passes(bench: Bench, program: Path) -> None:
    told = bench.verdict(program)
    assert told.status is Status.PASSED, told.feedback
    assert told.labels[0] == "triton", told.labels


def test_there_are_enough_programs() -> None:
    assert len(PROGRAMS) >= 64

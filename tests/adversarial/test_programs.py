"""Every program under `programs/` must get a status that its first line names, and none may reach outside its sandbox.

Runs without a GPU: tracing and interpreting. `README.md` says what the first line means.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.judge import InterpretJudge
from sandbox.problems import load_problems
from sandbox.tracer import Tracer
from sandbox.types import Candidate, JudgeSettings, Operator, Status
from tests.judge_settings import LIMITS, judge_settings

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROGRAMS = sorted((HERE / "programs").glob("*.py"))
HEADER = re.compile(r"# expect: (?P<expect>\S+) problem: (?P<problem>\S+)(?: limits: wall=(?P<wall>\d+))? why: .+")


def settings_with(wall_seconds: float) -> JudgeSettings:
    limits = dataclasses.replace(LIMITS, wall_seconds=wall_seconds, file_bytes=16 << 20, num_processes=64)
    return judge_settings(trace_limits=limits, interpret_limits=dataclasses.replace(limits, wall_seconds=20))


class Bench:
    """One warm tracer and judge for all programs; the deadline of a program is set for it alone."""

    def __init__(self) -> None:
        self.tracer = Tracer(settings_with(60))
        self.judge = InterpretJudge(settings_with(60))

    def status(self, program: Path) -> tuple[Status, set[Status], str]:
        source = program.read_text()
        header = HEADER.match(source)
        assert header is not None, f"{program.name} has no first line in the form that README.md gives"
        folders = (HERE / "problems", ROOT / "configs" / "problems")
        path = next(f / f"{header['problem']}.py" for f in folders if (f / f"{header['problem']}.py").exists())
        (problem,) = load_problems(path)
        candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
        self.tracer.spec(problem)
        self.tracer._settings = settings_with(float(header["wall"] or 60))
        verdict = self.judge.judge(problem, candidate, self.tracer.trace(problem, candidate))
        return verdict.status, {Status(s) for s in header["expect"].split("|")}, verdict.feedback


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.tracer.close()
    bench.judge.close()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_program_gets_its_status(bench: Bench, program: Path) -> None:
    status, expected, feedback = bench.status(program)
    assert status in expected, feedback


def test_no_program_leaves_a_process_behind(bench: Bench) -> None:
    """After all of the above the warm processes have no children, and nothing of theirs was adopted by us."""
    zygote = bench.tracer._zygote
    assert zygote is not None
    assert Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text() == ""
    mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    warm = {str(z.pid) for z in (zygote, bench.judge._zygote) if z is not None}
    assert not {pid for pid in mine if "candidate" in _command(pid)} - warm


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_there_are_enough_programs() -> None:
    assert len(PROGRAMS) >= 25

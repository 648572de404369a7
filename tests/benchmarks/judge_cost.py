"""Measures what a new problem with one new candidate costs without a GPU, by stage, in milliseconds of a core.

`python tests/benchmarks/judge_cost.py [--repeats 15]` from the repository's root. Unlike `trace_cost.py` this counts
all of a sandbox call: the warm process's forks, the supervisor and its walls, and the child. `own` is the process that
traces and judges: parsing, calibrating, comparing. The clock of other processes ticks every 10 ms, so single figures
mean little and means over many do.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import sandbox.judge
import sandbox.tracer
from sandbox.judge import InterpretJudge
from sandbox.tracer import Tracer
from sandbox.types import Problem
from sandbox.zygote import ChildOutcome, Zygote
from tests.benchmarks.trace_cost import CANDIDATE, PROBLEM, candidate_of
from tests.judge_settings import judge_settings

_TICKS = os.sysconf("SC_CLK_TCK")


def core_seconds(pid: int) -> float:
    """User and system time of a process and of those below it that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


class Counted(Zygote):
    """Adds up what its calls cost, by entry."""

    seconds: dict[str, float] = {}  # noqa: RUF012  shared by all

    def run(self, entry: str, *args: Any, **kwargs: Any) -> ChildOutcome:
        before = core_seconds(self.pid)
        outcome = super().run(entry, *args, **kwargs)
        self.seconds[entry] = self.seconds.get(entry, 0.0) + core_seconds(self.pid) - before
        return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    setattr(sandbox.tracer, "Zygote", Counted)  # noqa: B010
    setattr(sandbox.judge, "Zygote", Counted)  # noqa: B010
    judge = InterpretJudge(judge_settings())
    with Tracer(judge_settings()) as tracer:
        one(tracer, judge, factor=2)  # warms up
        Counted.seconds.clear()
        start = time.process_time()
        for factor in range(3, 3 + repeats):
            one(tracer, judge, factor=factor)
        Counted.seconds["own"] = time.process_time() - start
    judge.close()
    for name, seconds in (*Counted.seconds.items(), ("all", sum(Counted.seconds.values()))):
        print(f"{name:>10}: {1e3 * seconds / repeats:6.1f} ms of a core")


def one(tracer: Tracer, judge: InterpretJudge, *, factor: int) -> None:
    """A problem and a kernel that nobody has seen."""
    small = PROBLEM.replace("1024, 1024", "64, 100")
    problem = Problem(id=f"times_{factor}", source=small.replace("* 2.0", f"* {factor}.0"), origin=__file__)
    candidate = candidate_of(problem, CANDIDATE.replace("* 2.0", f"* {factor}.0"))
    verdict = judge.judge(problem, candidate, tracer.trace(problem, candidate))
    if not verdict.passed:
        raise SystemExit(f"the candidate did not pass: {verdict.feedback}")


if __name__ == "__main__":
    main()

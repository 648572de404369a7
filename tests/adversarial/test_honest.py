"""Every program under `honest/` must pass: refusing an honest kernel is as bad as being fooled.

Runs without a GPU. The first line of a program names the problem that it answers; a second one may name a precision
below IEEE's that the run must allow for it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sandbox.judge import InterpretJudge
from sandbox.types import Status, Verdict
from tests.adversarial.layers import HERE, HONEST, Program, chosen, read_honest
from tests.adversarial.traced_ahead import TracedAhead
from tests.judge_settings import LIMITS, SECRET, judge_settings

_SETTINGS = judge_settings(interpret_limits=dataclasses.replace(LIMITS, wall_seconds=120))


class Bench:
    """One warm tracer for all programs, and a warm judge for each precision that they are judged under."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.traced = TracedAhead([read_honest(path) for path in paths], settings=lambda _: _SETTINGS)
        self._judges: dict[tuple[str, ...], InterpretJudge] = {}

    def verdict(self, program: Program) -> Verdict:
        if program.precision not in self._judges:
            settings = dataclasses.replace(_SETTINGS, precision=program.precision)
            self._judges[program.precision] = InterpretJudge(settings, secret=SECRET)
        judge = self._judges[program.precision]
        return judge.judge(program.problem, program.candidate, self.traced[program.path])

    def close(self) -> None:
        self.traced.close()
        for judge in self._judges.values():
            judge.close()


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(chosen(request))
    yield bench
    bench.close()


@pytest.mark.parametrize("path", HONEST, ids=lambda p: p.stem)
def test_honest_program_passes(bench: Bench, path: Path) -> None:
    told = bench.verdict(read_honest(path))
    assert told.status is Status.PASSED, told.feedback
    assert told.labels[0] == "triton", told.labels
    assert bench.traced[path].findings == (), "and nothing is found in its text or its launches"


def test_the_table_names_programs_that_are_there_with_their_problems() -> None:
    """The second table of README.md, which leaves out those that say themselves what they are."""
    table = HERE.joinpath("README.md").read_text().split("## Honest programs")[1]
    rows = [re.findall(r"`(\w+)`", line)[:2] for line in table.splitlines() if line.startswith("| `")]
    assert rows
    programs = {path.stem: path for path in HONEST}
    for name, problem in rows:
        assert read_honest(programs[name]).problem.id == problem


def test_there_are_enough_programs() -> None:
    assert len(HONEST) >= 64

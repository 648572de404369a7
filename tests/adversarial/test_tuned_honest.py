"""Honest programs with other numbers written into their launches: still programs, and still right.

Runs without a GPU. Each is judged at the point that is farthest from its own within two steps of every block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sandbox.judge import InterpretJudge
from sandbox.knobs import Point, Space
from sandbox.launch_knobs import OPTIONS, find_space
from sandbox.types import Operator, Status, Verdict
from tests.adversarial.layers import HONEST, Program, chosen, read_honest
from tests.adversarial.traced_ahead import TracedAhead
from tests.judge_settings import LIMITS, SECRET, judge_settings

_SETTINGS = judge_settings(interpret_limits=dataclasses.replace(LIMITS, wall_seconds=120))
# A size of the problem that the text uses like a block: the window of a pooling stands in its grid as a divisor. A
# judge refuses what comes of it, and that is all that is promised.
LOOKS_LIKE_A_BLOCK = {"pooling": ("kernel.KERNEL",)}


def spaces() -> dict[Path, Space]:
    found = {path: find_space(read_honest(path).candidate.source) for path in HONEST}
    return {path: space for path, space in found.items() if space is not None and blocks_of(path, space)}


def blocks_of(path: Path, space: Space) -> list[str]:
    sizes = LOOKS_LIKE_A_BLOCK.get(path.stem, ())
    return [k.name for k in space.knobs if k.name.rpartition(".")[2] not in OPTIONS and k.name not in sizes]


def moved(path: Path, space: Space, *, steps: int) -> Point:
    """Every block `steps` factors of two away, as far as it goes; warps and stages stay."""
    point = {}
    for knob in space.knobs:
        at = knob.values.index(knob.value) if knob.value is not None else 0
        away = min(max(at + steps, 0), len(knob.values) - 1) if knob.name in blocks_of(path, space) else at
        point[knob.name] = knob.values[away]
    return point


def rewritten(path: Path) -> list[Program]:
    """Smaller and larger blocks, where that is another text."""
    program, space = read_honest(path), spaces()[path]
    found = []
    for steps in (-1, 1):
        source = space.at(moved(path, space, steps=steps))
        if source != program.candidate.source:
            candidate = dataclasses.replace(program.candidate, source=source, operator=Operator.TUNE)
            where = path.with_name(f"{path.stem}.{'smaller' if steps < 0 else 'larger'}.py")
            found.append(dataclasses.replace(program, path=where, candidate=candidate))
    return found


TUNABLE = sorted(spaces())


class Bench:
    def __init__(self, paths: Sequence[Path]) -> None:
        self._programs = {path: rewritten(path) for path in paths}
        all_of_them = [program for programs in self._programs.values() for program in programs]
        self._traced = TracedAhead(all_of_them, settings=lambda _: _SETTINGS)
        self._judges: dict[tuple[str, ...], InterpretJudge] = {}

    def verdicts(self, path: Path) -> dict[str, Verdict]:
        return {program.path.stem: self._verdict(program) for program in self._programs[path]}

    def _verdict(self, program: Program) -> Verdict:
        if program.precision not in self._judges:
            settings = dataclasses.replace(_SETTINGS, precision=program.precision)
            self._judges[program.precision] = InterpretJudge(settings, secret=SECRET)
        judge = self._judges[program.precision]
        return judge.judge(program.problem, program.candidate, self._traced[program.path])

    def close(self) -> None:
        self._traced.close()
        for judge in self._judges.values():
            judge.close()


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(chosen(request))
    yield bench
    bench.close()


@pytest.mark.parametrize("path", TUNABLE, ids=lambda p: p.stem)
def test_other_blocks_are_still_right(bench: Bench, path: Path) -> None:
    told = bench.verdicts(path)
    assert told
    assert {name: v.feedback for name, v in told.items() if v.status is not Status.PASSED} == {}


def test_enough_of_the_corpus_has_blocks() -> None:
    assert len(TUNABLE) >= 30

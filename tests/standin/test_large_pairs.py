"""On a GPU: the answers are right at sizes that one is timed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from sandbox.judge import Calibrator, open_judge
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Operator, Problem
from standin.pairs import Pair, large, pair
from tests.judge_settings import judge_settings

OF_EACH_FAMILY = 3


def _pairs() -> list[Pair]:
    counts: Counter[str] = Counter()
    found = []
    for seed in range(400):
        made = pair(seed, split="held_out")
        counts[made.family] += 1
        if counts[made.family] <= OF_EACH_FAMILY:
            found.append(large(made))
    return found


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple[Tracer, Calibrator]]:
    settings = judge_settings(mode="replay", timing_seconds=0.2, racing=True)
    judge = open_judge(settings, device=0)
    with Tracer(settings) as tracer:
        yield tracer, judge
    judge.close()


@pytest.mark.gpu
@pytest.mark.parametrize("made", _pairs(), ids=lambda made: f"{made.family}-{made.seed}")
def test_a_large_pair_passes(parts: tuple[Tracer, Calibrator], made: Pair) -> None:
    tracer, judge = parts
    problem = Problem(id=f"standin_{made.seed}", source=made.problem, origin="test")
    candidate = Candidate(problem_id=problem.id, source=made.answer, operator=Operator.DRAFT)
    verdict = judge.judge(problem, candidate, tracer.trace(problem, candidate))
    assert verdict.passed, f"{made.style}: {verdict.feedback}\n{made.problem}\n{made.answer}"
    assert verdict.labels[0] == "triton"

"""Whose turn it is: unsolved problems first, then by weight and headroom, whatever order they are looked at in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest

from agent.allocator import Allocator, ExpectedGain, Uniform, headroom
from sandbox.types import Correctness, Performance, Status, Verdict


@dataclass(frozen=True)
class Stands:
    num_proposed: int = 0
    best: Verdict | None = None


def passed(*, runtime_us: float = 10.0, floor_us: float | None = 1.0, timed: bool = True) -> Verdict:
    performance = Performance(
        runtime_us=runtime_us,
        baseline_us={"eager": runtime_us},
        against="eager",
        speedup=1.0,
        speedup_low=1.0,
        speedup_high=1.0,
        repetitions=1,
        floor_us=floor_us,
    )
    correctness = Correctness(checked_by="replay", seeds=(1,), weights="none", max_error_ratio=0.0, rms_error_ratio=0.0)
    return Verdict(
        candidate_id="c",
        status=Status.PASSED,
        correctness=correctness,
        plan_hash="h",
        performance=performance if timed else None,
    )


def turns(allocator: Allocator, ready: dict[str, Stands], *, num: int) -> Counter[str]:
    """Of so many, with every search ready all the time."""
    given: Counter[str] = Counter()
    for _ in range(num):
        problem_id = allocator.choose(ready)
        given[problem_id] += 1
        ready[problem_id] = replace(ready[problem_id], num_proposed=ready[problem_id].num_proposed + 1)
    return given


def test_uniform_takes_the_next_in_order() -> None:
    assert Uniform().choose({"b": Stands(num_proposed=9), "a": Stands()}) == "b"


def test_unsolved_problems_go_first_however_light() -> None:
    ready = {"solved": Stands(best=passed()), "unsolved": Stands(num_proposed=100)}
    assert ExpectedGain({"solved": 1000.0, "unsolved": 0.001}).choose(ready) == "unsolved"


def test_unsolved_problems_share_turns_by_weight() -> None:
    given = turns(ExpectedGain({"a": 3.0}), {"a": Stands(), "b": Stands()}, num=40)
    assert given == {"a": 30, "b": 10}


def test_solved_problems_share_turns_by_weight_and_headroom() -> None:
    """Half of a's time is above the floor, nine tenths of b's."""
    ready = {"a": Stands(best=passed(floor_us=5.0)), "b": Stands(best=passed(floor_us=1.0))}
    assert turns(ExpectedGain({}), dict(ready), num=140) == {"a": 50, "b": 90}
    assert turns(ExpectedGain({"a": 1.8}), dict(ready), num=140) == {"a": 70, "b": 70}


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        (passed(floor_us=4.0), 0.6),
        (passed(floor_us=None), 1.0),
        (passed(timed=False), 1.0),
        (passed(floor_us=10.0), 0.05),
        (passed(floor_us=11.0), 0.05),
    ],
)
def test_headroom_is_the_time_above_the_floor(best: Verdict, expected: float) -> None:
    assert headroom(best) == pytest.approx(expected)


def test_the_order_of_looking_does_not_matter() -> None:
    """A resumed run finds its searches in another order of turns."""
    ready = {name: Stands(num_proposed=number % 3) for number, name in enumerate("edcba")}
    allocator = ExpectedGain({"c": 2.0})
    assert allocator.choose(ready) == allocator.choose(dict(reversed(ready.items())))

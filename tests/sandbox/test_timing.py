"""Medians, intervals and rounds, on times that are made up; measuring itself is tested with the judge, on a GPU."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import pytest

from sandbox.spread import MIN_VALUES, spread
from sandbox.timing import Rounds, interleave, performance_of


class Scripted:
    """A timer that answers from a list, over and over, and notes when it was asked."""

    def __init__(self, name: str, times_us: Iterable[float], log: list[str]) -> None:
        self._name, self._times, self._log = name, itertools.cycle(times_us), log

    def measure_us(self) -> float:
        self._log.append(self._name)
        return next(self._times)


def test_the_interval_of_twenty_values_is_the_sixth_and_fifteenth() -> None:
    found = spread([float(n) for n in range(1, 21)])  # ranks from the tables of the binomial distribution
    assert (found.median, found.low, found.high) == (10.5, 6.0, 15.0)


def test_the_interval_of_the_fewest_values_is_all_of_them() -> None:
    found = spread([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
    assert (found.low, found.high) == (1.0, 6.0)


def test_too_few_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match=str(MIN_VALUES)):
        spread([1.0] * (MIN_VALUES - 1))


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    draw = random.Random(0)
    held = 0
    for _ in range(2000):
        found = spread([draw.lognormvariate(0.0, 0.3) for _ in range(20)])
        held += found.low <= 1.0 <= found.high
    assert held / 2000 >= 0.95


def test_rounds_alternate_and_rotate_the_input_sets() -> None:
    log: list[str] = []
    candidates = [Scripted(f"a{i}", [10.0], log) for i in range(2)]
    baselines = [Scripted(f"b{i}", [20.0], log) for i in range(2)]
    rounds = interleave(candidates, baselines, num_rounds=8, seconds=1.0)
    assert len(rounds.candidate_us) == 8
    measured = log[-2 * 8 * rounds.replays_per_round :]
    assert measured[:4] == ["a0", "b0", "a1", "b1"]


def test_long_runs_stop_at_the_time_limit_but_never_below_the_fewest_rounds() -> None:
    log: list[str] = []
    rounds = interleave([Scripted("a", [1e7], log)], [Scripted("b", [1e7], log)], num_rounds=50, seconds=0.0)
    assert len(rounds.candidate_us) == MIN_VALUES and rounds.replays_per_round == 1


def test_the_speedup_is_the_median_of_ratios_so_that_drift_cancels() -> None:
    drift = [1.0 + 0.1 * n for n in range(10)]
    rounds = Rounds(
        candidate_us=tuple(10 * d for d in drift), baseline_us=tuple(20 * d for d in drift), replays_per_round=1
    )
    found = performance_of(rounds, conditions={"gpu": "none"})
    assert found.speedup == pytest.approx(2.0) and found.speedup_low == pytest.approx(found.speedup_high)
    assert found.runtime_us == pytest.approx(14.5) and found.repetitions == 10

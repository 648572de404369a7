"""The fits of hardness against their own likelihood on a grid, and against what was drawn."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from agent.difficulty import Fit, climb, compare_fits
from agent.difficulty_batch import fit_all
from agent.hard_or_impossible import MIN_PROBLEMS, REPLICATES, HardOrImpossible, hard_or_impossible
from agent.statistics import Draws, pass_at_k


def drawn(*, num_problems: int, num: int, alpha: float, beta: float, impossible: float, seed: int) -> list[Draws]:
    rng = random.Random(seed)
    problems = []
    for _ in range(num_problems):
        chance = 0.0 if rng.random() < impossible else rng.betavariate(alpha, beta)
        num_passed = sum(rng.random() < chance for _ in range(num))
        problems.append(Draws(num=num, num_passed=num_passed, speedups=()))
    return problems


def beta_function(a: float, b: float) -> float:
    return math.gamma(a) * math.gamma(b) / math.gamma(a + b)


def log_likelihood(problems: list[Draws], *, alpha: float, beta: float, impossible: float) -> float:
    """Written down anew, with gamma functions as they stand in the textbook."""
    total = 0.0
    for draws in problems:
        n, c = draws.num, draws.num_passed
        share = beta_function(c + alpha, n - c + beta) / beta_function(alpha, beta)
        total += math.log((1 - impossible) * share + impossible * (c == 0))
    return total


def test_no_point_of_a_grid_is_likelier_than_the_fit() -> None:
    problems = drawn(num_problems=60, num=10, alpha=1.0, beta=2.0, impossible=0.3, seed=0)
    fits = compare_fits(problems)
    best = fits.with_impossible
    assert best.log_likelihood == pytest.approx(
        log_likelihood(problems, alpha=best.alpha, beta=best.beta, impossible=best.impossible)
    )
    axis = [0.2 * 1.35**step for step in range(12)]
    for alpha in axis:
        for beta in axis:
            plain = log_likelihood(problems, alpha=alpha, beta=beta, impossible=0.0)
            assert plain <= fits.hard_only.log_likelihood + 1e-6
            for impossible in (0.1, 0.2, 0.3, 0.4):
                found = log_likelihood(problems, alpha=alpha, beta=beta, impossible=impossible)
                assert found <= best.log_likelihood + 1e-6


def test_impossible_problems_are_told_from_hard_ones() -> None:
    problems = drawn(num_problems=400, num=40, alpha=2.0, beta=4.0, impossible=0.3, seed=1)
    fits = judged(problems)
    assert fits.with_impossible.impossible == pytest.approx(0.3, abs=0.06)
    assert fits.p_value == 1 / (1 + REPLICATES)  # no replicate gained as much
    assert fits.impossible.low > 0.2
    assert fits.impossible.high < 0.4
    assert fits.pass_far.low <= 0.7 <= fits.pass_far.high


def test_hard_problems_are_not_called_impossible() -> None:
    problems = drawn(num_problems=400, num=40, alpha=0.4, beta=4.0, impossible=0.0, seed=2)
    fits = judged(problems)
    assert fits.p_value > 0.05
    assert fits.impossible.low == pytest.approx(0.0, abs=1e-3)
    assert fits.hard_only.alpha == pytest.approx(0.4, abs=0.1)


def judged(problems: list[Draws]) -> HardOrImpossible:
    found = hard_or_impossible(problems, seed=0, confidence=0.95)
    assert found is not None
    return found


def test_many_fits_at_once_are_those_of_one_by_one() -> None:
    sets = [
        drawn(num_problems=14, num=9, alpha=0.6, beta=2.0, impossible=z, seed=s) for s in range(6) for z in (0, 0.4)
    ]
    nums, counts = np.full(14, 9), np.array([[draws.num_passed for draws in problems] for problems in sets])
    plain, inflated = fit_all(nums, counts)
    for number, problems in enumerate(sets):
        alone = compare_fits(problems)
        assert plain.log_likelihood[number] == pytest.approx(alone.hard_only.log_likelihood, abs=1e-4)
        assert inflated.log_likelihood[number] == pytest.approx(alone.with_impossible.log_likelihood, abs=1e-4)
        assert inflated.impossible[number] == pytest.approx(alone.with_impossible.impossible, abs=1e-2)


def test_problems_with_different_numbers_of_answers_are_fitted_at_once_too() -> None:
    problems = [
        *drawn(num_problems=8, num=12, alpha=1.0, beta=2.0, impossible=0.3, seed=4),
        *drawn(num_problems=8, num=5, alpha=1.0, beta=2.0, impossible=0.3, seed=5),
    ]
    _, inflated = fit_all(np.array([d.num for d in problems]), np.array([[d.num_passed for d in problems]]))
    assert inflated.log_likelihood[0] == pytest.approx(compare_fits(problems).with_impossible.log_likelihood, abs=1e-4)


def test_a_p_value_of_few_problems_is_larger_than_the_law_of_many_says() -> None:
    """Eight of twelve problems never passed, the others often: the asymptotic p would be below 0.05."""
    problems = [Draws(num=15, num_passed=c, speedups=()) for c in (*[0] * 8, 3, 6, 9, 11)]
    fits = judged(problems)
    gain = fits.with_impossible.log_likelihood - fits.hard_only.log_likelihood
    assert 0.5 * math.erfc(math.sqrt(gain)) < 0.05 < fits.p_value
    assert fits.impossible.low < 0.67 < fits.impossible.high
    assert fits.hard_only.pass_at_k(1000) > fits.with_impossible.pass_at_k(1000) + 0.1


def test_the_same_answers_have_the_same_p_value() -> None:
    problems = drawn(num_problems=20, num=8, alpha=1.0, beta=2.0, impossible=0.3, seed=6)
    assert judged(problems) == judged(problems)


def test_few_problems_are_not_fitted() -> None:
    problems = drawn(num_problems=MIN_PROBLEMS - 1, num=8, alpha=1.0, beta=2.0, impossible=0.3, seed=0)
    unanswered = Draws(num=0, num_passed=0, speedups=())
    assert hard_or_impossible([*problems, unanswered], seed=0, confidence=0.95) is None


@pytest.mark.parametrize("passed", [0, 5])
def test_counts_that_say_nothing_are_no_evidence(passed: int) -> None:
    fits = judged([Draws(num=5, num_passed=passed, speedups=())] * MIN_PROBLEMS)
    assert fits.p_value == 1.0


def test_the_curve_of_a_fit_meets_the_unbiased_estimate() -> None:
    problems = drawn(num_problems=500, num=30, alpha=0.8, beta=3.0, impossible=0.2, seed=3)
    fit = compare_fits(problems).with_impossible
    for k in (1, 3, 10, 30):
        assert fit.pass_at_k(k) == pytest.approx(pass_at_k(problems, k), abs=0.02)


def test_pass_at_k_of_a_uniform_chance() -> None:
    """Under Beta(1, 1) a draw of k misses with chance 1 / (k + 1)."""
    fit = Fit(alpha=1.0, beta=1.0, impossible=0.25, log_likelihood=0.0)
    assert fit.pass_at_k(4) == pytest.approx(0.75 * 0.8)


def test_climbs_to_the_top_of_a_tilted_hill() -> None:
    x, y = climb(lambda p: -((p[0] - 3) ** 2) - 10 * (p[1] + 2 - p[0]) ** 2, start=[0.0, 0.0])
    assert x == pytest.approx(3.0, abs=1e-3)
    assert y == pytest.approx(1.0, abs=1e-3)


def test_no_answers_are_no_evidence() -> None:
    with pytest.raises(ValueError, match="no answers"):
        compare_fits([Draws(num=0, num_passed=0, speedups=())])

"""Estimators against enumeration of every subset, and what they refuse."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any, cast

import pytest

from agent.curves import Curve, Replicas
from agent.statistics import (
    Draws,
    NotIndependent,
    best_at_k,
    expected_best,
    fast_p,
    fast_p_at_k,
    geometric_means,
    pass_at_k,
    share_with_any,
)
from sandbox.types import Correctness, Failure, Operator, Status, Verdict

FAILED = Verdict(candidate_id="a", status=Status.WRONG_VALUES, failure=Failure(error_class="E", message="m"))
PASSED = Verdict(
    candidate_id="b",
    status=Status.PASSED,
    correctness=Correctness(
        checked_by="interpret", seeds=(1,), weights="none", max_error_ratio=0.0, rms_error_ratio=0.0
    ),
    plan_hash="h",
)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("num", range(1, 8))
def test_pass_at_k_is_the_share_of_all_subsets_that_hold_a_pass(num: int) -> None:
    for num_passed, k in itertools.product(range(num + 1), range(1, num + 1)):
        subsets = itertools.combinations([True] * num_passed + [False] * (num - num_passed), k)
        assert share_with_any(num, num_passed, k) == pytest.approx(mean([any(subset) for subset in subsets]))


def test_pass_at_k_does_not_overflow() -> None:
    assert share_with_any(100_000, 1, 50_000) == pytest.approx(0.5)


@pytest.mark.parametrize("num", range(1, 8))
def test_best_at_k_is_the_mean_maximum_of_all_subsets(num: int) -> None:
    rng = random.Random(num)
    values = [rng.choice([1.0, 1.0, 0.5, 2.0, rng.random()]) for _ in range(num)]
    for k in range(1, num + 1):
        maxima = [max(subset) for subset in itertools.combinations(values, k)]
        assert expected_best(values, k) == pytest.approx(mean(maxima))


def test_fast_p_at_k_counts_what_is_faster_than_p() -> None:
    draws = Draws(num=4, num_passed=3, speedups=(2.0, 1.0, 0.5))
    for p, k in itertools.product((0.0, 1.0, 1.5), (1, 2, 4)):
        subsets = itertools.combinations((2.0, 1.0, 0.5, 0.0), k)
        assert fast_p_at_k([draws], k, p=p) == pytest.approx(mean([max(subset) > p for subset in subsets]))


def test_means_are_over_problems_not_over_answers() -> None:
    problems = [Draws(num=2, num_passed=2, speedups=(3.0, 1.0)), Draws(num=8, num_passed=0, speedups=())]
    assert pass_at_k(problems, 1) == 0.5
    assert best_at_k(problems, 2) == pytest.approx((3.0 + 1.0) / 2)


@pytest.mark.parametrize("k", [0, 5])
def test_refuses_k_beyond_what_was_drawn(k: int) -> None:
    draws = Draws(num=4, num_passed=1, speedups=(1.0,))
    for estimate in (pass_at_k, best_at_k):
        with pytest.raises(ValueError, match="1 to 4"):
            estimate([draws], k)


def test_refuses_speedups_that_nobody_measured() -> None:
    draws = Draws(num=2, num_passed=2, speedups=(1.0,))
    assert pass_at_k([draws], 1) == 1.0
    with pytest.raises(ValueError, match="1 of 2 passes were not timed"):
        fast_p_at_k([draws], 1, p=1.0)


def test_a_sequential_search_has_no_pass_at_k() -> None:
    answers = [(Operator.DRAFT, FAILED), (Operator.REPAIR, PASSED)]
    with pytest.raises(NotIndependent, match="repair"):
        Draws.of(answers, stops_when_passed=False)
    with pytest.raises(NotIndependent, match="first pass"):
        Draws.of(answers[:1], stops_when_passed=True)
    replicas = Replicas(curves={"a": (Curve(spent=(1.0,), best=(1.0,)),)})
    with pytest.raises(NotIndependent, match="Replicas"):
        pass_at_k(cast(Any, [replicas]), 1)


def test_drafts_are_independent() -> None:
    draws = Draws.of([(Operator.DRAFT, FAILED), (Operator.DRAFT, PASSED)], stops_when_passed=False)
    assert (draws.num, draws.num_passed, draws.speedups) == (2, 1, ())


def test_geometric_means_over_all_and_over_solved() -> None:
    means = geometric_means({"a": 4.0, "b": 0.5, "c": None})
    assert means.over_all == pytest.approx(2.0 ** (1 / 3))
    assert means.over_solved == pytest.approx(math.sqrt(2.0))
    assert (means.num, means.num_solved) == (3, 2)
    assert geometric_means({"a": None}).over_solved is None


def test_fast_p_of_results_is_strict() -> None:
    best = {"a": 1.0, "b": 1.2, "c": None, "d": 3.0}
    assert [fast_p(best, p=p) for p in (0.0, 1.0, 1.2, 2.0)] == [0.75, 0.5, 0.25, 0.25]

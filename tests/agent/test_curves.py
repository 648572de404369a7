"""Best-so-far curves, their areas, and intervals over problems."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from agent.curves import Curve, Replicas, coverage
from agent.resampling import bootstrap_mean, bootstrap_means, paired_difference

CURVE = Curve(spent=(10.0, 20.0, 30.0, 50.0), best=(0.0, 2.0, 2.0, 4.0))
SETTINGS = {"seed": 0, "resamples": 2000, "confidence": 0.95}


def test_the_best_within_a_limit() -> None:
    assert [CURVE.best_at(limit) for limit in (5, 19, 20, 49, 50, 99)] == [0.0, 0.0, 2.0, 2.0, 4.0, 4.0]


def test_the_area_is_the_mean_of_the_step_curve() -> None:
    by_hand = (30 * math.log(2) + 50 * math.log(4)) / 100
    assert CURVE.area(100.0) == pytest.approx(by_hand)
    points = np.linspace(0.0, 100.0, 10_001)[:-1]
    assert CURVE.area(100.0) == pytest.approx(np.mean([math.log(max(CURVE.best_at(x), 1.0)) for x in points]), abs=1e-3)
    assert CURVE.area(15.0) == 0.0


def test_the_same_kernel_found_earlier_has_the_larger_area() -> None:
    early = Curve(spent=(10.0,), best=(2.0,))
    late = Curve(spent=(40.0,), best=(2.0,))
    assert early.area(50.0) > late.area(50.0) > 0.0


@pytest.mark.parametrize(("spent", "best"), [((2.0, 1.0), (0.0, 1.0)), ((1.0, 2.0), (2.0, 1.0)), ((1.0,), ())])
def test_refuses_what_is_no_best_so_far_curve(spent: tuple[float, ...], best: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"curve|never fall"):
        Curve(spent=spent, best=best)


def test_a_bootstrap_interval_is_that_of_all_resamples() -> None:
    """Three problems have 27 equally likely resamples; the drawn ones must have their quantiles."""
    values = [0.0, 1.0, 5.0]
    means = sorted(sum(resample) / 3 for resample in itertools.product(values, repeat=3))
    found = bootstrap_mean(np.array(values), seed=1, resamples=20_000, confidence=0.8)
    assert found.value == 2.0
    assert found.low == pytest.approx(np.quantile(means, 0.1), abs=0.01)
    assert found.high == pytest.approx(np.quantile(means, 0.9), abs=0.01)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for number in range(200):
        interval = bootstrap_mean(rng.exponential(size=60), seed=number, resamples=300, confidence=0.9)
        hits += interval.low <= 1.0 <= interval.high
    assert 0.82 <= hits / 200 <= 0.97


def test_pairing_takes_out_what_problems_differ_by() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=50)
    arm = {f"p{i}": float(x) + 0.1 for i, x in enumerate(hardness)}
    other = {f"p{i}": float(x) for i, x in enumerate(hardness)}
    difference = paired_difference(arm, against=other, seed=0, resamples=500, confidence=0.95)
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)
    assert difference.excludes_zero


def test_arms_on_different_problems_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="2 problems, a among them"):
        paired_difference({"a": 1.0}, against={"b": 1.0}, seed=0, resamples=10, confidence=0.95)


def test_coverage_averages_replicas_then_problems() -> None:
    solved, never = Curve(spent=(1.0, 2.0), best=(0.0, 1.5)), Curve(spent=(1.0, 2.0), best=(0.0, 0.0))
    replicas = Replicas(curves={"a": (solved, never), "b": (solved, solved), "c": (never, never), "d": (never,)})
    first, second = coverage(replicas, limits=[1.0, 2.0], seed=0, resamples=500, confidence=0.95)
    assert (first.value, first.low, first.high) == (0.0, 0.0, 0.0)
    assert second.value == pytest.approx((0.5 + 1.0) / 4)
    assert 0.0 <= second.low < second.value < second.high <= 1.0
    assert replicas.faster(2.0, p=1.5)["b"] == 0.0
    assert replicas.log_speedup(2.0)["a"] == pytest.approx(math.log(1.5) / 2)
    assert replicas.areas(4.0)["b"] == pytest.approx(math.log(1.5) / 2)


def test_no_interval_from_nothing() -> None:
    for values in (np.zeros((0, 1)), np.array([[math.nan]])):
        with pytest.raises(ValueError, match="bootstrap"):
            bootstrap_means(values, seed=0, resamples=10, confidence=0.95)

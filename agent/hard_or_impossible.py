"""Whether hardness alone explains the problems that nothing passed on, judged by parametric bootstrap.

The likelihood ratio of the two fits has no simple law with few problems: by the asymptotic one (Self and Liang 1987)
some are called impossible up to twice as often as it says. So counts are drawn from the fitted models, as many problems
with as many answers, and fitted again (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sections 6.5 and
16.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.difficulty import Fit, compare_fits
from agent.difficulty_batch import Fits, Whole, fit_all
from agent.resampling import Interval
from agent.statistics import Draws

MIN_PROBLEMS = 10  # with fewer, the two models cannot be told apart, and their parameters are anything
FAR = 1000  # the k of what the models say far beyond the answers that were drawn
REPLICATES = 300
NO_GAIN = 1e-6  # in log-likelihood: less is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class HardOrImpossible:
    """Both fits. `p_value` is of no impossible problems; the intervals are of the second model."""

    hard_only: Fit
    with_impossible: Fit
    p_value: float
    impossible: Interval
    pass_far: Interval


def hard_or_impossible(problems: Sequence[Draws], *, seed: int, confidence: float) -> HardOrImpossible | None:
    """None with fewer than `MIN_PROBLEMS` that have answers. Raises NotIndependent."""
    counted = [draws for draws in problems if draws.num]
    if len(counted) < MIN_PROBLEMS:
        return None
    fits = compare_fits(problems)
    rng = np.random.default_rng(seed)
    nums = np.array([draws.num for draws in counted])
    observed = _gains(*fit_all(nums, np.array([[draws.num_passed for draws in counted]])))[0]
    if observed > NO_GAIN:
        drawn = _gains(*fit_all(nums, _counts_of(fits.hard_only, nums=nums, rng=rng)))
        p_value = float((1 + np.sum(drawn >= observed)) / (1 + REPLICATES))
    else:
        p_value = 1.0
    _, again = fit_all(nums, _counts_of(fits.with_impossible, nums=nums, rng=rng))
    far = [_fit(again, number).pass_at_k(FAR) for number in range(REPLICATES)]
    best = fits.with_impossible
    return HardOrImpossible(
        hard_only=fits.hard_only,
        with_impossible=best,
        p_value=p_value,
        impossible=_percentiles(best.impossible, again.impossible.tolist(), confidence=confidence),
        pass_far=_percentiles(best.pass_at_k(FAR), far, confidence=confidence),
    )


def _gains(plain: Fits, inflated: Fits) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(inflated.log_likelihood - plain.log_likelihood)


def _counts_of(fit: Fit, *, nums: Whole, rng: np.random.Generator) -> Whole:
    """Replicates × problems."""
    shape = (REPLICATES, len(nums))
    chances = np.where(rng.random(shape) < fit.impossible, 0.0, rng.beta(fit.alpha, fit.beta, size=shape))
    return np.asarray(rng.binomial(nums, chances))


def _fit(fits: Fits, number: int) -> Fit:
    return Fit(
        alpha=float(fits.alpha[number]),
        beta=float(fits.beta[number]),
        impossible=float(fits.impossible[number]),
        log_likelihood=float(fits.log_likelihood[number]),
    )


def _percentiles(value: float, drawn: Sequence[float], *, confidence: float) -> Interval:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value), confidence=confidence)

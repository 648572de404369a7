"""Intervals by resampling problems, and differences between arms on the same problems.

Knows nothing of what was measured. Problems are what varies: a figure over problems is as sure as they are many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHUNK = 4_000_000  # figures drawn at once
EXACT_PAIRS = 16  # 65,536 assignments of signs


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its bounds at `confidence`."""

    value: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0.0 or self.high < 0.0

    def mapped(self, function: np.ufunc) -> Interval:
        """Through an increasing function, such as exp for means of logarithms."""
        value, low, high = (float(function(x)) for x in (self.value, self.low, self.high))
        return Interval(value=value, low=low, high=high, confidence=self.confidence)


def bootstrap_means(values: Floats, *, seed: int, resamples: int, confidence: float) -> list[Interval]:
    """The mean of each column of `values` (problems × columns) with its percentile interval over problems.

    Every column sees the same resampled problems, so that a curve's points move together (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13). Raises ValueError without problems or on a figure not finite.
    """
    if values.ndim != 2 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError("a bootstrap needs one row of finite figures a problem, and one problem at least")
    rng = np.random.default_rng(seed)
    num = len(values)
    batch = max(1, CHUNK // num)
    means: list[Floats] = []
    for start in range(0, resamples, batch):
        counts = rng.multinomial(num, np.full(num, 1.0 / num), size=min(batch, resamples - start))
        means.append(counts @ values / num)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail], axis=0)
    centre = values.mean(axis=0)
    return [
        Interval(value=float(c), low=float(min(lo, c)), high=float(max(hi, c)), confidence=confidence)
        for c, lo, hi in zip(centre, low, high, strict=True)
    ]


def bootstrap_mean(values: Floats, *, seed: int, resamples: int, confidence: float) -> Interval:
    """Of one figure a problem. Raises ValueError as `bootstrap_means`."""
    return bootstrap_means(values[:, None], seed=seed, resamples=resamples, confidence=confidence)[0]


def sign_flip_p_value(differences: Sequence[float], *, seed: int, resamples: int) -> float:
    """How often the mean of paired differences is at least as far from 0 as it is, if each may as well have come out
    the other way round: Fisher's randomization test for pairs (The Design of Experiments, 1935, section 21), two-sided.

    Exact, over all assignments of signs, for up to `EXACT_PAIRS` differences that are not 0; else from `resamples`
    drawn ones, counting the observed one among them. Unlike a bootstrap interval it holds for few problems. Raises
    ValueError without differences.
    """
    if not differences:
        raise ValueError("a test of differences needs one at least")
    found = np.array([d for d in differences if d != 0.0], dtype=np.float64)
    observed = abs(float(found.sum()))
    if len(found) <= EXACT_PAIRS:
        sums = np.zeros(1)
        for difference in found:
            sums = np.concatenate([sums + difference, sums - difference])
        return float(np.mean(np.abs(sums) >= observed * (1 - 1e-9)))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, len(found)))
    hits = int(np.sum(np.abs(signs @ found) >= observed * (1 - 1e-9)))
    return (hits + 1) / (resamples + 1)


def paired_difference(
    arm: Mapping[str, float], *, against: Mapping[str, float], seed: int, resamples: int, confidence: float
) -> Interval:
    """The mean over problems of arm - against, each problem with itself.

    What problems differ by drops out, so the interval is narrower than those of the arms suggest. Raises ValueError if
    the two were not run on the same problems.
    """
    if set(arm) != set(against):
        odd = sorted(set(arm) ^ set(against))
        raise ValueError(f"the arms differ in {len(odd)} problems, {odd[0]} among them: they cannot be paired")
    differences = np.array([arm[problem] - against[problem] for problem in sorted(arm)], dtype=np.float64)
    return bootstrap_mean(differences, seed=seed, resamples=resamples, confidence=confidence)

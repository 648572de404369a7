"""The likelihoods of `agent.difficulty` for many sets of counts at once, and where each is largest.

What a bootstrap needs: hundreds of fits in a second. Knows nothing of what the fits are for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.difficulty import LOG_PRECISION_BOUNDS, LOGIT_BOUND

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

DIFFERENCE = 1e-2  # of logits and of the logarithm of the precision, as the following
LONGEST_STEP = 2.0
SMALLEST_GAIN = 1e-6  # in log-likelihood, foreseen of a step
ROUNDS = 60
STARTS = (-6.0, -1.0, 1.0)  # logits of the share of impossible problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """Of each set: alpha, beta and share of impossible problems where the likelihood is largest, and its logarithm."""

    alpha: Floats
    beta: Floats
    impossible: Floats
    log_likelihood: Floats


def fit_all(nums: Whole, passed: Whole) -> tuple[Fits, Fits]:
    """Of problems that had `nums` answers each, of which `passed` (sets × problems) passed: without impossible ones and
    with. The second is never less likely than the first."""
    counts = _Counts.of(nums, passed)
    shares = (passed.sum(axis=1) + 0.5) / (nums.sum() + 1.0)
    start = np.stack([np.log(shares / (1.0 - shares)), np.full(len(passed), 0.5)], axis=1)
    point, likelihood = _climb(counts, start)
    plain = _fits(point, likelihood, impossible=np.zeros(len(passed)))
    best_point, best = np.column_stack([point, np.full(len(point), -np.inf)]), likelihood
    for logit in STARTS:
        found, likelihood = _climb(counts, np.column_stack([point, np.full(len(point), logit)]))
        better = likelihood > best
        best_point, best = np.where(better[:, None], found, best_point), np.maximum(best, likelihood)
    share = np.where(np.isneginf(best_point[:, 2]), 0.0, _share(best_point[:, 2]))
    return plain, _fits(best_point, best, impossible=share)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """How often each factor of the likelihoods occurs, by set: B(c + a, n - c + b) / B(a, b) is the product of a + i
    below c and b + i below n - c, divided by that of a + b + i below n. `zeros` are the problems without a pass, by
    their `zero_nums` of answers; the rest counts the others."""

    passes: Floats
    failures: Floats
    answers: Floats
    num_solved: Floats
    zeros: Floats
    zero_nums: Whole

    @classmethod
    def of(cls, nums: Whole, passed: Whole) -> _Counts:
        below = np.arange(nums.max())
        solved = passed > 0
        zero_nums = np.unique(nums)
        return cls(
            passes=_occurrences(passed, solved, below),
            failures=_occurrences(nums - passed, solved, below),
            answers=_occurrences(np.broadcast_to(nums, passed.shape), solved, below),
            num_solved=solved.sum(axis=1).astype(np.float64),
            zeros=np.stack([(~solved & (nums == num)).sum(axis=1) for num in zero_nums], axis=1).astype(np.float64),
            zero_nums=zero_nums,
        )

    def some(self, which: NDArray[np.intp]) -> _Counts:
        return _Counts(
            passes=self.passes[which], failures=self.failures[which], answers=self.answers[which],
            num_solved=self.num_solved[which], zeros=self.zeros[which], zero_nums=self.zero_nums,
        )  # fmt: skip

    def log_likelihood(self, alpha: Floats, beta: Floats, impossible: Floats) -> Floats:
        """`alpha` and `beta` are sets × points, `impossible` sets × shares; the result is sets × points × shares."""
        i = np.arange(self.passes.shape[1])
        of_beta, of_both = np.log(beta[..., None] + i), np.log((alpha + beta)[..., None] + i)
        possible = (
            np.einsum("rgi,ri->rg", np.log(alpha[..., None] + i), self.passes)
            + np.einsum("rgi,ri->rg", of_beta, self.failures)
            - np.einsum("rgi,ri->rg", of_both, self.answers)
        )
        missed = np.cumsum(of_beta - of_both, axis=-1)[..., self.zero_nums - 1][:, :, None, :]
        share = impossible[:, None, :, None]
        with np.errstate(divide="ignore"):  # of no impossible ones the logarithm is minus infinity, and adds nothing
            explained = np.logaddexp(np.log(share), np.log1p(-share) + missed)
        of_zeros = (explained * self.zeros[:, None, None, :]).sum(axis=-1)
        of_solved = self.num_solved[:, None] * np.log1p(-impossible)
        return np.asarray(possible[:, :, None] + of_solved[:, None, :] + of_zeros)


def _occurrences(counts: Whole, solved: NDArray[np.bool_], below: Whole) -> Floats:
    """Sets × i: how many of the solved problems have a count above i."""
    return np.stack([((counts > i) & solved).sum(axis=1) for i in below], axis=1).astype(np.float64)


def _climb(counts: _Counts, start: Floats) -> tuple[Floats, Floats]:
    """Damped Newton steps, uphill also where the likelihood is not concave: its slopes and curvatures are read off
    small differences. Points are logit of the mean, logarithm of the precision and, in the second model, logit of the
    share of impossible ones."""
    num, size = start.shape
    point, trial, best = start.copy(), start.copy(), np.full(num, -np.inf)
    slope, bend, damping = np.zeros((num, size)), np.zeros((num, size, size)), np.full(num, 1e-2)
    going = np.arange(num)
    for _ in range(ROUNDS):
        values = _around(counts.some(going), trial[going])
        centre = values[(slice(None), *(1,) * size)]
        better = centre > best[going]
        moved = going[better]
        point[moved], best[moved] = trial[moved], centre[better]
        slope[moved], bend[moved] = _derivatives(values[better], size=size)
        damping[going] *= np.where(better, 0.25, 8.0)
        steepness, axes = np.linalg.eigh(bend[going])
        along = np.einsum("rij,ri->rj", axes, slope[going]) / (np.abs(steepness) + damping[going, None])
        step = np.clip(np.einsum("rij,rj->ri", axes, along), -LONGEST_STEP, LONGEST_STEP)
        trial[going] = point[going] + step
        going = going[(step * slope[going]).sum(axis=1) > SMALLEST_GAIN]
        if not len(going):
            break
    return point, best


def _around(counts: _Counts, points: Floats) -> Floats:
    """The likelihood at each point and a little to either side in every direction: points × 3 × 3 (× 3)."""
    near = DIFFERENCE * np.array([-1.0, 0.0, 1.0])
    first, second = (axis.ravel() for axis in np.meshgrid(near, near, indexing="ij"))
    alpha, beta = _alpha_beta(points[:, :1] + first, points[:, 1:2] + second)
    if points.shape[1] == 2:
        return counts.log_likelihood(alpha, beta, np.zeros((len(points), 1))).reshape(-1, 3, 3)
    return counts.log_likelihood(alpha, beta, _share(points[:, 2:] + near)).reshape(-1, 3, 3, 3)


def _derivatives(values: Floats, *, size: int) -> tuple[Floats, Floats]:
    """Gradient and matrix of second derivatives, by central differences."""

    def at(offsets: Whole) -> Floats:
        return np.asarray(values[(slice(None), *(1 + offsets).tolist())])

    units = np.eye(size, dtype=np.int64)
    slope, bend = np.empty((len(values), size)), np.empty((len(values), size, size))
    for i, one in enumerate(units):
        slope[:, i] = (at(one) - at(-one)) / (2 * DIFFERENCE)
        bend[:, i, i] = (at(one) - 2 * at(0 * one) + at(-one)) / DIFFERENCE**2
        for j in range(i):
            other = units[j]
            mixed = at(one + other) - at(one - other) - at(other - one) + at(-one - other)
            bend[:, i, j] = bend[:, j, i] = mixed / (4 * DIFFERENCE**2)
    return slope, bend


def _fits(point: Floats, likelihood: Floats, *, impossible: Floats) -> Fits:
    alpha, beta = _alpha_beta(point[:, 0], point[:, 1])
    return Fits(alpha=alpha, beta=beta, impossible=impossible, log_likelihood=likelihood)


def _alpha_beta(logit_mean: Floats, log_precision: Floats) -> tuple[Floats, Floats]:
    mean, precision = _share(logit_mean), np.exp(np.clip(log_precision, *LOG_PRECISION_BOUNDS))
    return mean * precision, (1.0 - mean) * precision


def _share(logit: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -LOGIT_BOUND, LOGIT_BOUND))))

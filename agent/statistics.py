"""Estimators over independent answers and over the results of problems: pass@k, fast_p, best@k, geometric means.

Knows nothing of runs, files or intervals (`agent.resampling`). What a sequential search gave is no set of independent
answers: it has curves (`agent.curves`) and is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sandbox.types import Operator, Verdict

FAST_P_LEVELS = (1.0, 1.2, 1.5, 2.0)


class NotIndependent(TypeError):
    """These answers were chosen by what came before them, so an estimator over independent answers says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Independent answers to one problem, all that were drawn: `num`, of which `num_passed` passed.

    `speedups` are those of the passes that were timed, in no order. Raises ValueError if they cannot be.
    """

    num: int
    num_passed: int
    speedups: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 <= len(self.speedups) <= self.num_passed <= self.num or any(s <= 0 for s in self.speedups):
            raise ValueError(
                f"{self.num} answers, {self.num_passed} passed, {len(self.speedups)} speedups: these do not fit"
            )

    @classmethod
    def of(cls, answers: Iterable[tuple[Operator, Verdict]], *, stops_when_passed: bool) -> Draws:
        """Raises NotIndependent if an answer is no draft, or if their number depends on what passed."""
        if stops_when_passed:
            raise NotIndependent("a search that stops at the first pass has drawn as often as its luck was bad")
        operators, verdicts = [], []
        for operator, verdict in answers:
            operators.append(operator)
            verdicts.append(verdict)
        if others := sorted({operator for operator in operators if operator is not Operator.DRAFT}):
            raise NotIndependent(f"answers of {', '.join(others)} depend on those before; they have replica curves")
        return cls(
            num=len(verdicts),
            num_passed=sum(verdict.passed for verdict in verdicts),
            speedups=tuple(verdict.speedup for verdict in verdicts if verdict.timed),
        )

    def num_faster(self, p: float) -> int:
        """How many passed with a speedup above `p`. Raises ValueError if a pass was not timed."""
        self._check_timed()
        return sum(speedup > p for speedup in self.speedups)

    def values(self) -> tuple[float, ...]:
        """Every answer's speedup, 1 for those that failed: PyTorch stands in. Raises ValueError as `num_faster`."""
        self._check_timed()
        return self.speedups + (1.0,) * (self.num - self.num_passed)

    def _check_timed(self) -> None:
        if len(self.speedups) != self.num_passed:
            raise ValueError(f"{self.num_passed - len(self.speedups)} of {self.num_passed} passes were not timed")


def share_with_any(num: int, num_good: int, k: int) -> float:
    """The chance that k answers drawn from `num` without replacement hold one of the `num_good`.

    1 - C(n - c, k) / C(n, k), as the product of 1 - k / i over i from n - c + 1 to n, which does not overflow (Chen et
    al. 2021, arXiv:2107.03374, the unbiased estimator of pass@k). Raises ValueError if k > n: there is no estimate.
    """
    if not 1 <= k <= num:
        raise ValueError(f"pass@{k} cannot be estimated from {num} answers: k must be 1 to {num}")
    if num - num_good < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(num - num_good + 1, num + 1))


def pass_at_k(problems: Sequence[Draws], k: int) -> float:
    """The mean over problems of the chance that one of k answers passes. Raises ValueError, NotIndependent."""
    return _mean([share_with_any(draws.num, draws.num_passed, k) for draws in _independent(problems)])


def fast_p_at_k(problems: Sequence[Draws], k: int, *, p: float) -> float:
    """The mean over problems of the chance that one of k answers passes with a speedup above `p`.

    fast_p of KernelBench (Ouyang et al. 2025, arXiv:2502.10517) with the estimator of pass@k; k = 1 is fast_p of one
    answer. Raises ValueError, NotIndependent.
    """
    return _mean([share_with_any(draws.num, draws.num_faster(p), k) for draws in _independent(problems)])


def fast_p(best: Mapping[str, float | None], *, p: float) -> float:
    """The share of problems whose best speedup is above `p`; None is unsolved. KernelBench's fast_p of one result each.

    Raises ValueError without problems.
    """
    return _mean([float(speedup is not None and speedup > p) for speedup in best.values()])


def expected_best(values: Sequence[float], k: int) -> float:
    """The expected maximum of k of `values` drawn without replacement, exactly: best@k.

    With x_(1) <= ... <= x_(n): the sum of x_(j) C(j - 1, k - 1) / C(n, k), as x_(j) is the largest when the other
    k - 1 come from the j - 1 below it (David and Nagaraja, Order Statistics, 2003). Raises ValueError if k > n.
    """
    num = len(values)
    if not 1 <= k <= num:
        raise ValueError(f"best@{k} cannot be estimated from {num} answers: k must be 1 to {num}")
    weight, total = k / num, 0.0  # of the largest: C(n - 1, k - 1) / C(n, k)
    for rank, value in zip(range(num, k - 1, -1), sorted(values, reverse=True), strict=False):
        total += weight * value
        weight *= (rank - k) / (rank - 1) if rank > 1 else 0.0  # C(j - 2, k - 1) / C(j - 1, k - 1)
    return total


def best_at_k(problems: Sequence[Draws], k: int) -> float:
    """The mean over problems of the expected best speedup of k answers, 1 for a failed one.

    Raises ValueError, NotIndependent.
    """
    return _mean([expected_best(draws.values(), k) for draws in _independent(problems)])


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometricMeans:
    """Of the best speedups: over `num` problems with 1 for the unsolved, and over the `num_solved` alone (None without
    any). The second rises when hard problems are left unsolved, so it never stands alone."""

    over_all: float
    over_solved: float | None
    num: int
    num_solved: int


def geometric_means(best: Mapping[str, float | None]) -> GeometricMeans:
    """exp of the mean logarithm; None is unsolved. Raises ValueError without problems."""
    solved = [math.log(speedup) for speedup in best.values() if speedup is not None]
    return GeometricMeans(
        over_all=math.exp(_mean([*solved, *[0.0] * (len(best) - len(solved))])),
        over_solved=math.exp(_mean(solved)) if solved else None,
        num=len(best),
        num_solved=len(solved),
    )


def _independent(problems: Sequence[Draws]) -> Sequence[Draws]:
    for draws in problems:
        if not isinstance(draws, Draws):
            raise NotIndependent(f"{type(draws).__name__} holds no independent answers; it has replica curves")
    return problems


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("there is no problem to take a mean over")
    return math.fsum(values) / len(values)

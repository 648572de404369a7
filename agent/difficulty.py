"""How hard problems are, from how many of their independent answers passed: a beta-binomial, with and without zeros.

Knows nothing of where the counts come from. Problems that nothing passed on may be hard or impossible; the share of
the impossible is what the second model adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.statistics import Draws, NotIndependent

# Beyond these the data say no more than "very": the likelihood is flat there.
LOGIT_BOUND = 12.0
LOG_PRECISION_BOUNDS = (-4.0, 8.0)
STEPS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A problem is impossible with chance `impossible`; else each answer passes with chance Beta(alpha, beta)."""

    alpha: float
    beta: float
    impossible: float
    log_likelihood: float

    def pass_at_k(self, k: float) -> float:
        """(1 - impossible) (1 - B(alpha, beta + k) / B(alpha, beta)): for any k, also beyond what was drawn.

        The expectation of 1 - (1 - p) ** k under the prior (Kazdan et al. 2025, arXiv:2510.05197).
        """
        missed = math.exp(_log_beta(self.alpha, self.beta + k) - _log_beta(self.alpha, self.beta))
        return (1.0 - self.impossible) * (1.0 - missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both fits. Which of them the counts speak for is said by `agent.hard_or_impossible`."""

    hard_only: Fit
    with_impossible: Fit


def compare_fits(problems: Sequence[Draws]) -> Comparison:
    """Maximum likelihood fits of both models. Raises ValueError without answers, NotIndependent."""
    if any(not isinstance(draws, Draws) for draws in problems):
        raise NotIndependent("only independent answers tell how hard a problem is")
    counts = [(draws.num, draws.num_passed) for draws in problems if draws.num]
    if not counts:
        raise ValueError("there are no answers to fit")
    passed, num = sum(c for _, c in counts), sum(n for n, _ in counts)
    start = _logit((passed + 0.5) / (num + 1.0))

    def hard_only(point: Sequence[float]) -> float:
        return _log_likelihood(counts, *_alpha_beta(point[0], point[1]), impossible=0.0)

    def with_impossible(point: Sequence[float]) -> float:
        return _log_likelihood(counts, *_alpha_beta(point[0], point[1]), impossible=_share(point[2]))

    plain = climb(hard_only, start=[start, 0.5])
    inflated = max((climb(with_impossible, start=[*plain, logit]) for logit in (-6.0, -1.0, 1.0)), key=with_impossible)
    alpha, beta = _alpha_beta(*plain)
    first = Fit(alpha=alpha, beta=beta, impossible=0.0, log_likelihood=hard_only(plain))
    if with_impossible(inflated) <= first.log_likelihood:
        return Comparison(hard_only=first, with_impossible=first)
    alpha, beta = _alpha_beta(*inflated[:2])
    second = Fit(alpha=alpha, beta=beta, impossible=_share(inflated[2]), log_likelihood=with_impossible(inflated))
    return Comparison(hard_only=first, with_impossible=second)


def climb(function: Callable[[Sequence[float]], float], *, start: Sequence[float]) -> list[float]:
    """A point where `function` is largest nearby: Nelder and Mead's simplex (1965), for few smooth dimensions.

    Deterministic; ends when the simplex is flat and small, or after STEPS.
    """
    simplex = [list(start)] + [[x + (i == j) * 1.0 for j, x in enumerate(start)] for i in range(len(start))]
    scored = sorted(((function(point), point) for point in simplex), key=lambda pair: -pair[0])
    for _ in range(STEPS):
        centre = [math.fsum(column) / (len(scored) - 1) for column in zip(*(p for _, p in scored[:-1]), strict=True)]
        worst, far = scored[-1]
        if scored[0][0] - worst < 1e-10 and max(abs(a - b) for a, b in zip(scored[0][1], far, strict=True)) < 1e-6:
            break
        reflected = _tried(function, centre, far, scale=-1.0)
        if reflected[0] > scored[0][0]:
            reflected = max(reflected, _tried(function, centre, far, scale=-2.0))
        elif reflected[0] <= scored[-2][0]:
            inner = _tried(function, centre, far, scale=-0.5 if reflected[0] > worst else 0.5)
            reflected = inner if inner[0] > max(worst, reflected[0]) else (-math.inf, far)
        if reflected[0] == -math.inf:  # shrink towards the best
            best = scored[0][1]
            shrunk = [[(a + b) / 2 for a, b in zip(best, point, strict=True)] for _, point in scored[1:]]
            scored = [scored[0], *((function(point), point) for point in shrunk)]
        else:
            scored[-1] = reflected
        scored.sort(key=lambda pair: -pair[0])
    return scored[0][1]


def _tried(
    function: Callable[[Sequence[float]], float], centre: list[float], far: list[float], *, scale: float
) -> tuple[float, list[float]]:
    point = [c + scale * (x - c) for c, x in zip(centre, far, strict=True)]
    return function(point), point


def _log_likelihood(counts: Sequence[tuple[int, int]], alpha: float, beta: float, *, impossible: float) -> float:
    """Of passes among answers: C(n, c) B(c + alpha, n - c + beta) / B(alpha, beta), and certainly none with chance
    `impossible`. The binomial coefficient is left out: it does not depend on the parameters."""
    total, base = 0.0, _log_beta(alpha, beta)
    for num, passed in counts:
        possible = _log_beta(passed + alpha, num - passed + beta) - base
        if passed:
            total += possible + math.log1p(-impossible) if impossible < 1 else -math.inf
        else:
            total += math.log(impossible + (1.0 - impossible) * math.exp(possible))
    return total


def _alpha_beta(logit_mean: float, log_precision: float) -> tuple[float, float]:
    mean = _share(logit_mean)
    low, high = LOG_PRECISION_BOUNDS
    precision = math.exp(min(max(log_precision, low), high))
    return mean * precision, (1.0 - mean) * precision


def _share(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -LOGIT_BOUND), LOGIT_BOUND)))


def _logit(share: float) -> float:
    return math.log(share / (1.0 - share))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

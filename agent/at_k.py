"""Estimates of k answers (pass@k, fast_p@k, best@k) where problems have different numbers of them.

Each k is a mean over the problems that have k answers, with an interval over those problems, and says how many they
are. Knows nothing of how figures are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.first_drafts import had_by_most
from agent.resampling import Interval, bootstrap_means
from agent.statistics import Draws, expected_best, share_with_any

Estimate = Callable[[Draws, int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtK:
    """At one k, over the `num_problems` that have as many answers."""

    interval: Interval
    num_problems: int


def most_k(draws: Mapping[str, Draws]) -> int:
    """The largest k that nearly all problems with answers have: beyond it the few that are left would speak for all.

    0 without any answer.
    """
    return had_by_most(drawn.num for drawn in draws.values())


def at_k(
    draws: Mapping[str, Draws], *, ks: Sequence[int], estimate: Estimate, seed: int, resamples: int, confidence: float
) -> dict[int, AtK]:
    """By k, none above `most_k`. Problems that are counted at two ks are resampled alike at both."""
    found: dict[int, AtK] = {}
    for num in sorted({_num_with(draws, k) for k in ks}):
        some = [k for k in ks if _num_with(draws, k) == num]
        rows = [[estimate(drawn, k) for k in some] for drawn in draws.values() if drawn.num >= max(some)]
        intervals = bootstrap_means(np.array(rows), seed=seed, resamples=resamples, confidence=confidence)
        found |= {k: AtK(interval=i, num_problems=num) for k, i in zip(some, intervals, strict=True)}
    return dict(sorted(found.items()))


def passing(draws: Draws, k: int) -> float:
    return share_with_any(draws.num, draws.num_passed, k)


def faster_than(p: float) -> Estimate:
    return lambda draws, k: share_with_any(draws.num, draws.num_faster(p), k)


def best_of(draws: Draws, k: int) -> float:
    return expected_best(draws.values(), k)


def _num_with(draws: Mapping[str, Draws], k: int) -> int:
    return sum(drawn.num >= k for drawn in draws.values())

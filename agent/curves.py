"""Best-so-far against what was spent: what a search of any kind has to show, one curve a replica and problem.

Knows nothing of runs or files. A sequential search is not a set of draws, so it has no pass@k: its replicas (the same
search with another seed) are what its figures are averaged over.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.resampling import Interval, bootstrap_means
from agent.statistics import share_with_any


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One search on one problem: after `spent[i]` (any currency, never falling) the best speedup was `best[i]` (never
    falling, 0 while nothing has passed). Raises ValueError if it cannot be."""

    spent: tuple[float, ...]
    best: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.spent) != len(self.best):
            raise ValueError("a curve needs one best figure for each amount spent")
        for figures in (self.spent, self.best):
            if any(later < earlier for earlier, later in itertools.pairwise(figures)) or min(figures, default=0.0) < 0:
                raise ValueError("what is spent and what is best so far never fall, nor lie below 0")

    def best_at(self, limit: float) -> float:
        """The best speedup of what was done within `limit`; 0 if nothing had passed."""
        within = [best for spent, best in zip(self.spent, self.best, strict=True) if spent <= limit]
        return within[-1] if within else 0.0

    def area(self, limit: float) -> float:
        """The mean over the spend from 0 to `limit` of the logarithm of the best speedup so far, 0 while there is none
        above 1: the area under the step curve, divided by its width.

        A search that finds the same kernel in half of the budget has the larger area. Raises ValueError for no budget.
        """
        if limit <= 0:
            raise ValueError("an area needs a budget above 0")
        total, reached, level = 0.0, 0.0, 0.0
        for spent, best in zip(self.spent, self.best, strict=True):
            if spent > limit:
                break
            total += (spent - reached) * level
            reached, level = spent, math.log(max(best, 1.0))
        return (total + (limit - reached) * level) / limit

    def share_left(self, limit: float) -> float:
        """Which share of the budget `limit` was left when the first pass came; 0 if none did.

        It is the area under the curve that is 0 before the first pass and 1 after it, divided by its width: what `area`
        is for speedups, for runs where nothing is timed. Raises ValueError for no budget.
        """
        if limit <= 0:
            raise ValueError("an area needs a budget above 0")
        first = next((spent for spent, best in zip(self.spent, self.best, strict=True) if best > 0), math.inf)
        return max(0.0, 1.0 - first / limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """The curves of one arm, by problem: one for each seed. Raises ValueError where a problem has none."""

    curves: Mapping[str, Sequence[Curve]]

    def __post_init__(self) -> None:
        if not self.curves or not all(self.curves.values()):
            raise ValueError("every problem needs a curve, and there must be a problem")

    def solved(self, limit: float) -> dict[str, float]:
        """The share of each problem's replicas that had a pass within `limit`."""
        return {problem: _mean([c.best_at(limit) > 0 for c in curves]) for problem, curves in self.curves.items()}

    def faster(self, limit: float, *, p: float) -> dict[str, float]:
        """The share of each problem's replicas that had a speedup above `p` within `limit`."""
        return {problem: _mean([c.best_at(limit) > p for c in curves]) for problem, curves in self.curves.items()}

    def log_speedup(self, limit: float) -> dict[str, float]:
        """The mean over each problem's replicas of the logarithm of the best speedup, 0 for the unsolved."""
        return {
            problem: _mean([math.log(best) if (best := c.best_at(limit)) > 0 else 0.0 for c in curves])
            for problem, curves in self.curves.items()
        }

    def areas(self, limit: float) -> dict[str, float]:
        """The mean area under each problem's curves."""
        return {problem: _mean([c.area(limit) for c in curves]) for problem, curves in self.curves.items()}

    def shares_left(self, limit: float) -> dict[str, float]:
        """The mean share of the budget that was left at each problem's first passes."""
        return {problem: _mean([c.share_left(limit) for c in curves]) for problem, curves in self.curves.items()}

    def solved_by_any(self, limit: float, *, k: int) -> dict[str, float]:
        """The chance that one of k of each problem's replicas, drawn without replacement, had a pass within `limit`.

        The estimator of pass@k (`share_with_any`) over whole searches: replicas with other seeds are independent of
        each other, whatever the answers within one are. k of them cost k budgets. Raises ValueError if k is more than
        a problem has.
        """
        return {
            problem: share_with_any(len(curves), sum(c.best_at(limit) > 0 for c in curves), k)
            for problem, curves in self.curves.items()
        }


def coverage(
    replicas: Replicas, *, limits: Sequence[float], seed: int, resamples: int, confidence: float
) -> list[Interval]:
    """The share of problems solved within each limit, with intervals by bootstrap over problems."""
    by_limit = [replicas.solved(limit) for limit in limits]
    rows = np.array([[solved[problem] for solved in by_limit] for problem in replicas.curves], dtype=np.float64)
    return bootstrap_means(rows, seed=seed, resamples=resamples, confidence=confidence)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

"""Medians and how far they can be trusted.

Pure arithmetic on measured times; knows nothing of what was measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
# With fewer values no pair of order statistics holds the median with that confidence: 1 - 2 * 0.5^5 = 0.9375.
MIN_VALUES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median and the interval that holds the true one with `CONFIDENCE`."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The median and its distribution-free interval [x(r), x(n+1-r)] from order statistics.

    r is the largest rank with P(Binomial(n, 1/2) < r) <= (1 - CONFIDENCE) / 2: Conover, Practical Nonparametric
    Statistics, 3rd edition, section 3.2. Assumes nothing of the noise but that rounds are independent. Raises
    ValueError below `MIN_VALUES`.
    """
    if len(values) < MIN_VALUES:
        raise ValueError(f"an interval of the median needs {MIN_VALUES} values, not {len(values)}")
    ordered = sorted(values)
    rank = _rank(len(ordered))
    return Spread(median=statistics.median(ordered), low=ordered[rank - 1], high=ordered[-rank])


def _rank(count: int) -> int:
    below, rank = 0.0, 0
    while True:
        below += math.comb(count, rank) / 2**count
        if below > (1 - CONFIDENCE) / 2:
            return max(rank, 1)
        rank += 1

"""What samples say of a model: shares with their intervals, and what drawing again would have given. No files.

Intervals are percentiles over problems drawn anew: samples of one problem are alike, so problems are what varies.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

NUM_RESAMPLES = 2_000
COVERED = 0.95

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def interval(items: Sequence[ItemT], *, figure: Callable[[Sequence[ItemT]], float], seed: int) -> Estimate:
    """`figure` of all items, with the percentile bootstrap's interval (Efron 1979) over them.

    `figure` must stand on any draw of the items, some of them several times. Raises ValueError without items.
    """
    if not items:
        raise ValueError("an interval needs items")
    draw = random.Random(seed)
    figures = sorted(figure(draw.choices(items, k=len(items))) for _ in range(NUM_RESAMPLES))
    outside = int(NUM_RESAMPLES * (1 - COVERED) / 2)
    return Estimate(value=figure(items), low=figures[outside], high=figures[-1 - outside])


def ratio_of_sums(pairs: Sequence[tuple[float, float]]) -> float:
    """Sum of the firsts over sum of the seconds; 0 where there is nothing to divide by."""
    whole = sum(second for _, second in pairs)
    return sum(first for first, _ in pairs) / whole if whole else 0.0


def passed_within(spend: float, *, draws: Sequence[tuple[int, bool]]) -> float | None:
    """The chance that drawing again, in this order, passes before `spend` tokens are used; `draws` are what each cost
    and whether it passed.

    The draw that the spend ends in counts with the share of it that is paid for. None where the draws cost less than
    the spend in all, also if one of them passes: what is left out must not depend on what came out.
    """
    if sum(cost for cost, _ in draws) < spend:
        return None
    left = spend
    for cost, passed in draws:
        if cost > left:
            return left / cost if passed else 0.0
        if passed:
            return 1.0
        left -= cost
    return 0.0

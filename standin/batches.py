"""Which examples share a training step: batches of like length, the same for the same seed.

Knows nothing of tokens or models: it is given lengths and gives numbers of examples.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

# Widths are multiples of this, so that few shapes are compiled and rows start where the hardware reads well.
WIDTH_STEP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Examples by number, each to be padded to `width` tokens."""

    width: int
    rows: tuple[int, ...]


def widths_of(lengths: Sequence[int], *, count: int) -> tuple[int, ...]:
    """At most `count` widths, rising, such that about as many examples fall to each and the longest fits the last."""
    ranked = sorted(lengths)
    ends = (ranked[(len(ranked) * number + count - 1) // count - 1] for number in range(1, count + 1))
    return tuple(sorted({-(-end // WIDTH_STEP) * WIDTH_STEP for end in ends}))


def plan_epoch(
    lengths: Sequence[int], *, widths: Sequence[int], tokens_per_batch: int, seed: int, epoch: int
) -> list[Batch]:
    """Every example once, in batches of `tokens_per_batch` tokens or a little less, in an order drawn from seed and
    epoch.

    What does not fill a batch of its width goes to the next width; the widest batch is filled up with examples that
    then come twice. So each width has one shape, and each epoch as many batches.
    """
    order = random.Random(f"{seed}:{epoch}")
    numbers = list(range(len(lengths)))
    order.shuffle(numbers)
    waiting: dict[int, list[int]] = {width: [] for width in widths}
    for number in numbers:
        waiting[next(width for width in widths if lengths[number] <= width)].append(number)
    batches: list[Batch] = []
    left: list[int] = []
    for width in widths:
        rows, size = left + waiting[width], max(1, tokens_per_batch // width)
        full = len(rows) // size * size
        batches += [Batch(width=width, rows=tuple(rows[at : at + size])) for at in range(0, full, size)]
        left = rows[full:]
    if left:
        repeated = [numbers[place % len(numbers)] for place in range(size - len(left))]
        batches.append(Batch(width=widths[-1], rows=(*left, *repeated)))
    order.shuffle(batches)
    return batches

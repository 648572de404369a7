"""Programs by reward, best first, and a draw among them by rank: both stay cheap when there are thousands.

Knows nothing of what is done with them.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import overload

from strategies.informed import Tried


class Ranking(Sequence[Tried]):
    """Sorted at every moment, of equal ones the earlier first."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Tried]] = []  # negative reward, number
        self._harmonic = [0.0]  # sums of 1 / (1 + rank) up to each rank

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Tried: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tried]: ...
    def __getitem__(self, index: int | slice) -> Tried | list[Tried]:
        if isinstance(index, slice):
            return [entry[2] for entry in self._entries[index]]
        return self._entries[index][2]

    def add(self, tried: Tried) -> None:
        insort(self._entries, (-tried.reward, tried.number, tried))
        if len(self._harmonic) <= len(self._entries):
            self._harmonic.append(self._harmonic[-1] + 1 / len(self._entries))

    def discard(self, tried: Tried) -> None:
        rank = self._rank(tried)
        if rank < len(self) and self[rank] is tried:
            del self._entries[rank]

    def drawn(self, rng: random.Random, *, num_open_from: Mapping[Tried, int]) -> Tried:
        """One of them with weight 1 / (1 + rank + what is open from it), at one random number.

        The weights' sums are those of 1 / (1 + rank), less what the few with something open lack of it.
        """
        lacking: dict[int, float] = {}
        for tried, num_open in num_open_from.items():
            rank = self._rank(tried)
            if rank < len(self) and self[rank] is tried:
                lacking[rank] = 1 / (1 + rank) - 1 / (1 + rank + num_open)
        ranks = sorted(lacking)
        less = [0.0, *accumulate(lacking[rank] for rank in ranks)]

        def up_to(rank: int) -> float:
            return self._harmonic[rank + 1] - less[bisect_right(ranks, rank)]

        last = len(self) - 1
        return self[bisect_right(range(last), rng.random() * up_to(last), key=up_to)]

    def _rank(self, tried: Tried) -> int:
        return bisect_left(self._entries, (-tried.reward, tried.number), key=lambda entry: entry[:2])

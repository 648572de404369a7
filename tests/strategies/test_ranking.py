"""The ranking against drawing with all weights written out."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sandbox.types import Operator, Status
from strategies.informed import Tried
from strategies.ranking import Ranking


def tried(number: int, *, reward: float) -> Tried:
    return Tried(
        number=number,
        candidate_id=f"c{number}",
        operator=Operator.DRAFT,
        status=Status.PASSED,
        reward=reward,
        next_operator=Operator.IMPROVE,
    )


@pytest.mark.parametrize("seed", range(5))
def test_draws_the_same_as_with_all_weights_written_out(seed: int) -> None:
    rng = random.Random(seed)
    ranking, kept = Ranking(), list[Tried]()
    for number in range(300):
        kept.append(tried(number, reward=rng.randrange(50) / 50))
        ranking.add(kept[-1])
        if rng.random() < 0.3:
            gone = kept.pop(rng.randrange(len(kept)))
            ranking.discard(gone)
            ranking.discard(gone)
        kept.sort(key=lambda t: (-t.reward, t.number))
        assert list(ranking) == kept
        if not kept:
            continue
        num_open_from = Counter(rng.choice(kept) for _ in range(rng.randrange(20)))
        weights = [1 / (1 + rank + num_open_from[t]) for rank, t in enumerate(kept)]
        absent = tried(number + 1000, reward=rng.random())
        state = rng.getstate()
        expected = rng.choices(kept, weights)[0]
        rng.setstate(state)
        assert ranking.drawn(rng, num_open_from={**num_open_from, absent: 3}) == expected

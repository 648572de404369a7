"""Chooses the next point of a tuning space with Optuna's tree-structured Parzen estimator (Bergstra et al. 2011).

The only file that imports Optuna, and only once something is tuned. Knows nothing of candidates, ledgers or judges.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sandbox.knobs import Point, Space

NUM_RANDOM = 6  # points before the estimator has something to go by, the parent's among them
NUM_DRAWS = 20  # of the estimator's for one that is new and allowed
MAX_LISTED = 4096  # points


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How one point did: its speedup, or None where it failed, or passed without being timed."""

    point: Point
    speedup: float | None


def choose_point(space: Space, *, told: Sequence[Told], taken: Collection[str], seed: int) -> Point | None:
    """A point whose text is none of `taken`; None where there is no other. A function of its arguments.

    Values are told apart by their rank, so that neighbours are a factor of two apart. The logarithm of the speedup is
    what is made large; a failure is worse than any success.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=NUM_RANDOM)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    ranks: dict[str, optuna.distributions.BaseDistribution] = {
        knob.name: optuna.distributions.IntDistribution(0, len(knob.values) - 1) for knob in space.knobs
    }
    for item in told:
        timed = item.speedup is not None and item.speedup > 0
        study.add_trial(
            optuna.trial.create_trial(
                params={knob.name: knob.values.index(item.point[knob.name]) for knob in space.knobs},
                distributions=ranks,
                value=math.log(item.speedup) if timed and item.speedup is not None else None,
                state=optuna.trial.TrialState.COMPLETE if timed else optuna.trial.TrialState.PRUNED,
            )
        )
    draws = (_point(space, ranks=study.ask(ranks).params) for _ in range(NUM_DRAWS))
    for point in itertools.chain(draws, _any_order(space, seed=seed)):
        if space.allows(point) and space.at(point) not in taken:
            return point
    return None


def _any_order(space: Space, *, seed: int) -> Iterator[Point]:
    """All points of a small space, or some of a large one: the estimator draws what it likes best over and over."""
    rng, names = random.Random(seed), [knob.name for knob in space.knobs]
    if math.prod(len(knob.values) for knob in space.knobs) <= MAX_LISTED:
        listed = list(itertools.product(*(knob.values for knob in space.knobs)))
        rng.shuffle(listed)
        yield from (dict(zip(names, values, strict=True)) for values in listed)
    else:
        yield from ({knob.name: rng.choice(knob.values) for knob in space.knobs} for _ in range(MAX_LISTED))


def _point(space: Space, *, ranks: Mapping[str, int]) -> Point:
    return {knob.name: knob.values[ranks[knob.name]] for knob in space.knobs}

"""The statistics of an experiment: each arm by itself, and every arm against the reference arm on the same problems.

Knows nothing of ledgers, files or how figures are shown. A figure of an arm is the mean over problems of the mean over
seeds; intervals are by bootstrap over problems, each taken with all its seeds, so that seeds nested in one problem are
not counted as independent problems (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8:
resampling clusters whole).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.at_k import AtK, Estimate, at_k, most_k
from agent.cell_figures import SearchFigures
from agent.curves import Curve, Replicas, coverage
from agent.events import EndReason
from agent.first_drafts import draws_of
from agent.hard_or_impossible import HardOrImpossible, hard_or_impossible
from agent.resampling import Interval, bootstrap_mean, bootstrap_means, paired_difference, sign_flip_p_value
from agent.statistics import FAST_P_LEVELS, Draws
from agent.verdict_cache import Asked
from sandbox.types import Spend

CONFIDENCE = 0.95
SEED = 0  # of the resampling: the same ledgers give the same page
NO_FIRST_DRAFT = "of no problem did every search have its first draft judged"
NUM_LIMITS = 40  # points of a coverage curve


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedupFigures:
    """Of the best kernels, over all searches of an arm: `over_all` is the geometric mean with 1 for the unsolved,
    `over_solved` of the `num_solved` alone. `faster` are fast_p's shares by p."""

    over_all: Interval
    over_solved: float | None
    num_solved: int
    faster: Mapping[float, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFigures:
    """One arm over all seeds.

    `solved` is the share of problems solved within the budget, `by_seed` how many in each; they, `speedups` and the end
    of every curve are by confirmations where there are any, `draws` by the verdicts of the searches. `measures` are the
    figures that arms are compared in: by name, by problem. `draws` are its independent answers by problem, None where
    there are none, with `why_no_draws`; `fits` of them, None of too few problems. `spend` and the counts are of all its
    searches together.
    """

    arm: str
    solved: Interval
    by_seed: tuple[int, ...]
    solved_by_problem: Mapping[str, int]
    measures: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Interval]
    speedups: SpeedupFigures | None
    spend: Spend
    overrun: float
    num_refuted: int
    asked: Asked
    replicas: Mapping[str, Replicas]
    draws: Mapping[str, Draws] | None
    why_no_draws: str | None
    fits: HardOrImpossible | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An arm less the reference arm in one measure, problem by problem. `p_value` is of no difference at all."""

    arm: str
    measure: str
    interval: Interval
    num_better: int
    num_worse: int
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All of it. `limits` are the currencies that curves are drawn and areas taken over, with where they end."""

    problem_ids: tuple[str, ...]
    left_out: tuple[str, ...]
    seeds: tuple[int, ...]
    currency: str
    limit: float
    against: str
    resamples: int
    timed: bool
    limits: Mapping[str, float]
    arms: tuple[ArmFigures, ...]
    differences: tuple[Difference, ...]

    def coverage(self, arm: ArmFigures, *, currency: str) -> tuple[list[float], list[Interval]]:
        """The share of problems solved within each of some limits, with intervals."""
        limits = self._steps(currency)
        found = coverage(
            arm.replicas[currency], limits=limits, seed=SEED, resamples=self.resamples, confidence=CONFIDENCE
        )
        return limits, found

    def mean_speedup(self, arm: ArmFigures, *, currency: str) -> tuple[list[float], list[Interval]]:
        """The geometric mean of the best so far, 1 for the unsolved, within each of some limits, with intervals."""
        limits = self._steps(currency)
        by_limit = [arm.replicas[currency].log_speedup(limit) for limit in limits]
        logs = self.means(np.array([[logs[id] for logs in by_limit] for id in self.problem_ids]))
        return limits, [interval.mapped(np.exp) for interval in logs]

    def _steps(self, currency: str) -> list[float]:
        return [self.limits[currency] * number / NUM_LIMITS for number in range(NUM_LIMITS + 1)]

    def replica_curve(self, arm: ArmFigures) -> list[Interval]:
        """The share of problems that one of k replicas solves, for every k there is."""
        replicas = arm.replicas[self.currency]
        rows = [replicas.solved_by_any(self.limit, k=k) for k in range(1, len(self.seeds) + 1)]
        return self.means(np.array([[row[id] for row in rows] for id in self.problem_ids]))

    def at_k(self, arm: ArmFigures, *, ks: Sequence[int], estimate: Estimate) -> dict[int, AtK]:
        """An estimate over independent answers, at those of `ks` that are below the largest there is, and at that."""
        assert arm.draws is not None
        most = most_k(arm.draws)
        ks = [k for k in ks if k < most] + [most]
        return at_k(arm.draws, ks=ks, estimate=estimate, seed=SEED, resamples=self.resamples, confidence=CONFIDENCE)

    def means(self, values: Any) -> list[Interval]:
        """Of the columns of problems × columns."""
        return bootstrap_means(values, seed=SEED, resamples=self.resamples, confidence=CONFIDENCE)


def compare(
    searches: Mapping[str, Sequence[SearchFigures]],
    *,
    seeds: Sequence[int],
    currency: str,
    limit: float,
    against: str,
    resamples: int,
    why_no_draws: Mapping[str, str | None],
    recorded: Collection[str],
    asked: Mapping[str, Asked],
) -> Comparison:
    """`searches` are by arm: every problem with every seed. `why_no_draws` says of which arms answers are not
    independent of each other, `recorded` are those whose answers come from a recording. Raises ValueError if no problem
    could be judged."""
    everything = [search for found in searches.values() for search in found]
    left_out = {search.problem_id for search in everything if search.end is EndReason.INADMISSIBLE}
    problem_ids = tuple(dict.fromkeys(s.problem_id for s in everything if s.problem_id not in left_out))
    if not problem_ids:
        raise ValueError("no problem could be judged")
    kept = {arm: [s for s in found if s.problem_id not in left_out] for arm, found in searches.items()}
    timed = any(search.speedup is not None for found in kept.values() for search in found)
    limits = _limits([search for found in kept.values() for search in found], currency=currency, limit=limit)
    arms = tuple(
        _arm_figures(
            arm, found, problem_ids=problem_ids, seeds=seeds, currency=currency, limits=limits, timed=timed,
            resamples=resamples, why_no_draws=why_no_draws[arm], recorded=arm in recorded, asked=asked[arm],
        )
        for arm, found in kept.items()
    )  # fmt: skip
    base = next(arm for arm in arms if arm.arm == against)
    return Comparison(
        problem_ids=problem_ids,
        left_out=tuple(sorted(left_out)),
        seeds=tuple(seeds),
        currency=currency,
        limit=limit,
        against=against,
        resamples=resamples,
        timed=timed,
        limits=limits,
        arms=arms,
        differences=tuple(
            _difference(arm, base=base, measure=measure, resamples=resamples)
            for arm in arms
            if arm.arm != against
            for measure in arm.measures
        ),
    )


def words_of(currency: str) -> str:
    return currency.replace("gpu_seconds", "GPU seconds").replace("judged", "judged candidates")


def _limits(searches: Sequence[SearchFigures], *, currency: str, limit: float) -> dict[str, float]:
    """The budget; in other currencies that were used, what the most spendthrift search took, the same for all arms."""
    found = {currency: limit}
    for name in ("tokens", "gpu_seconds"):
        most = max(float(getattr(search.spend, name)) for search in searches)
        if name not in found and most > 0:
            found[name] = most
    return found


def _arm_figures(
    arm: str, searches: Sequence[SearchFigures], *, problem_ids: Sequence[str], seeds: Sequence[int], currency: str,
    limits: Mapping[str, float], timed: bool, resamples: int, why_no_draws: str | None,
    recorded: bool, asked: Asked,
) -> ArmFigures:  # fmt: skip
    by_problem = {id: [s for s in searches if s.problem_id == id] for id in problem_ids}
    replicas = {name: replicas_of(by_problem, currency=name) for name in limits}
    measures = _measures(replicas, by_problem=by_problem, currency=currency, limits=limits, timed=timed)
    intervals = {name: _interval(values, resamples=resamples) for name, values in measures.items()}
    drafts = {id: [search.drafts for search in found] for id, found in by_problem.items()}
    draws = None if why_no_draws is not None else draws_of(drafts, recorded=recorded)
    answered = draws is not None and any(d.num for d in draws.values())
    return ArmFigures(
        arm=arm,
        solved=intervals["solved"],
        by_seed=tuple(sum(s.solved for s in searches if s.cell.seed == seed) for seed in seeds),
        solved_by_problem={id: sum(s.solved for s in found) for id, found in by_problem.items()},
        measures=measures,
        intervals=intervals,
        speedups=_speedups(searches, replicas[currency], limit=limits[currency], measures=measures, resamples=resamples)
        if timed
        else None,
        spend=sum((search.spend for search in searches), Spend()),
        overrun=sum(max(0.0, float(getattr(s.spend, currency)) - limits[currency]) for s in searches),
        num_refuted=sum(search.num_refuted for search in searches),
        asked=asked,
        replicas=replicas,
        draws=draws if answered else None,
        why_no_draws=why_no_draws
        or (None if answered else "of no problem did every search have its first draft judged"),
        fits=hard_or_impossible(list(draws.values()), seed=SEED, confidence=CONFIDENCE)
        if answered and draws is not None
        else None,
    )


def replicas_of(by_problem: Mapping[str, Sequence[SearchFigures]], *, currency: str) -> Replicas:
    return Replicas(curves={id: _curves(found, currency=currency) for id, found in by_problem.items()})


def _curves(searches: Sequence[SearchFigures], *, currency: str) -> tuple[Curve, ...]:
    return tuple(search.curves[currency] for search in searches)


def _measures(
    replicas: Mapping[str, Replicas], *, by_problem: Mapping[str, Sequence[SearchFigures]], currency: str,
    limits: Mapping[str, float], timed: bool,
) -> dict[str, Mapping[str, float]]:  # fmt: skip
    """What arms are compared in, by name and problem."""
    found: dict[str, Mapping[str, float]] = {"solved": replicas[currency].solved(limits[currency])}
    for name, limit in limits.items():
        found[f"area of solved by {words_of(name)}"] = replicas[name].shares_left(limit)
    if timed:
        found["log speedup"] = {
            id: math.fsum(math.log(s.speedup) for s in searches if s.speedup is not None) / len(searches)
            for id, searches in by_problem.items()
        }
        for name, limit in limits.items():
            found[f"area of log speedup by {words_of(name)}"] = replicas[name].areas(limit)
    return found


def _speedups(
    searches: Sequence[SearchFigures], replicas: Replicas, *, limit: float,
    measures: Mapping[str, Mapping[str, float]], resamples: int,
) -> SpeedupFigures:  # fmt: skip
    logs = [math.log(search.speedup) for search in searches if search.speedup is not None]
    return SpeedupFigures(
        over_all=_interval(measures["log speedup"], resamples=resamples).mapped(np.exp),
        over_solved=math.exp(math.fsum(logs) / len(logs)) if logs else None,
        num_solved=len(logs),
        faster={p: _interval(replicas.faster(limit, p=p), resamples=resamples) for p in FAST_P_LEVELS},
    )


def _interval(by_problem: Mapping[str, float], *, resamples: int) -> Interval:
    values = np.array(list(by_problem.values()), dtype=np.float64)
    return bootstrap_mean(values, seed=SEED, resamples=resamples, confidence=CONFIDENCE)


def _difference(arm: ArmFigures, *, base: ArmFigures, measure: str, resamples: int) -> Difference:
    ours, theirs = arm.measures[measure], base.measures[measure]
    differences = [ours[id] - theirs[id] for id in ours]
    return Difference(
        arm=arm.arm,
        measure=measure,
        interval=paired_difference(ours, against=theirs, seed=SEED, resamples=resamples, confidence=CONFIDENCE),
        num_better=sum(difference > 0 for difference in differences),
        num_worse=sum(difference < 0 for difference in differences),
        p_value=sign_flip_p_value(differences, seed=SEED, resamples=resamples),
    )

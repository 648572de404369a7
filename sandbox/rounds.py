"""Drives two sides A B A B, one at a time, until their ratio is known well enough.

Pure but for the clock that is handed in; knows nothing of processes, graphs or verdicts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sandbox.spread import MIN_VALUES, Spread, spread

# Runs the work that often and gives each run's device time in microseconds.
Measure = Callable[[int], Sequence[float]]

_WARM_UP_SECONDS = 0.03  # at most: an idle GPU takes some milliseconds to raise its clock
_RISING = 0.98  # of the time before: as long as a side gets faster than that, the clock still rises
# Where so few leave the interval too wide, more rounds follow: those tell of drift as well, replays in a row do not.
_REPLAYS = 4
_SHORT_US = 20.0  # up to there the GPU's ticks and where a run happens to begin are percents of it: twice the replays
_REPLAY_OVERHEAD_US = 200.0  # flushing L2 and waiting for the device, for each replay
_REQUEST_US = 300.0  # asking another process and hearing its answer
# The interval is looked at only when the rounds have grown by this share since the last look: an interval that is
# looked at after every round, and taken the first time it is narrow, is narrow by luck too often.
_LOOK_GROWTH = 1.25


class Ended(StrEnum):
    """Why no further round was measured."""

    INTERVAL = "interval"  # narrow enough
    ROUNDS = "rounds"
    SECONDS = "seconds"
    RACED_OUT = "raced_out"  # it cannot be the best any more


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """When to stop, never before `MIN_VALUES` rounds. `interval` is the width of the ratio's 95 % interval over its
    median; `incumbent` is a ratio that this side must still be able to reach, None where nothing is to be beaten.
    `input_sets` take turns: a round that has them all is like every other round."""

    interval: float
    max_rounds: int
    seconds: float
    incumbent: float | None
    input_sets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Device times in microseconds, one of each side a round; each is the `middle` of that round's replays."""

    candidate_us: tuple[float, ...]
    baseline_us: tuple[float, ...]
    replays_per_round: int
    ended: Ended

    @property
    def ratio(self) -> Spread:
        """Baseline over candidate, round by round, so that a slow drift of the clock cancels."""
        return spread([b / a for a, b in zip(self.candidate_us, self.baseline_us, strict=True)])


def interleave(candidate: Measure, baseline: Measure, *, rule: StopRule, clock: Callable[[], float]) -> Rounds:
    """Measures A B A B until `rule` ends it. `clock` gives seconds."""
    replays = _warm_up(candidate, baseline, rule=rule, clock=clock)
    start, next_look = clock(), MIN_VALUES
    ours: list[float] = []
    theirs: list[float] = []
    while True:
        ours.append(middle(candidate(replays)))
        theirs.append(middle(baseline(replays)))
        count = len(ours)
        if count < MIN_VALUES:
            continue
        done = Rounds(
            candidate_us=tuple(ours), baseline_us=tuple(theirs), replays_per_round=replays, ended=Ended.ROUNDS
        )  # fmt: skip
        ended = None
        if count >= next_look:
            next_look = max(count + 1, int(count * _LOOK_GROWTH))
            ended = _settled(done.ratio, rule)
        if ended is None and count >= rule.max_rounds:
            ended = Ended.ROUNDS
        if ended is None and clock() - start >= rule.seconds:
            ended = Ended.SECONDS
        if ended is not None:
            return Rounds(candidate_us=done.candidate_us, baseline_us=done.baseline_us,
                          replays_per_round=replays, ended=ended)  # fmt: skip


def middle(values: Sequence[float]) -> float:
    """The interquartile mean, of the values that are left when a quarter is cut off at each end; of three, one is.

    As deaf as the median to the odd late run; where runs take one of two times, as those of some microseconds do, it
    does not jump from one to the other.
    """
    ordered = sorted(values)
    cut = (len(ordered) + 1) // 4
    return statistics.fmean(ordered[cut : len(ordered) - cut])


def _settled(ratio: Spread, rule: StopRule) -> Ended | None:
    if rule.incumbent is not None and ratio.high < rule.incumbent:
        return Ended.RACED_OUT
    return Ended.INTERVAL if (ratio.high - ratio.low) / ratio.median <= rule.interval else None


def _warm_up(candidate: Measure, baseline: Measure, *, rule: StopRule, clock: Callable[[], float]) -> int:
    """Raises the GPU's clock; gives the number of replays a round, so that all rounds fit into the time."""
    start = clock()
    pair_us = candidate(1)[0] + baseline(1)[0]
    each_us = rule.seconds * 1e6 / max(rule.max_rounds, MIN_VALUES) - 2 * _REQUEST_US
    most = max(_REPLAYS, rule.input_sets) * (2 if pair_us < 2 * _SHORT_US else 1)
    replays = max(1, min(int(each_us / (pair_us + 2 * _REPLAY_OVERHEAD_US)), most))
    before: tuple[float, float] | None = None
    while clock() - start < _WARM_UP_SECONDS:
        now = middle(candidate(replays)), middle(baseline(replays))
        if before is not None and now[0] >= _RISING * before[0] and now[1] >= _RISING * before[1]:
            break
        before = now
    return replays

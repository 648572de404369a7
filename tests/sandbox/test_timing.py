"""Medians, intervals, and rounds that stop when enough is known, on times that are made up."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import pytest
import torch

from sandbox.agreement import disagreement
from sandbox.capture import rotate
from sandbox.rounds import Ended, Rounds, StopRule, interleave, middle
from sandbox.spread import MIN_VALUES, spread


class Side:
    """Answers with times from a function, and notes who was asked in which order. Its clock ticks with every run."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []
        self.now = 0.0

    def measures(self, name: str, time_us: Callable[[], float]) -> Callable[[int], list[float]]:
        def measure(replays: int) -> list[float]:
            self.log.append((name, replays))
            times = [time_us() for _ in range(replays)]
            self.now += sum(times) / 1e6
            return times

        return measure

    def clock(self) -> float:
        self.now += 0.005
        return self.now


def rounds_of(
    candidate: Callable[[], float],
    baseline: Callable[[], float],
    *,
    interval: float = 0.02,
    max_rounds: int = 60,
    seconds: float = 10.0,
    incumbent: float | None = None,
    input_sets: int = 2,
) -> tuple[Rounds, Side]:
    side = Side()
    rule = StopRule(
        interval=interval, max_rounds=max_rounds, seconds=seconds, incumbent=incumbent, input_sets=input_sets
    )
    a, b = side.measures("a", candidate), side.measures("b", baseline)
    return interleave(a, b, rule=rule, clock=side.clock), side


def noisy(draw: random.Random, median_us: float, noise: float) -> Callable[[], float]:
    return lambda: median_us * draw.lognormvariate(0.0, noise)


def test_the_interval_of_twenty_values_is_the_sixth_and_fifteenth() -> None:
    found = spread([float(n) for n in range(1, 21)])  # ranks from the tables of the binomial distribution
    assert (found.median, found.low, found.high) == (10.5, 6.0, 15.0)


def test_the_interval_of_the_fewest_values_is_all_of_them() -> None:
    found = spread([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
    assert (found.low, found.high) == (1.0, 6.0)


def test_too_few_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match=str(MIN_VALUES)):
        spread([1.0] * (MIN_VALUES - 1))


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    draw = random.Random(0)
    held = 0
    for _ in range(2000):
        found = spread([draw.lognormvariate(0.0, 0.3) for _ in range(20)])
        held += found.low <= 1.0 <= found.high
    assert held / 2000 >= 0.95


def test_sides_alternate_one_at_a_time() -> None:
    _, side = rounds_of(lambda: 10.0, lambda: 20.0, interval=1e-9)
    assert [name for name, _ in side.log] == ["a", "b"] * (len(side.log) // 2)
    assert len({replays for _, replays in side.log[2:]}) == 1  # after the first pair, which sets the pace


def test_quiet_rounds_stop_at_the_fewest() -> None:
    rounds, _ = rounds_of(lambda: 10.0, lambda: 20.0)
    assert (len(rounds.candidate_us), rounds.ended) == (MIN_VALUES, Ended.INTERVAL)
    assert rounds.ratio.median == 2.0


def test_noisy_rounds_go_on_until_the_interval_is_narrow_or_the_rounds_are_used_up() -> None:
    draw = random.Random(0)
    some, _ = rounds_of(noisy(draw, 10.0, 0.02), noisy(draw, 10.0, 0.02), max_rounds=200)
    assert some.ended is Ended.INTERVAL and MIN_VALUES < len(some.candidate_us) < 200
    assert (some.ratio.high - some.ratio.low) / some.ratio.median <= 0.02
    every, _ = rounds_of(noisy(draw, 10.0, 0.3), noisy(draw, 10.0, 0.3), max_rounds=30)
    assert (len(every.candidate_us), every.ended) == (30, Ended.ROUNDS)


def test_long_runs_stop_at_the_time_limit_but_never_below_the_fewest_rounds() -> None:
    draw = random.Random(0)
    rounds, side = rounds_of(noisy(draw, 1e7, 0.1), noisy(draw, 1e7, 0.1), seconds=1.0)
    assert (len(rounds.candidate_us), rounds.ended) == (MIN_VALUES, Ended.SECONDS)
    assert {replays for _, replays in side.log} == {1}


def test_warming_up_goes_on_while_the_clock_rises_and_no_longer() -> None:
    steady, _ = rounds_of(lambda: 10.0, lambda: 20.0, interval=1e-9, max_rounds=6)
    times = iter([20.0, 15.0, 12.0, 11.0, *[10.0] * 500])
    rising, side = rounds_of(lambda: next(times), lambda: 20.0, interval=1e-9, max_rounds=6, seconds=0.001)
    assert {replays for _, replays in side.log} == {1}
    assert rising.candidate_us == steady.candidate_us[:1] * 6  # none of those that came before
    assert len(side.log) == 2 * (1 + 5 + 6)  # the pair that sets the pace, five rounds, and those that count


def test_a_slow_candidate_is_raced_out_early_and_a_fast_one_is_not() -> None:
    draw = random.Random(0)

    def against(incumbent: float) -> Rounds:
        return rounds_of(noisy(draw, 10.0, 0.02), noisy(draw, 20.0, 0.02), interval=0.001, incumbent=incumbent)[0]

    slow, fast = against(3.0), against(1.5)
    assert (slow.ended, len(slow.candidate_us)) == (Ended.RACED_OUT, MIN_VALUES)
    assert fast.ended is Ended.ROUNDS


def test_stopping_at_a_narrow_interval_keeps_its_promise() -> None:
    draw, held = random.Random(1), 0
    for _ in range(600):
        rounds, _ = rounds_of(noisy(draw, 10.0, 0.03), noisy(draw, 10.0, 0.03))
        held += rounds.ratio.low <= 1.0 <= rounds.ratio.high
    assert held / 600 >= 0.92  # 0.95 for a number of rounds fixed beforehand; looking on the way costs a little


def test_a_candidate_as_good_as_the_best_is_seldom_raced_out() -> None:
    draw, out = random.Random(2), 0
    for _ in range(400):
        rounds, _ = rounds_of(noisy(draw, 10.0, 0.03), noisy(draw, 10.0, 0.03), interval=0.001, incumbent=1.0)
        out += rounds.ended is Ended.RACED_OUT
    assert out / 400 <= 0.10


def test_the_best_of_a_hundred_equals_looks_better_than_it_is_until_it_is_measured_again() -> None:
    draw = random.Random(3)

    def speedup() -> float:
        return rounds_of(noisy(draw, 10.0, 0.03), noisy(draw, 10.0, 0.03))[0].ratio.median

    best = statistics.median(max(speedup() for _ in range(100)) for _ in range(5))
    again = statistics.median(speedup() for _ in range(5))
    assert best > 1.005 and abs(again - 1.0) < best - 1.0


def test_the_speedup_is_the_median_of_ratios_so_that_drift_cancels() -> None:
    drift = [1.0 + 0.1 * n for n in range(10)]
    rounds = Rounds(
        candidate_us=tuple(10 * d for d in drift),
        baseline_us=tuple(20 * d for d in drift),
        replays_per_round=1,
        ended=Ended.ROUNDS,
    )
    assert rounds.ratio.median == pytest.approx(2.0) and rounds.ratio.low == pytest.approx(rounds.ratio.high)


class Timer:
    """Answers with its own number and notes that it was asked."""

    def __init__(self, number: int, log: list[int]) -> None:
        self._number, self._log = number, log

    def measure_us(self) -> float:
        self._log.append(self._number)
        return float(self._number)


@pytest.mark.parametrize(("run_us", "replays"), [(4.0, (8, 8, 16)), (40.0, (4, 4, 8))])
def test_a_round_has_all_input_sets_and_one_of_short_runs_has_them_twice(
    run_us: float, replays: tuple[int, ...]
) -> None:
    for input_sets, expected in zip((1, 2, 8), replays, strict=True):
        rounds, _ = rounds_of(lambda: run_us, lambda: run_us, input_sets=input_sets)
        assert rounds.replays_per_round == expected


def test_runs_of_one_of_two_times_come_to_a_narrow_interval_which_medians_of_them_do_not() -> None:
    draw = random.Random(4)

    def either() -> float:
        return draw.choice([4.0, 4.16])

    narrow, _ = rounds_of(either, either, input_sets=8)
    assert narrow.ended is Ended.INTERVAL and narrow.ratio.median == pytest.approx(1.0, abs=0.01)
    assert middle([4.0] * 4 + [4.16] * 4) == pytest.approx(4.08)
    assert middle([4.0] * 7 + [400.0]) == 4.0 and middle([5.0]) == 5.0
    assert middle([4.0, 400.0, 4.0]) == 4.0  # long runs have as few as three replays


def test_input_sets_take_turns_across_requests_and_the_first_run_of_each_is_not_told() -> None:
    log: list[int] = []
    timers = [Timer(number, log) for number in range(3)]
    first, turn = rotate(timers, turn=0, replays=4)
    second, _ = rotate(timers, turn=turn, replays=2)
    assert (first, second) == ([0.0, 1.0, 2.0, 0.0], [1.0, 2.0])
    assert log == [2, 0, 1, 2, 0, 0, 1, 2]
    assert rotate(timers, turn=1, replays=1) == ([1.0], 2) and log[8:] == [1]  # long runs are not run twice


NAN = float("nan")


@pytest.mark.parametrize(
    ("ours", "theirs", "agree"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0001], True),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.1], False),
        ([1.0, NAN, 3.0], [1.0, NAN, 3.0], True),
        ([1.0, NAN, 3.0], [1.0, 2.0, 3.0], False),
        ([float("inf")], [float("-inf")], False),
        ([1e-3], [0.0], False),
        ([1.0, 2.0], [1.0], False),
        ([1, 2], [1, 3], False),
        ([True, False], [True, False], True),
        ([1.0], [1], False),
    ],
)
def test_two_runs_agree_or_not(ours: list[float], theirs: list[float], agree: bool) -> None:
    found = disagreement([torch.tensor(ours)], [torch.tensor(theirs)], bound=1e-3)
    assert (found is None) == agree


def test_another_number_of_outputs_is_no_agreement() -> None:
    assert disagreement([torch.ones(1)], [], bound=1.0) == "1 outputs, not 0"

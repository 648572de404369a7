"""The sums behind the benchmarks of several GPUs, on figures that are made up."""

from __future__ import annotations

import pytest

from sandbox.types import Performance
from tests.benchmarks.judges_on_gpus import steady_per_minute
from tests.benchmarks.loop_witness import Seen, buckets, engines_a_judge, longest_gap, rates
from tests.benchmarks.same_kernels import agreement, row_of


def performance(speedup: float) -> Performance:
    return Performance(
        runtime_us=10.0, baseline_us={"eager": 10.0 * speedup}, against="eager", speedup=speedup,
        speedup_low=speedup, speedup_high=speedup, repetitions=6,
    )  # fmt: skip


def test_the_steady_rate_leaves_out_the_last_twentieth() -> None:
    times = [0.5 * number for number in range(1, 96)] + [400.0] * 5
    assert steady_per_minute(times) == pytest.approx(60 * 95 / 47.5)
    assert steady_per_minute([]) is None


def test_speedups_agree_by_their_medians_and_the_spread_on_one_gpu_is_told() -> None:
    near = row_of("p", {"a": [performance(2.0), performance(2.2), performance(2.0)], "b": [performance(2.02)] * 3})
    assert (near["apart"], near["apart_alone"], near["repeats"]) == (0.01, 0.1, 3)
    far = row_of("q", {"a": [performance(2.0)], "b": [performance(2.1)]})
    found = agreement([near, far], within=0.02)
    assert (found["kernels"], found["agree"], found["most_apart"], found["outside"]) == (2, 1, 0.05, ["q"])
    assert agreement([], within=0.02)["most_apart"] is None


def test_rates_are_of_the_stretch_alone() -> None:
    verdicts = [
        Seen(at=float(n), gpu="ab"[n % 2], judge_seconds=0.5, trace_seconds=1.0, timed=n < 5) for n in range(10)
    ]
    answers = [Seen(at=float(n), tokens=100) for n in range(20)]
    found = rates(verdicts, answers, begin=2.0, end=8.0)
    assert (found["judged_per_minute"], found["timed_per_minute"]) == (70.0, 30.0)
    # The verdict that came as the stretch began was all work from before it.
    assert found["judge_busy_share"] == {"a": pytest.approx(1.5 / 6), "b": pytest.approx(1.5 / 6)}
    assert found["tracers_a_judge"] == 2.0
    # A judge that is never without a candidate gets through 2 a second; the engine gave 7 answers in 6 seconds.
    assert engines_a_judge(found) == pytest.approx(2.0 / (7 / 6))
    assert engines_a_judge(rates([], answers, begin=2.0, end=8.0)) is None


def test_gaps_and_buckets_tell_how_long_nothing_came() -> None:
    assert longest_gap([1.0, 8.0, 9.0]) == 7.0
    assert longest_gap([]) is None
    assert buckets([Seen(at=101.0), Seen(at=104.9), Seen(at=111.0)], begun=100.0, end=112.0) == [2, 0, 1]

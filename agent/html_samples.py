"""pass@k and fast_p@k of a run whose answers were drawn independently; what is said where they were not.

Decides nothing about the run. Estimators are those of `agent.statistics`, intervals those of `agent.resampling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from agent.html_charts import ChartView
from agent.resampling import Interval, bootstrap_means
from agent.statistics import FAST_P_LEVELS, Draws, share_with_any
from agent.svg_chart import Axis, Series, curve_chart

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0  # of the resampling: the same ledger gives the same page
MAX_KS = 40  # points of a curve


def why_not_independent(config: Mapping[str, Any], *, draws: Mapping[str, Draws] | None) -> str | None:
    """Why pass@k says nothing of this run; None where every answer was drawn independently of the others."""
    strategy = config.get("strategy") or {}
    name = strategy.get("name", "not named")
    if name != "best_of_n" or draws is None:
        return (
            f"The strategy ({name}) decides by what came before, so its samples are not independent and pass@k does "
            "not hold for them. What it reaches with how much stands under Progress; other seeds of the same "
            "configuration would give replicas of that curve."
        )
    if strategy.get("stop_when_passed"):
        return (
            "The strategy stopped at the first pass (stop_when_passed), so the number of samples depends on what they "
            "were, and pass@k would come out too large."
        )
    if not any(drawn.num for drawn in draws.values()):
        return "Nothing was judged."
    return None


def sample_note(draws: Mapping[str, Draws]) -> str:
    """Which problems are counted, and up to which k."""
    counted = [drawn.num for drawn in draws.values() if drawn.num]
    left_out = len(draws) - len(counted)
    least, most = min(counted), max(counted)
    each = f"{most} judged answers each" if least == most else f"{least} to {most} judged answers each, k up to {least}"
    others = f"; {left_out} without any are left out" if left_out else ""
    band = f"The band is the {CONFIDENCE:.0%} interval over problems (percentile bootstrap, {RESAMPLES} resamples)."
    return f"Over {len(counted)} problems with {each}{others}. {band}"


def sample_charts(draws: Mapping[str, Draws]) -> Iterator[ChartView]:
    """pass@k; and where every pass was timed, fast_p@k. Raises ValueError without any answer."""
    counted = [drawn for drawn in draws.values() if drawn.num]
    ks = _ks(min(drawn.num for drawn in counted))
    passed = _intervals([[share_with_any(d.num, d.num_passed, k) for k in ks] for d in counted])
    yield _chart("pass@k", ks=ks, curves={"pass@k": passed}, band=len(counted) > 1)
    if not any(drawn.speedups for drawn in counted) or any(len(d.speedups) != d.num_passed for d in counted):
        return
    curves = {
        f"p = {p:g}": _intervals([[share_with_any(d.num, d.num_faster(p), k) for k in ks] for d in counted])
        for p in FAST_P_LEVELS
    }
    yield _chart("fast_p@k", ks=ks, curves=curves, band=False)


def _chart(name: str, *, ks: Sequence[int], curves: Mapping[str, list[Interval]], band: bool) -> ChartView:
    series = []
    for curve, intervals in curves.items():
        points = tuple((float(k), 100 * i.value) for k, i in zip(ks, intervals, strict=True))
        bounds = tuple((100 * i.low, 100 * i.high) for i in intervals) if band else ()
        series.append(Series(name=curve, points=points, bounds=bounds))
    first, last = next(iter(curves.values()))[0], next(iter(curves.values()))[-1]
    told = f"{first.value:.1%} at k = 1, {last.value:.1%} at k = {ks[-1]}"
    if len(curves) > 1:
        told = f"{next(iter(curves))}: {told}"
    drawing = curve_chart(
        series, name=name, told=told, stepped=False,
        x=Axis(label="k: answers to each problem", least=1.0, whole=True), y=Axis(label="% of problems", most=100.0),
    )  # fmt: skip
    rows = tuple((str(k), *(_cell(intervals[at]) for intervals in curves.values())) for at, k in enumerate(ks))
    return ChartView(name=name, told=told, drawing=drawing, head=("k", *curves), rows=rows)


def _cell(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _intervals(rows: list[list[float]]) -> list[Interval]:
    return bootstrap_means(np.array(rows), seed=SEED, resamples=RESAMPLES, confidence=CONFIDENCE)


def _ks(most: int) -> list[int]:
    """From 1 to `most`, all of them or evenly chosen."""
    if most <= MAX_KS:
        return list(range(1, most + 1))
    return sorted({round(1 + (most - 1) * number / (MAX_KS - 1)) for number in range(MAX_KS)})

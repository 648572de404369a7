"""The charts of an experiment's page: coverage, mean speedup, pass@k, replicas, and published points beside.

Decides nothing. A chart's figures stand below it as a table, for whoever cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from agent.at_k import AtK, passing
from agent.comparison import ArmFigures, Comparison, words_of
from agent.html_charts import ChartView
from agent.published import PublishedTable
from agent.resampling import Interval
from agent.svg_chart import Axis, Mark, Series, curve_chart, figure_text

STYLES = 6  # of curves in the style sheet: more arms are drawn in several charts
NUM_ROWS = 10  # of the table below a coverage chart
KS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
PERCENT = Axis(label="% of problems", most=100.0)


def percent(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def coverage_charts(comparison: Comparison) -> Iterator[ChartView]:
    """The share of problems solved against what each search had spent, by currency. More than two bands over one
    another cannot be told apart, and are left to `paired_coverage_charts`."""
    for currency in comparison.limits:
        for arms in groups(comparison.arms):
            yield _coverage_chart(comparison, arms=arms, currency=currency, bands=len(arms) <= 2)


def paired_coverage_charts(comparison: Comparison) -> Iterator[ChartView]:
    """Where there are many arms: each with its interval beside the reference arm and its."""
    base = next(arm for arm in comparison.arms if arm.arm == comparison.against)
    if len(comparison.arms) <= 2:
        return
    for currency in comparison.limits:
        for arm in comparison.arms:
            if arm is not base:
                yield _coverage_chart(comparison, arms=[base, arm], currency=currency, bands=True)


def speedup_charts(comparison: Comparison) -> Iterator[ChartView]:
    """The mean best speedup so far against what each search had spent, by currency."""
    for currency in comparison.limits:
        for arms in groups(comparison.arms):
            yield _speedup_chart(comparison, arms=arms, currency=currency)


def _speedup_chart(comparison: Comparison, *, arms: Sequence[ArmFigures], currency: str) -> ChartView:
    words = words_of(currency)
    name = f"Mean speedup against {words}"
    found: dict[str, list[Interval]] = {}
    limits: list[float] = []
    for arm in arms:
        limits, found[arm.arm] = comparison.mean_speedup(arm, currency=currency)
    least = min(interval.value for intervals in found.values() for interval in intervals)
    told = "; ".join(f"{arm}: {intervals[-1].value:.2f}x at {limits[-1]:g}" for arm, intervals in found.items())
    drawing = curve_chart(
        [_series(arm, intervals, at=limits, bands=len(arms) <= 2, scale=1.0) for arm, intervals in found.items()],
        name=name, told=told, stepped=True, x=Axis(label=f"{words} spent on each problem"),
        y=Axis(label="geometric mean speedup", least=min(least, 1.0), most=1.0),
    )  # fmt: skip
    rows = tuple((figure_text(limits[at]), *(str(found[arm.arm][at]) for arm in arms)) for at in _row_places(limits))
    return ChartView(name=name, told=told, drawing=drawing, head=(words, *found), rows=rows)


def _row_places(limits: Sequence[float]) -> list[int]:
    """Of the table below a chart against spend."""
    step = max(1, (len(limits) - 1) // NUM_ROWS)
    return [*range(0, len(limits) - 1, step), len(limits) - 1]


def groups(arms: Sequence[ArmFigures]) -> Iterator[Sequence[ArmFigures]]:
    """As many at a time as there are styles."""
    for start in range(0, len(arms), STYLES):
        yield arms[start : start + STYLES]


def _coverage_chart(comparison: Comparison, *, arms: Sequence[ArmFigures], currency: str, bands: bool) -> ChartView:
    words = words_of(currency)
    which = f": {arms[1].arm} beside {arms[0].arm}" if bands and len(arms) == 2 else ""
    name = f"Problems solved against {words}{which}"
    found: dict[str, list[Interval]] = {}
    limits: list[float] = []
    for arm in arms:
        limits, found[arm.arm] = comparison.coverage(arm, currency=currency)
    drawing, told = _curves(
        found, at=limits, name=name, x=Axis(label=f"{words} spent on each problem"), stepped=True, bands=bands
    )
    rows = tuple(
        (figure_text(limits[at]), *(percent(found[arm.arm][at]) for arm in arms)) for at in _row_places(limits)
    )
    return ChartView(name=name, told=told, drawing=drawing, head=(words, *found), rows=rows)


def replica_charts(comparison: Comparison) -> Iterator[ChartView]:
    """The share of problems that one of k replicas solves."""
    num = len(comparison.seeds)
    if num < 2:
        return
    ks = [float(k) for k in range(1, num + 1)]
    for arms in groups(comparison.arms):
        found = {arm.arm: comparison.replica_curve(arm) for arm in arms}
        name = "Problems solved by one of k replicas"
        x = Axis(label="k: whole searches with other seeds, k budgets", least=1.0, whole=True)
        drawing, told = _curves(found, at=ks, name=name, x=x, stepped=False, bands=len(arms) <= 2)
        rows = tuple((f"{k:g}", *(percent(found[arm.arm][at]) for arm in arms)) for at, k in enumerate(ks))
        yield ChartView(name=name, told=told, drawing=drawing, head=("k", *found), rows=rows)


def pass_at_k(comparison: Comparison) -> dict[str, dict[int, AtK]]:
    """By arm with independent answers: pass@k at some k, up to as many answers as nearly every problem has."""
    return {arm.arm: comparison.at_k(arm, ks=KS, estimate=passing) for arm in comparison.arms if arm.draws is not None}


def pass_at_k_charts(comparison: Comparison) -> Iterator[ChartView]:
    found = pass_at_k(comparison)
    names = list(found)
    for start in range(0, len(names), STYLES):
        some = {name: found[name] for name in names[start : start + STYLES]}
        yield _pass_chart(some, name="pass@k", marks=())


def published_chart(comparison: Comparison, *, table: PublishedTable) -> ChartView:
    """The published points as marks beside what was measured here, under a name of their own."""
    found = dict(list(pass_at_k(comparison).items())[:STYLES])
    marks = [
        Mark(x=float(point.k), y=point.score, label=f"{point.model} {point.parameters}")
        for point in table.points
        if point.k is not None
    ]
    return _pass_chart(found, name="pass@k: measured here (curves), published elsewhere (diamonds)", marks=marks)


def _pass_chart(found: Mapping[str, Mapping[int, AtK]], *, name: str, marks: Sequence[Mark]) -> ChartView:
    series = [
        Series(
            name=arm,
            points=tuple((float(k), 100 * at.interval.value) for k, at in by_k.items()),
            bounds=tuple((100 * at.interval.low, 100 * at.interval.high) for at in by_k.values()),
        )
        for arm, by_k in found.items()
    ]
    told = "; ".join(_last_pass(arm, by_k) for arm, by_k in found.items()) or f"{len(marks)} published points"
    drawing = curve_chart(
        series, name=name, told=told, stepped=False, marks=marks, y=PERCENT,
        x=Axis(label="k: answers to each problem", least=1.0, whole=True),
    )  # fmt: skip
    ks = sorted({k for by_k in found.values() for k in by_k})
    rows = tuple((str(k), *(percent(by_k[k].interval) if k in by_k else "" for by_k in found.values())) for k in ks)
    return ChartView(name=name, told=told, drawing=drawing, head=("k", *found), rows=rows)


def _last_pass(arm: str, by_k: Mapping[int, AtK]) -> str:
    last = max(by_k)
    return f"{arm}: {by_k[min(by_k)].interval.value:.1%} at k = 1, {by_k[last].interval.value:.1%} at k = {last}"


def _curves(
    found: Mapping[str, Sequence[Interval]], *, at: Sequence[float], name: str, x: Axis, stepped: bool, bands: bool
) -> tuple[Markup, str]:
    series = [_series(arm, intervals, at=at, bands=bands, scale=100.0) for arm, intervals in found.items()]
    told = "; ".join(f"{arm}: {intervals[-1].value:.1%} at {at[-1]:g}" for arm, intervals in found.items())
    return curve_chart(series, name=name, told=told, stepped=stepped, x=x, y=PERCENT), told


def _series(arm: str, intervals: Sequence[Interval], *, at: Sequence[float], bands: bool, scale: float) -> Series:
    return Series(
        name=arm,
        points=tuple((place, scale * interval.value) for place, interval in zip(at, intervals, strict=True)),
        bounds=tuple((scale * interval.low, scale * interval.high) for interval in intervals) if bands else (),
    )

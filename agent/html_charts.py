"""The charts of the HTML report: which curves and bars are drawn of a run's figures, and what is said where none are.

Decides nothing about the run; a chart's figures stand below it as a table, for whoever cannot see it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from agent.run_figures import CurvePoint, RunFigures
from agent.run_record import RunRecord
from agent.svg_chart import Axis, Series, curve_chart, figure_text, histogram, histogram_counts
from sandbox.types import Spend

SPEEDUP_EDGES = (0.0, 0.25, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, math.inf)
MAX_ROWS = 12  # of the table below a chart


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartView:
    """A chart, and its figures as a table."""

    name: str
    told: str
    drawing: Markup
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def progress_charts(figures: RunFigures, *, num_problems: int) -> Iterator[ChartView]:
    """Best so far against each currency that was spent."""
    currencies: dict[str, tuple[Callable[[Spend], float], Sequence[CurvePoint]]] = {
        "samples": (lambda spend: spend.samples, figures.curve_by_answers),
        "tokens": (lambda spend: spend.tokens, figures.curve_by_answers),
        "GPU seconds": (lambda spend: spend.gpu_seconds, figures.curve_by_verdicts),
        "wall seconds": (lambda spend: spend.wall_seconds, figures.curve_by_verdicts),
    }
    used = {name: (of, curve) for name, (of, curve) in currencies.items() if of(curve[-1].spend) > 0}
    for name, (of, curve) in used.items():
        yield _solved_chart(curve, currency=name, of=of, num_problems=num_problems)
    for name, (of, curve) in used.items():
        if curve[-1].mean_speedup is not None:
            yield _speedup_chart(curve, currency=name, of=of)


def _solved_chart(
    curve: Sequence[CurvePoint], *, currency: str, of: Callable[[Spend], float], num_problems: int
) -> ChartView:
    points = tuple((float(of(point.spend)), float(point.num_solved)) for point in curve)
    last = curve[-1]
    name = f"Problems solved against {currency}"
    told = f"{last.num_solved} of {num_problems} after {figure_text(of(last.spend))} {currency}"
    drawing = curve_chart(
        [Series(name="solved", points=points)], name=name, told=told, stepped=True,
        x=Axis(label=f"{currency}, all problems together"),
        y=Axis(label="problems solved", most=num_problems, whole=True),
    )  # fmt: skip
    rows = tuple((figure_text(x), f"{y:.0f}") for x, y in _thinned(points))
    return ChartView(name=name, told=told, drawing=drawing, head=(currency, "solved"), rows=rows)


def _speedup_chart(curve: Sequence[CurvePoint], *, currency: str, of: Callable[[Spend], float]) -> ChartView:
    points = tuple((float(of(point.spend)), point.mean_speedup or 1.0) for point in curve)
    name = f"Mean speedup against {currency}"
    told = f"{points[-1][1]:.2f}x after {figure_text(points[-1][0])} {currency}"
    drawing = curve_chart(
        [Series(name="geometric mean", points=points)], name=name, told=told, stepped=True,
        x=Axis(label=f"{currency}, all problems together"),
        y=Axis(label="geometric mean speedup", least=points[0][1], most=1.0),
    )  # fmt: skip
    rows = tuple((figure_text(x), f"{y:.2f}x") for x, y in _thinned(points))
    return ChartView(name=name, told=told, drawing=drawing, head=(currency, "mean speedup"), rows=rows)


def speedup_charts(record: RunRecord) -> Iterator[ChartView]:
    """How fast the winners are, and which share of all problems is faster than a given speedup."""
    speedups = sorted(r.winner.speedup for r in record.results if r.winner is not None and r.winner.timed)
    if not speedups:
        return
    num_problems = len(record.results)
    name, told = "Speedups of the winners", f"{len(speedups)} timed, from {speedups[0]:.2f}x to {speedups[-1]:.2f}x"
    drawing = histogram(
        speedups, edges=SPEEDUP_EDGES, name=name, told=told, x=Axis(label="speedup"),
        y=Axis(label="problems", whole=True),
    )  # fmt: skip
    counts = histogram_counts(speedups, edges=SPEEDUP_EDGES)
    ranges = itertools.pairwise(SPEEDUP_EDGES)
    rows = tuple((f"{low:g}x to {high:g}x", str(count)) for (low, high), count in zip(ranges, counts, strict=True))
    yield ChartView(name=name, told=told, drawing=drawing, head=("speedup", "problems"), rows=rows)
    yield _faster_chart(speedups, num_problems=num_problems)


def _faster_chart(speedups: Sequence[float], *, num_problems: int) -> ChartView:
    """fast_p with whatever the run found: the share of problems with a winner faster than p."""
    at = (0.0, *speedups)
    points = tuple((p, 100 * sum(speedup > p for speedup in speedups) / num_problems) for p in at)
    name = "Share of problems faster than p"
    faster = {p: sum(speedup > p for speedup in speedups) / num_problems for p in (1.0, 1.2, 1.5, 2.0)}
    told = ", ".join(f"{share:.0%} above {p:g}x" for p, share in faster.items())
    drawing = curve_chart(
        [Series(name="winners", points=points)], name=name, told=told, stepped=True,
        x=Axis(label="p: speedup"), y=Axis(label="% of all problems", most=100.0),
    )  # fmt: skip
    rows = tuple((f"{p:g}x", f"{share:.1%}") for p, share in faster.items())
    return ChartView(name=name, told=told, drawing=drawing, head=("p", "share of problems"), rows=rows)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_ROWS`, the first and the last among them."""
    if len(points) <= MAX_ROWS:
        return list(points)
    step = (len(points) - 1) / (MAX_ROWS - 1)
    return [points[round(number * step)] for number in range(MAX_ROWS)]

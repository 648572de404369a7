"""Charts show the figures they are given, and nothing that is written in one can break out of it."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from agent.svg_chart import (
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    WIDTH,
    Axis,
    Mark,
    Series,
    curve_chart,
    figure_text,
    histogram,
    histogram_counts,
    nice_ticks,
    share_bar,
)

X, Y = Axis(label="tokens"), Axis(label="solved")


def parsed(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)


def test_a_stepped_curve_holds_its_value_until_the_next_point() -> None:
    series = Series(name="one", points=((0, 0), (5, 10), (10, 10)))
    drawing = parsed(curve_chart([series], name="n", told="t", x=X, y=Y, stepped=True))
    (path,) = [p for p in drawing.findall("path") if "curve" in p.get("class", "")]
    middle = (LEFT + WIDTH - RIGHT) / 2
    assert path.get("d") == f"M{LEFT}.0 174.0H{middle}V12.0H{WIDTH - RIGHT}.0V12.0"


def test_bounds_are_a_band_around_the_curve() -> None:
    series = Series(name="s", points=((0, 5), (10, 5)), bounds=((0, 10), (5, 5)))
    drawing = parsed(curve_chart([series], name="n", told="t", x=X, y=Axis(label="y", most=10), stepped=False))
    (band,) = [p.get("d") for p in drawing.findall("path") if p.get("class") == "band s0"]
    assert band == f"M{LEFT}.0 12.0L{WIDTH - RIGHT}.0 93.0L{WIDTH - RIGHT}.0 93.0L{LEFT}.0 174.0Z"
    with pytest.raises(ValueError, match="1 bounds on 2 points"):
        Series(name="s", points=((0, 5), (10, 5)), bounds=((0, 10),))


def test_names_are_escaped_and_are_the_text_alternative() -> None:
    hostile = "</svg><img src=x onerror=alert(1)>"
    series = [Series(name=hostile, points=((0, 1),)), Series(name="b", points=((0, 2),))]
    drawing = parsed(curve_chart(series, name=hostile, told="told", x=Axis(label=hostile), y=Y, stepped=True))
    assert {element.tag for element in drawing.iter()} == {"svg", "title", "desc", "path", "text"}
    assert drawing.get("role") == "img"
    assert drawing.get("aria-label") == f"{hostile}: told"


def test_a_curve_of_many_points_is_thinned_and_keeps_its_ends() -> None:
    points = tuple((float(x), float(x)) for x in range(10 * MAX_POINTS))
    drawing = parsed(curve_chart([Series(name="s", points=points)], name="n", told="t", x=X, y=Y, stepped=False))
    (path,) = [p.get("d", "") for p in drawing.findall("path") if "curve" in p.get("class", "")]
    assert path.count("L") == MAX_POINTS
    assert path.endswith(f"L{WIDTH - RIGHT}.0 12.0")


@pytest.mark.parametrize("points", [(), ((0.0, math.nan),), ((math.inf, 1.0),)])
def test_a_curve_without_finite_points_is_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="finite"):
        Series(name="s", points=points)


@pytest.mark.parametrize(
    ("low", "high", "whole", "ticks"),
    [
        (0, 17, True, (0, 5, 10, 15)),
        (0, 2, True, (0, 1, 2)),
        (0, 1, False, (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (0, 129_093, False, (0, 50_000, 100_000)),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, whole: bool, ticks: tuple[float, ...]) -> None:
    assert nice_ticks(low, high, whole=whole) == pytest.approx(ticks)


def test_a_histogram_counts_what_lies_outside_in_the_outermost_bars() -> None:
    edges = (0.0, 1.0, 2.0, math.inf)
    assert histogram_counts([-1.0, 0.5, 1.0, 1.99, 7.0], edges=edges) == [2, 2, 1]
    drawing = parsed(histogram([0.5, 1.5, 1.6], edges=edges, name="n", told="t", x=X, y=Y))
    heights = [float(bar.get("height", "")) for bar in drawing.findall("rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[2] == 0
    assert max(heights) < HEIGHT


def test_a_bar_of_shares_is_never_longer_than_its_whole() -> None:
    drawing = parsed(share_bar([("a", 0.75), ("b", 0.5)]))
    assert [(r.get("x"), r.get("width")) for r in drawing.findall("rect")] == [("0.0", "75.0"), ("75.0", "25.0")]


def test_large_figures_are_short() -> None:
    assert [figure_text(value) for value in (0, 0.25, 950, 129_093, 2.5e6, 3e9)] == [
        "0", "0.25", "950", "129k", "2.5M", "3G",
    ]  # fmt: skip


def test_marks_stand_by_themselves_with_names_that_do_not_lie_on_one_another() -> None:
    marks = [Mark(x=1, y=y, label=f"<m{number}>") for number, y in enumerate((1.0, 0.5, 0.4, 99.0))]
    axis = Axis(label="%", most=100.0)
    drawing = parsed(curve_chart([], name="n", told="t", x=X, y=axis, stepped=False, marks=marks))
    diamonds = [p for p in drawing.findall("path") if p.get("class") == "mark"]
    names = {t.text: float(t.get("y", "")) for t in drawing.findall("text") if (t.text or "").startswith("<m")}
    assert len(diamonds) == 4
    assert set(names) == {"<m0>", "<m1>", "<m2>", "<m3>"}
    places = sorted(names.values())
    assert min(later - earlier for earlier, later in pairwise(places)) >= 9.9
    assert places[-1] < HEIGHT - 36, "above the axis"
    assert names["<m3>"] < names["<m0>"] < names["<m1>"] < names["<m2>"], "in the order of their marks"


def test_a_legend_stands_where_curves_are_not() -> None:
    rising, low = ((0, 0), (5, 90), (10, 100)), ((0, 0), (5, 2), (10, 5))
    for points, below in ((rising, True), (low, False)):
        series = [Series(name=name, points=points) for name in ("one", "two")]
        drawing = parsed(curve_chart(series, name="n", told="t", x=X, y=Axis(label="%", most=100.0), stepped=False))
        (place,) = [float(t.get("y", "")) for t in drawing.findall("text") if t.text == "one"]
        assert (place > HEIGHT / 2) is below

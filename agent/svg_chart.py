"""Draws small charts as inline SVG: curves and histograms, their colours left to the page's style sheet.

Our own few lines rather than matplotlib's: a chart is 2 KB instead of 30, follows the page between light and dark,
needs no style attribute (which the page's content security policy forbids), and adds no dependency. Knows nothing of
runs. Charts are drawn for a width of 360, so that their letters stay readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 42, 14, 12, 36  # margins
NUM_TICKS = 5
MAX_POINTS = 400  # of one curve: more cannot be told apart at this width
CHARACTER_WIDTH = 5.2
NAME_HEIGHT, NAME_GAP = 10.0, 14.0  # of the names beside marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A named curve. `points` rise in x; `bounds` are the low and high end of an interval at each, or none at all."""

    name: str
    points: tuple[tuple[float, float], ...]
    bounds: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if len(self.bounds) not in (0, len(self.points)):
            raise ValueError(f"series {self.name!r} has {len(self.bounds)} bounds on {len(self.points)} points")
        if not self.points or not all(math.isfinite(value) for point in self.points for value in point):
            raise ValueError(f"series {self.name!r} needs points, all of them finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point that stands by itself, with its name beside: no curve goes through it."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What is drawn along one side. `least` and `most` are drawn even where no point is; `whole`: counts only."""

    label: str
    least: float = 0.0
    most: float = 0.0
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """From figures between `low` and `high` to places between `start` and `end`."""

    low: float
    high: float
    ticks: tuple[float, ...]
    start: float
    end: float

    def at(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def curve_chart(
    series: Sequence[Series], *, name: str, told: str, x: Axis, y: Axis, stepped: bool, marks: Sequence[Mark] = ()
) -> Markup:
    """Curves over one pair of axes. `name` and `told` are its text alternative. `stepped`: a value holds until the
    next point, and to the right end."""
    values = [point for one in series for point in one.points] + [(mark.x, mark.y) for mark in marks]
    across = _scale([p[0] for p in values], axis=x, start=LEFT, end=WIDTH - RIGHT)
    up = _scale([p[1] for p in values], axis=y, start=HEIGHT - BOTTOM, end=TOP)
    parts = [*_frame(across, up, x=x, y=y)]
    for number, one in enumerate(series):
        if one.bounds:
            band = _band(one, across=across, up=up)
            parts.append(Markup('<path class="band s{}" d="{}"/>').format(number, band))
        path = _path(one.points, across=across, up=up, stepped=stepped)
        parts.append(Markup('<path class="curve s{}" d="{}"/>').format(number, path))
    parts.extend(_marks(marks, across=across, up=up))
    if len(series) > 1 or (series and marks):
        busy = [(across.at(place[0]), up.at(place[1])) for place in values]
        parts.append(_legend([one.name for one in series], busy=busy))
    return _svg(parts, name=name, told=told)


def histogram(values: Sequence[float], *, edges: Sequence[float], name: str, told: str, x: Axis, y: Axis) -> Markup:
    """Counts between edges, drawn at equal widths with the edges written below, so that they may rise in any way.
    A value below the first edge or from the last one on is counted in the outermost bar."""
    counts = histogram_counts(values, edges=edges)
    up = _scale([float(max(counts))], axis=y, start=HEIGHT - BOTTOM, end=TOP)
    across = _Scale(low=0.0, high=float(len(counts)), ticks=(), start=LEFT, end=WIDTH - RIGHT)
    parts = [*_grid(up), *_labels(x=x, y=y)]
    for number, count in enumerate(counts):
        left, right, top = across.at(number) + 1, across.at(number + 1) - 1, up.at(count)
        height = round(HEIGHT - BOTTOM - top, 1)
        bar = '<rect class="bar s0" x="{}" y="{}" width="{}" height="{}"/>'
        parts.append(Markup(bar).format(round(left, 1), top, round(right - left, 1), height))
        if count:
            middle = round((left + right) / 2, 1)
            parts.append(Markup('<text class="mid" x="{}" y="{}">{}</text>').format(middle, top - 2, count))
    for number, edge in enumerate(edges[1:-1], start=1):
        place = across.at(number)
        parts.append(
            Markup('<text class="mid" x="{}" y="{}">{}</text>').format(place, HEIGHT - BOTTOM + 12, f"{edge:g}")
        )
    return _svg(parts, name=name, told=told)


def histogram_counts(values: Sequence[float], *, edges: Sequence[float]) -> list[int]:
    """How many values lie from each edge to below the next; what lies outside counts in the outermost."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        place = sum(value >= edge for edge in edges[1:-1])
        counts[place] += 1
    return counts


def share_bar(shares: Sequence[tuple[str, float]]) -> Markup:
    """A bar of parts: (class of the style sheet, share of the whole). Decoration: the figures stand beside it."""
    parts, left = [], 0.0
    for kind, share in shares:
        width = max(0.0, min(share, 1.0 - left)) * 100
        rect = '<rect class="{}" x="{}" y="0" width="{}" height="8"/>'
        parts.append(Markup(rect).format(kind, round(left * 100, 2), round(width, 2)))
        left += width / 100
    opened = '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
    return Markup(opened) + Markup("").join(parts) + Markup("</svg>")


def nice_ticks(low: float, high: float, *, whole: bool) -> tuple[float, ...]:
    """Round figures from `low` to `high`, both included, at most `NUM_TICKS` steps of 1, 2 or 5 powers of ten apart."""
    rough = (high - low) / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(number * step for number in range(first, last + 1))


def figure_text(value: float) -> str:
    """1200000 as 1.2M; short enough for an axis."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _scale(values: Sequence[float], *, axis: Axis, start: float, end: float) -> _Scale:
    low, high = min([axis.least, *values]), max([axis.most, *values])
    if high <= low:
        high = low + 1.0
    return _Scale(low=low, high=high, ticks=nice_ticks(low, high, whole=axis.whole), start=start, end=end)


def _path(points: Sequence[tuple[float, float]], *, across: _Scale, up: _Scale, stepped: bool) -> str:
    if len(points) > MAX_POINTS:
        every = len(points) / MAX_POINTS
        points = [*(points[int(number * every)] for number in range(MAX_POINTS)), points[-1]]
    (x, y), *rest = points
    drawn = [f"M{across.at(x)} {up.at(y)}"]
    for x, y in rest:
        drawn.append(f"H{across.at(x)}V{up.at(y)}" if stepped else f"L{across.at(x)} {up.at(y)}")
    if stepped and len(points) == 1:
        drawn.append(f"H{across.end}")
    return "".join(drawn)


def _band(series: Series, *, across: _Scale, up: _Scale) -> str:
    """Along the upper bounds and back along the lower ones."""
    xs = [x for x, _ in series.points]
    upper = [f"{across.at(x)} {up.at(high)}" for x, (_, high) in zip(xs, series.bounds, strict=True)]
    lower = [f"{across.at(x)} {up.at(low)}" for x, (low, _) in zip(xs, series.bounds, strict=True)]
    return f"M{'L'.join([*upper, *reversed(lower)])}Z"


def _marks(marks: Sequence[Mark], *, across: _Scale, up: _Scale) -> Iterator[Markup]:
    """Hollow diamonds, so that they are taken for no curve's points."""
    for x in dict.fromkeys(mark.x for mark in marks):
        column = sorted((mark for mark in marks if mark.x == x), key=lambda mark: -mark.y)
        left, middles = across.at(x), [up.at(mark.y) for mark in column]
        for mark, middle, place in zip(column, middles, _apart([m + 3 for m in middles]), strict=True):
            yield Markup('<path class="mark" d="M{} {}l4 4l-4 4l-4 -4Z"/>').format(left, round(middle - 4, 1))
            ends = left + NAME_GAP + len(mark.label) * CHARACTER_WIDTH > WIDTH  # there is no room on the right
            side, anchor = (-1, "end label") if ends else (1, "label")
            where = round(left + side * NAME_GAP, 1)
            leads = '<path class="grid" d="M{} {}L{} {}"/>'
            yield Markup(leads).format(left + side * 4, middle, where - side * 2, round(place - 3, 1))
            text = '<text class="{}" x="{}" y="{}">{}</text>'
            yield Markup(text).format(anchor, where, round(place, 1), mark.label)


def _apart(places: Sequence[float]) -> list[float]:
    """Names that would lie on one another moved down, and up again where they would leave the chart."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + NAME_HEIGHT) if found else place)
    lowest = HEIGHT - BOTTOM - 2.0
    for number in reversed(range(len(found))):
        found[number] = min(found[number], lowest)
        lowest = found[number] - NAME_HEIGHT
    return found


def _frame(across: _Scale, up: _Scale, *, x: Axis, y: Axis) -> Iterator[Markup]:
    yield from _grid(up)
    for tick in across.ticks:
        text = '<text class="mid" x="{}" y="{}">{}</text>'
        yield Markup(text).format(across.at(tick), HEIGHT - BOTTOM + 12, figure_text(tick))
    yield from _labels(x=x, y=y)


def _grid(up: _Scale) -> Iterator[Markup]:
    for tick in up.ticks:
        place = up.at(tick)
        yield Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, place, WIDTH - RIGHT)
        yield Markup('<text class="end" x="{}" y="{}">{}</text>').format(LEFT - 4, place + 3, figure_text(tick))


def _labels(*, x: Axis, y: Axis) -> Iterator[Markup]:
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    yield Markup('<text class="mid label" x="{}" y="{}">{}</text>').format(middle_x, HEIGHT - 6, x.label)
    turned = '<text class="mid label" transform="translate(9 {}) rotate(-90)">{}</text>'
    yield Markup(turned).format(middle_y, y.label)


def _legend(names: Sequence[str], *, busy: Sequence[tuple[float, float]]) -> Markup:
    """In the lower right corner or the upper left, where fewer `busy` places are: curves that rise leave one free."""
    wide, high = max(len(name) for name in names) * CHARACTER_WIDTH + 22, 13 * len(names) + 6
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    num_right = sum(x > right - wide and y > bottom - high for x, y in busy)
    num_left = sum(x < LEFT + wide and y < TOP + high for x, y in busy)
    left, lowest = (LEFT + 6, TOP + high - 6) if num_left < num_right else (right - wide, bottom - 8)
    parts = []
    for number, name in enumerate(names):
        place = lowest - 13 * (len(names) - 1 - number)
        parts.append(Markup('<path class="curve s{}" d="M{} {}h14"/>').format(number, round(left, 1), place - 3))
        parts.append(Markup('<text x="{}" y="{}">{}</text>').format(round(left + 18, 1), place, name))
    return Markup("").join(parts)


def _svg(parts: Sequence[Markup], *, name: str, told: str) -> Markup:
    """`role=img` with a name and a description, so that a screen reader says those instead of the numbers' heap."""
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>')
    return head.format(WIDTH, HEIGHT, f"{name}: {told}", name, told) + Markup("").join(parts) + Markup("</svg>")

"""What may be set otherwise in how a candidate launches its kernels, and its text with other numbers written in.

Knows nothing of who chooses the numbers, or whether a kernel is right under them: what is written out is judged like
any candidate. `launch_knobs` finds what is described here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Point = Mapping[str, int]  # a number for each knob, by its name

# Elements of one program. Larger tiles take the compiler minutes and spill.
MAX_TILE_ELEMENTS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a number goes: in the stead of `start` to `end`, in characters, between `before` and `after`.

    An `optional` place stays as it is while the number is the one that holds without it.
    """

    start: int
    end: int
    before: str = ""
    after: str = ""
    optional: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end or (self.optional and self.start != self.end):
            raise ValueError(f"no number goes from {self.start} to {self.end}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One number that is free. `value` is what holds now, None where nobody can tell; `values` are those to try."""

    name: str
    value: int | None
    values: tuple[int, ...]
    places: tuple[Place, ...]

    def __post_init__(self) -> None:
        if not self.places or len(set(self.values)) < 2:
            raise ValueError(f"knob {self.name} needs a place and two values")
        if self.value is not None and self.value not in self.values:
            raise ValueError(f"knob {self.name}: {self.value} is none of its values")


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The knobs of one source text. `tiles` names, for each launch, the knobs whose product is a program's tile."""

    source: str
    knobs: tuple[Knob, ...]
    tiles: tuple[tuple[str, ...], ...] = ()

    @property
    def current(self) -> Point | None:
        """The point that the text itself is at; None where some number is not known."""
        point = {knob.name: knob.value for knob in self.knobs if knob.value is not None}
        return point if len(point) == len(self.knobs) else None

    def allows(self, point: Point) -> bool:
        """Whether no tile is larger than MAX_TILE_ELEMENTS, or than it is now."""
        for names in self.tiles:
            held = [knob.value for name in names for knob in self.knobs if knob.name == name and knob.value is not None]
            if math.prod(point[name] for name in names) > max(MAX_TILE_ELEMENTS, math.prod(held)):
                return False
        return True

    def at(self, point: Point) -> str:
        """The text with the numbers of `point` written in."""
        parts, after = [], 0
        for place, knob in self._places():
            parts.append(self.source[after : place.start])
            if not (place.optional and point[knob.name] == knob.value):
                parts.append(f"{place.before}{point[knob.name]}{place.after}")
            after = place.end
        return "".join([*parts, self.source[after:]])

    def point_of(self, text: str) -> Point | None:
        """The inverse of `at`. None for a text that differs in more than the knobs' numbers."""
        pattern, after = "", 0
        group_of = {knob.name: f"k{number}" for number, knob in enumerate(self.knobs)}
        met: set[str] = set()
        for place, knob in self._places():
            group = group_of[knob.name]
            number = f"(?P={group})" if group in met else rf"(?P<{group}>\d+)"
            met.add(group)
            told = f"{re.escape(place.before)}{number}{re.escape(place.after)}"
            pattern += re.escape(self.source[after : place.start]) + (f"(?:{told})?" if place.optional else told)
            after = place.end
        match = re.fullmatch(pattern + re.escape(self.source[after:]), text)
        if match is None:
            return None
        point: dict[str, int] = {}
        for knob in self.knobs:
            found = match.group(group_of[knob.name])
            value = knob.value if found is None else int(found)
            if value not in knob.values:
                return None
            point[knob.name] = value
        return point

    def _places(self) -> Sequence[tuple[Place, Knob]]:
        """In the order of the text; of those at one place, in the order of the knobs."""
        places = [(place, knob) for knob in self.knobs for place in knob.places]
        return sorted(places, key=lambda item: (item[0].start, item[0].end))

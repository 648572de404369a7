"""Shapes of a problem's tensors and the names of their sizes.

A shape is drawn once for both sizes: "small" is quick to interpret on a CPU, "large" is what a GPU is timed on. The
same draws are made for either, so that a problem differs in its numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Size = Literal["small", "large"]

_NAMES = {
    1: (("n",), ("size",), ("length",)),
    2: (("batch_size", "dim"), ("rows", "cols"), ("M", "N"), ("batch", "features"), ("batch_size", "hidden")),
    3: (("batch_size", "seq_len", "dim"), ("depth", "M", "N"), ("batch", "channels", "length")),
    4: (("batch_size", "channels", "height", "width"), ("N", "C", "H", "W")),
}


_ROUND = (32, 64, 128) * 30  # as often as any odd ones together, nearly


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes with their names. `inline` ones are written as numbers, and no constants are made for them."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    inline: bool

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(map(str, self.values)) if self.inline else self.names

    @property
    def text(self) -> str:
        return ", ".join(self.texts)

    @property
    def constants(self) -> tuple[tuple[str, int], ...]:
        return () if self.inline else tuple(zip(self.names, self.values, strict=True))

    @property
    def num_elements(self) -> int:
        return math.prod(self.values)


def pick(rng: Random, *, small: Sequence[int], large: Sequence[int], size: Size) -> int:
    """One of the options; either size takes one draw."""
    options = small if size == "small" else large
    return options[int(rng.random() * len(options))]


def name_shape(rng: Random, values: Sequence[int]) -> Shape:
    """`values` under names that fit their number; a sixth are written as numbers."""
    return Shape(names=rng.choice(_NAMES[len(values)]), values=tuple(values), inline=rng.random() < 0.17)


def draw_shape(rng: Random, rank: int, size: Size, *, rows: bool = False) -> Shape:
    """A shape of that rank. `rows` asks for few short rows, as one program walks along each."""
    first = (*range(2, 20), 4, 8, 16) if rows else (*range(4, 40), 8, 16, 32)
    last = (*range(20, 260), *_ROUND) if rows else (*range(24, 300), *_ROUND)
    match rank:
        case 1:
            values = [
                pick(
                    rng,
                    small=(*range(500, 4000, 7), *(1024, 2048, 4096) * 60),
                    large=(1 << 24, 10_000_000),
                    size=size,
                )
            ]
        case 2:
            values = [
                pick(rng, small=first, large=(1024, 2048, 4096), size=size),
                pick(rng, small=last, large=(1024, 4096, 8192, 16384), size=size),
            ]
        case 3:
            values = [
                pick(rng, small=range(2, 7), large=(16, 32), size=size),
                pick(rng, small=range(3, 14), large=(256, 512), size=size),
                pick(rng, small=(*range(16, 100), *_ROUND[:60]), large=(512, 1024, 2048), size=size),
            ]
        case _:
            values = [
                pick(rng, small=range(1, 5), large=(16, 32), size=size),
                pick(rng, small=range(2, 10), large=(64, 128), size=size),
                side := pick(rng, small=range(5, 13), large=(64, 128, 112), size=size),
                side,
            ]
    return name_shape(rng, values)


def draw_input(rng: Random, shape: Shape) -> str:
    """The expression of an input of that shape."""
    return f"torch.{'rand' if rng.random() < 0.3 else 'randn'}({shape.text})"

"""Windows over the last one or two dimensions: their maximum or their mean."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from standin.answer_text import Answer, Dialect
from standin.families.flat import flat_kernel, flat_launch
from standin.operations import ACTIVATIONS, Step, draw_names, draw_steps, triton_lines
from standin.problem_text import Module, write_steps
from standin.shapes import Shape, Size, name_shape, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    module: Module
    shape: Shape
    maximum: bool
    window: int
    stride: int
    padding: int
    steps: tuple[Step, ...]

    @property
    def flat(self) -> bool:
        """Whether the window runs over one dimension."""
        return len(self.shape.values) == 3

    def _pooled(self, length: int) -> int:
        return (length + 2 * self.padding - self.window) // self.stride + 1

    def answer(self, rng: Random, dialect: Dialect) -> Answer:
        (pointer,) = dialect.pointers(["x"])
        start = (
            'tl.full([{b}], -float("inf"), dtype=tl.float32)' if self.maximum else "tl.zeros([{b}], dtype=tl.float32)"
        )
        after, result = triton_lines(self.steps, "acc", rng)
        lines = [*self._places(dialect), f"acc = {start.format(b=dialect.block)}", *self._window(pointer, dialect)]
        if not self.maximum:
            lines.append(f"acc = acc / {self.window if self.flat else self.window**2}")
        name = rng.choice(("pool_kernel", f"{'max' if self.maximum else 'avg'}_pool_kernel"))
        sizes = ["length", "length_out"] if self.flat else ["height", "width", "height_out", "width_out"]
        text = flat_kernel(name, [pointer], [*lines, *after], result, dialect, sizes=sizes)
        pooled = [self._pooled(v) for v in self.shape.values[-(1 if self.flat else 2) :]]
        body = self._body(name, sizes, pooled, dialect, rng)
        return Answer(kernels=(text,), body=tuple(body), arguments=(("x", "x"),), style=dialect.name)

    def _places(self, d: Dialect) -> list[str]:
        if self.flat:
            return [f"row = {d.index} // length_out", f"col = {d.index} % length_out"]
        return [
            f"col = {d.index} % width_out",
            f"row = ({d.index} // width_out) % height_out",
            f"plane = {d.index} // (width_out * height_out)",
        ]

    def _at(self, place: str, step: str) -> str:
        scaled = f"{place} * {self.stride}" if self.stride > 1 else place
        return f"{scaled} + {step}{f' - {self.padding}' if self.padding else ''}"

    def _window(self, pointer: str, d: Dialect) -> list[str]:
        padded, other = self.padding > 0, '-float("inf")' if self.maximum else "0.0"
        update = "acc = tl.maximum(acc, val)" if self.maximum else "acc += val"
        if self.flat:
            inside = f"{d.mask} & (pos >= 0) & (pos < length)" if padded else d.mask
            return [
                f"for i in range({self.window}):",
                f"    pos = {self._at('col', 'i')}",
                f"    val = tl.load({pointer} + row * length + pos, mask={inside}, other={other})",
                f"    {update}",
            ]
        inside = f"{d.mask} & (ih >= 0) & (ih < height) & (iw >= 0) & (iw < width)" if padded else d.mask
        return [
            f"for i in range({self.window}):",
            f"    for j in range({self.window}):",
            f"        ih = {self._at('row', 'i')}",
            f"        iw = {self._at('col', 'j')}",
            f"        at = plane * height * width + ih * width + iw",  # noqa: F541  the others are formatted too
            f"        val = tl.load({pointer} + at, mask={inside}, other={other})",
            f"        {update}",
        ]

    def _body(self, name: str, sizes: list[str], pooled: list[int], dialect: Dialect, rng: Random) -> list[str]:
        values, names = self.shape.values, ("batch", "channels", *sizes[: len(sizes) // 2])
        if dialect.literal:
            given, shape, lines = [*map(str, values[2:]), *map(str, pooled)], [*map(str, values[:2])], []
        else:
            given, shape = list(sizes), list(names[:2])
            lines = [f"{', '.join(names)} = {{x}}.shape"]
            add = 2 * self.padding - self.window
            extra = f"{'+' if add >= 0 else '-'} {abs(add)}"
            lines += [f"{side}_out = ({side} {extra}) // {self.stride} + 1" for side in names[2:]]
        out = ", ".join([*shape, *given[len(given) // 2 :]])
        elements = values[0] * values[1]
        for length in pooled:
            elements *= length
        launch = flat_launch(
            name, ["{x}"], dialect, rng, num_elements=elements, sizes=given,
            allocate=f"torch.empty(({out}), device={{x}}.device, dtype={{x}}.dtype)",
        )  # fmt: skip
        return [*lines, *launch]


class PoolingFamily:
    name, weight = "pooling", 5.0

    def draw(self, rng: Random) -> tuple[str, ...]:
        pool = f"{rng.choice(('max', 'avg'))}_pool{rng.choice((1, 2))}d"
        window = rng.choice((2, 3, 3, 4))
        stride, padding = rng.choice((1, 2, window)), rng.choice((0, 0, 1))
        return (f"{pool}_{window}_{stride}_{padding}", *draw_names(rng, rng.choice((0, 0, 1)), among=ACTIVATIONS))

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> Pooling:
        kind, pool, *numbers = operations[0].split("_")
        window, stride, padding = map(int, numbers)
        flat = pool == "pool1d"
        values = [pick(rng, small=range(1, 6), large=(16, 32), size=size)]
        values.append(pick(rng, small=range(2, 7), large=(64, 128), size=size))
        sides = (pick(rng, small=range(24, 80), large=(4096, 8192), size=size),) if flat else ()
        side = pick(rng, small=range(8, 18), large=(128, 256), size=size)
        shape = name_shape(rng, [*values, *(sides or (side, side))])
        steps = draw_steps(rng, operations[1:])
        given = f"{window}, stride={stride}{f', padding={padding}' if padding else ''}"
        owned = rng.random() < 0.6
        call = f"self.pool(x)" if owned else f"F.{kind}_pool{pool[-2:]}(x, {given})"  # noqa: F541
        made = f"self.pool = nn.{kind.capitalize()}Pool{pool[-2:]}({given})"
        stateless, rest, final = write_steps(steps, "x", rng)
        module = Module(
            forward=("x",),
            lines=(f"x = {call}", *rest, f"return {final}") if steps else (f"return {call}",),
            inputs=(("x", f"torch.randn({shape.text})"),),
            sizes=shape.constants,
            stateless=(*((made,) if owned else ()), *stateless),
            doc=f"{'Max' if kind == 'max' else 'Average'} pooling.",
        )
        return Pooling(
            module=module, shape=shape, maximum=kind == "max", window=window, stride=stride, padding=padding,
            steps=steps,
        )  # fmt: skip

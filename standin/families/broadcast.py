"""A tensor with vectors broadcast along its rows, columns or channels, and elementwise operations after."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from standin.answer_text import Answer, Dialect
from standin.families.flat import flat_kernel, flat_launch, load
from standin.operations import ACTIVATIONS, Step, draw_names, draw_steps, torch_expression, triton_lines
from standin.problem_text import Module, write_steps
from standin.shapes import Shape, Size, draw_input, draw_shape

_VECTOR_OPERATIONS = ("add", "mul", "sub", "maximum", "minimum", "gate")
_PLACES = ("column", "row", "channel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """`vectors` are names and the expressions that `forward` has for them."""

    module: Module
    shape: Shape
    place: str
    vectors: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]

    def answer(self, rng: Random, dialect: Dialect) -> Answer:
        names = ("x", *(name for name, _ in self.vectors))
        pointers, (values, fresh) = dialect.pointers(names), dialect.values(names)
        index, size_names, sizes = self._index(dialect)
        loads = [load(values[0], pointers[0], dialect.index, dialect)]
        at = {"column": "col", "row": "row", "channel": "channel"}[self.place]
        loads.append(f"{at} = {index}")
        loads += [load(v, p, at, dialect) for v, p in zip(values[1:], pointers[1:], strict=True)]
        lines, result = triton_lines(
            self.steps, values[0], rng, fresh=fresh, others=dict(zip(names, values, strict=True))
        )
        name = rng.choice(("broadcast_kernel", "fused_kernel", f"{self.steps[0].name}_kernel"))
        text = flat_kernel(name, pointers, [*loads, *lines], result, dialect, sizes=size_names)
        body = flat_launch(
            name, [f"{{{n}}}" for n in names], dialect, rng, allocate="torch.empty_like({x})",
            num_elements=self.shape.num_elements, sizes=sizes,
        )  # fmt: skip
        arguments = (("x", "x"), *self.vectors)
        return Answer(kernels=(text,), body=tuple(body), arguments=arguments, style=dialect.name)

    def _index(self, dialect: Dialect) -> tuple[str, list[str], list[str]]:
        """The vector's index, the kernel's parameters for it, and what they are given."""
        values, offsets, width = self.shape.values, dialect.index, dialect.width
        literal = dialect.literal
        if self.place == "channel":
            given = [str(values[1]), str(values[2] * values[3])] if literal else ["{x}.shape[1]", "{x}[0, 0].numel()"]
            return f"({offsets} // hw) % channels", ["channels", "hw"], given
        given = [str(values[-1]) if literal else "{x}.shape[-1]"]
        return f"{offsets} {'%' if self.place == 'column' else '//'} {width}", [width], given


class BroadcastFamily:
    name, weight = "broadcast", 12.0

    def draw(self, rng: Random) -> tuple[str, ...]:
        place = rng.choices(_PLACES, (5, 2, 3))[0]
        vectors = [f"{rng.choice(_VECTOR_OPERATIONS)}_per_{place}" for _ in range(rng.choice((1, 1, 2)))]
        return (*vectors, *draw_names(rng, rng.choice((0, 1, 1, 2)), among=ACTIVATIONS))

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> Broadcast:
        place = operations[0].rsplit("_", 1)[-1]
        plain = [name.removesuffix(f"_per_{place}") for name in operations]
        count = sum(name.endswith(f"_per_{place}") for name in operations)
        others = rng.choice((("bias", "scale"), ("w", "b"), ("shift", "gain")))[:count]
        shape = draw_shape(rng, {"row": 2, "column": rng.choice((2, 2, 3)), "channel": 4}[place], size)
        steps = draw_steps(rng, plain, others=others)
        wide = {"row": shape.texts[0], "column": shape.texts[-1], "channel": shape.texts[1]}[place]
        ones = {"row": ", 1", "column": "", "channel": ", 1, 1"}[place]
        owned = rng.random() < 0.5
        seen = {name: f"self.{name}" if owned else name for name in others}
        lines = [f"x = {torch_expression(step, 'x', rng, other=seen[step.other])}" for step in steps[:count]]
        stateless, rest, result = write_steps(steps[count:], "x", rng)
        lines += [*rest, f"return {result}"]
        inputs = [("x", draw_input(rng, shape))]
        vectors = [(name, f"torch.randn({wide}{ones})") for name in others]
        made = [f"self.{name} = nn.Parameter(torch.randn(dim{ones}))" for name in others]
        module = Module(
            forward=("x", *(() if owned else others)),
            lines=tuple(lines),
            inputs=(*inputs, *(() if owned else vectors)),
            sizes=shape.constants,
            arguments=(("dim", wide),) if owned else (),
            state=tuple(made) if owned else (),
            stateless=tuple(stateless),
            doc=f"Broadcasts a vector over each {place}.",
        )
        return Broadcast(
            module=module, shape=shape, place=place, vectors=tuple((n, seen[n]) for n in others), steps=steps
        )

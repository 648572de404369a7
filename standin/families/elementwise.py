"""Chains of elementwise operations on one to three tensors of one shape."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from standin.answer_text import Answer, Dialect
from standin.families.flat import flat_kernel, flat_launch, load
from standin.operations import BINARY, GIVEN, Step, draw_names, draw_steps, tells, triton_lines
from standin.problem_text import Module, write_steps
from standin.shapes import Shape, Size, draw_input, draw_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain of operations on tensors of one shape."""

    module: Module
    shape: Shape
    steps: tuple[Step, ...]

    def answer(self, rng: Random, dialect: Dialect) -> Answer:
        names = self.module.forward
        pointers = dialect.pointers(names)
        values, fresh = dialect.values(names)
        loads = [load(v, p, dialect.index, dialect) for v, p in zip(values, pointers, strict=True)]
        lines, result = triton_lines(
            self.steps, values[0], rng, fresh=fresh, others=dict(zip(names, values, strict=True))
        )
        name = rng.choice(("fused_kernel", "elementwise_kernel", f"{self.steps[0].name}_kernel"))
        body = flat_launch(
            name, [f"{{{n}}}" for n in names], dialect, rng,
            allocate=f"torch.empty_like({{{names[0]}}})", num_elements=self.shape.num_elements,
        )  # fmt: skip
        return Answer(
            kernels=(flat_kernel(name, pointers, [*loads, *lines], result, dialect),),
            body=tuple(body),
            arguments=tuple((n, n) for n in names),
            style=dialect.name,
        )


class Elementwise:
    name, weight = "elementwise", 24.0

    def draw(self, rng: Random) -> tuple[str, ...]:
        count = rng.choices((1, 2, 3, 4, 5), (22, 30, 24, 15, 9))[0]
        while True:
            names = draw_names(rng, count)
            for position in range(count):
                if rng.random() < 0.22 and sum(name in BINARY for name in names) < 2:
                    names[position] = rng.choice(tuple(BINARY))
            if all(tells(tuple(names[:at]), name, given=GIVEN) for at, name in enumerate(names)):
                return tuple(names)

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> Chain:
        others = rng.choice((("y", "z"), ("b", "c"), ("other", "scale")))[: sum(name in BINARY for name in operations)]
        first = {"y": "x", "b": "a"}.get(others[0], "x") if others else rng.choice(("x", "x", "x", "inp"))
        shape = draw_shape(rng, rng.choices((1, 2, 3, 4), (15, 55, 15, 15))[0], size)
        steps = draw_steps(rng, operations, others=others)
        stateless, lines, result = write_steps(steps, first, rng)
        module = Module(
            forward=(first, *others),
            lines=(*lines, f"return {result}"),
            inputs=tuple((name, draw_input(rng, shape)) for name in (first, *others)),
            sizes=shape.constants,
            stateless=tuple(stateless),
            doc=f"Applies {', '.join(operations)} element by element.",
        )
        return Chain(module=module, shape=shape, steps=steps)

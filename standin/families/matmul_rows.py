"""Two kernels: a matrix product, then row work on what it gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from standin.answer_text import Answer, Dialect
from standin.families.matmul import MatmulTask, matmul_blocks, matmul_kernel, matmul_launch, settle_matmul
from standin.families.rows import row_launch, row_out
from standin.operations import ACTIVATIONS, Step, draw_names, draw_steps
from standin.problem_text import Module, write_steps
from standin.row_kernels import Form, RowWork, row_kernel
from standin.row_kinds import KINDS, RowKind
from standin.shapes import Shape, Size

_PRODUCTS = ("linear", "linear", "matmul", "linear_no_bias")
_KINDS = (
    "softmax", "log_softmax", "logsumexp", "sum", "mean", "max", "layer_norm_plain", "rms_norm_plain", "l2_normalize",
    "centre", "argmax",
)  # fmt: skip
# These meet in held-out problems alone, whatever stands between them.
HELD_OUT_MEETINGS = frozenset((("linear", "log_softmax"), ("matmul", "max"), ("linear", "rms_norm_plain")))


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulRows:
    product: MatmulTask
    module: Module
    kind: RowKind
    after: tuple[Step, ...]

    def answer(self, rng: Random, dialect: Dialect) -> Answer:
        form: Form = "whole" if self.kind.whole or rng.random() < 0.6 else "blocks"
        first = self.product
        arguments = (*first.factors, *([("bias", first.bias)] if first.bias else []))
        pointers = dialect.pointers([name for name, _ in arguments])
        matmul = matmul_kernel(
            "matmul_kernel", first.product, pointers[:2], bias=pointers[2] if first.bias else None, extras=(),
            steps=first.steps, out_ptr=dialect.out_ptr, rng=rng,
        )  # fmt: skip
        name = f"{self.kind.name}_kernel"
        rows = row_kernel(name, RowWork(kind=self.kind, form=form, inputs=("x",), after=self.after), dialect, rng)
        shape = Shape(names=("M", "N"), values=(first.sizes["M"], first.sizes["N"]), inline=False)
        out = row_out("hidden", self.kind, shape, dialect, columns=False, keep=False)
        body = [
            *matmul_launch("matmul_kernel", first, arguments, dialect, matmul_blocks(rng), rng, out="hidden"),
            *row_launch(name, ["hidden"], shape, form, dialect, rng, out=out),
        ]
        style = f"{dialect.name}/{form}"
        return Answer(kernels=(matmul, rows), body=tuple(body), arguments=tuple(arguments), style=style)


class MatmulRowsFamily:
    name, weight = "matmul_rows", 5.0

    def draw(self, rng: Random) -> tuple[str, ...]:
        kind = KINDS[rng.choice(_KINDS)]
        between = draw_names(rng, rng.choice((0, 0, 1)), among=ACTIVATIONS)
        after = draw_names(rng, rng.choice((0, 0, 0, 1)), among=ACTIVATIONS, given=kind.gives) if not kind.whole else []
        return (rng.choice(_PRODUCTS), *between, kind.name, *after)

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> MatmulRows:
        at = next(i for i, name in enumerate(operations) if i and name in _KINDS)
        kind, after = KINDS[operations[at]], draw_steps(rng, operations[at + 1 :])
        product = settle_matmul(operations[:at], rng, size)
        before = product.module
        *lines, last = before.lines
        value = "x" if operations[0].startswith("linear") else "out"
        lines.append(f"{value} = {last.removeprefix('return ')}" if last != f"return {value}" else "")
        text = rng.choice(kind.torch).format(x=value, d=rng.choice(("1", "-1")), k="", dim=f"{value}.shape[-1]")
        stateless, rest, final = write_steps(after, value, rng)
        lines += [f"{value} = {text}", *rest, f"return {final}"] if after else [f"return {text}"]
        module = replace(
            before,
            lines=tuple(line for line in lines if line),
            stateless=tuple(dict.fromkeys((*before.stateless, *stateless))),
            doc="Matrix multiplication followed by an operation over its rows.",
        )
        return MatmulRows(product=product, module=module, kind=kind, after=after)

"""Running sums and products along a dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from standin.answer_text import Answer, Dialect, kernel
from standin.families.rows import row_launch
from standin.operations import ACTIVATIONS, Step, draw_names, draw_steps, triton_lines
from standin.problem_text import Module, write_steps
from standin.row_kernels import Form
from standin.shapes import Shape, Size, draw_input, draw_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    torch: tuple[str, ...]
    reverse: bool = False
    product: bool = False


SCANS: Mapping[str, Scan] = {
    "cumsum": Scan(torch=("torch.cumsum({x}, dim={d})", "{x}.cumsum(dim={d})")),
    "reverse_cumsum": Scan(
        torch=("torch.flip(torch.cumsum(torch.flip({x}, dims=[{d}]), dim={d}), dims=[{d}])",), reverse=True
    ),
    "cumprod": Scan(torch=("torch.cumprod({x}, dim={d})",), product=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanTask:
    module: Module
    shape: Shape
    scan: Scan
    before: tuple[Step, ...]
    after: tuple[Step, ...]
    columns: bool

    def answer(self, rng: Random, dialect: Dialect) -> Answer:
        form: Form = "columns" if self.columns else "whole" if self.scan.product or rng.random() < 0.6 else "blocks"
        names, d = self.module.forward, dialect
        pointers = d.pointers(names)
        name = rng.choice(("scan_kernel", "cumulative_kernel"))
        writer = {"columns": self._columns, "whole": self._whole, "blocks": self._blocks}[form]
        sizes = [d.width] if form != "columns" else ["n_rows", d.width]
        parameters = [*pointers, d.out_ptr, *sizes, f"{d.block}: tl.constexpr"]
        text = kernel(name, parameters, writer(pointers[0], d, rng))
        body = row_launch(
            name, [f"{{{n}}}" for n in names], self.shape, form, d, rng, out=f"torch.empty_like({{{names[0]}}})"
        )
        return Answer(
            kernels=(text,), body=tuple(body), arguments=tuple((n, n) for n in names), style=f"{d.name}/{form}"
        )

    def _steps(self, rng: Random) -> tuple[list[str], list[str]]:
        return triton_lines(self.before, "x", rng)[0], triton_lines(self.after, "out", rng)[0]

    def _whole(self, pointer: str, d: Dialect, rng: Random) -> list[str]:
        before, after = self._steps(rng)
        function, past = ("tl.cumprod", "1.0") if self.scan.product else ("tl.cumsum", "0.0")
        fixed = [f"x = tl.where({d.mask}, x, {past})"] if before else []
        reverse = ", reverse=True" if self.scan.reverse else ""
        return [
            f"{d.row} = tl.program_id(0)",
            f"{d.cols} = tl.arange(0, {d.block})",
            f"{d.mask} = {d.cols} < {d.width}",
            f"x = tl.load({pointer} + {d.row} * {d.width} + {d.cols}, mask={d.mask}, other={past})",
            *before,
            *fixed,
            f"out = {function}(x, axis=0{reverse})",
            *after,
            f"tl.store({d.out_ptr} + {d.row} * {d.width} + {d.cols}, out, mask={d.mask})",
        ]

    def _blocks(self, pointer: str, d: Dialect, rng: Random) -> list[str]:
        before, after = self._steps(rng)
        at = f"{d.row} * {d.width} + " + (f"{d.width} - 1 - {d.cols}" if self.scan.reverse else d.cols)
        fixed = [f"x = tl.where({d.mask}, x, 0.0)"] if before else []
        return [
            f"{d.row} = tl.program_id(0)",
            "carry = 0.0",
            f"for start in range(0, {d.width}, {d.block}):",
            f"    {d.cols} = start + tl.arange(0, {d.block})",
            f"    {d.mask} = {d.cols} < {d.width}",
            f"    x = tl.load({pointer} + {at}, mask={d.mask}, other=0.0)",
            *(f"    {line}" for line in (*before, *fixed)),
            "    out = tl.cumsum(x, axis=0) + carry",
            "    carry += tl.sum(x, axis=0)",
            *(f"    {line}" for line in after),
            f"    tl.store({d.out_ptr} + {at}, out, mask={d.mask})",
        ]

    def _columns(self, pointer: str, d: Dialect, rng: Random) -> list[str]:
        before, after = self._steps(rng)
        batched = len(self.shape.values) == 3
        base = f"tl.program_id(0) * n_rows * {d.width} + " if batched else ""
        at = f"base + {'(n_rows - 1 - r)' if self.scan.reverse else 'r'} * {d.width}"
        return [
            f"{d.cols} = tl.program_id({int(batched)}) * {d.block} + tl.arange(0, {d.block})",
            f"{d.mask} = {d.cols} < {d.width}",
            f"base = {base}{d.cols}",
            f"acc = tl.{'full' if self.scan.product else 'zeros'}([{d.block}], {'1.0, ' if self.scan.product else ''}"
            "dtype=tl.float32)",
            "for r in range(n_rows):",
            f"    x = tl.load({pointer} + {at}, mask={d.mask})",
            *(f"    {line}" for line in before),
            f"    acc = acc {'*' if self.scan.product else '+'} x",
            *(["    out = acc"] if after else []),
            *(f"    {line}" for line in after),
            f"    tl.store({d.out_ptr} + {at}, {'out' if after else 'acc'}, mask={d.mask})",
        ]


class ScanFamily:
    name, weight = "scan", 5.0

    def draw(self, rng: Random) -> tuple[str, ...]:
        scan = rng.choices(tuple(SCANS), (4, 2, 1))[0]
        before = draw_names(rng, rng.choice((0, 0, 1)), among=(*ACTIVATIONS, "square", "sin"))
        return (*before, scan, *draw_names(rng, rng.choice((0, 0, 1)), among=ACTIVATIONS))

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> ScanTask:
        at = next(i for i, name in enumerate(operations) if name in SCANS)
        scan, rank = SCANS[operations[at]], rng.choice((2, 2, 3))
        shape = draw_shape(rng, rank, size, rows=True)
        columns = rng.random() < 0.3
        dim = str(rank - 2) if columns else rng.choice(("-1", str(rank - 1)))
        before, after = draw_steps(rng, operations[:at]), draw_steps(rng, operations[at + 1 :])
        stateless, lines, value = write_steps(before, "x", rng)
        if value != "x":
            lines.append(f"x = {value}")
        more, rest, final = write_steps(after, "x", rng)
        result = rng.choice(scan.torch).format(x="x", d=dim)
        lines += [f"x = {result}", *rest, f"return {final}"] if after else [f"return {result}"]
        module = Module(
            forward=("x",),
            lines=tuple(lines),
            inputs=(("x", draw_input(rng, shape)),),
            sizes=shape.constants,
            stateless=tuple(dict.fromkeys((*stateless, *more))),
            doc=f"{operations[at].replace('_', ' ').capitalize()} over dimension {dim}.",
        )
        return ScanTask(module=module, shape=shape, scan=scan, before=before, after=after, columns=columns)

"""Reductions, softmaxes and norms along one dimension, with elementwise operations before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from standin.answer_text import Answer, Dialect, launch_options
from standin.operations import ACTIVATIONS, BINARY, UNARY, Step, draw_names, draw_steps
from standin.problem_text import Module, write_steps
from standin.row_kernels import Form, RowWork, row_kernel
from standin.row_kinds import KINDS, NORMS, REDUCTIONS, SOFTMAXES, RowKind
from standin.shapes import Shape, Size, draw_input, draw_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTask:
    """One kind of row work on a shape. `columns` is along the last dimension but one; `keep` keeps the dimension."""

    module: Module
    shape: Shape
    kind: RowKind
    before: tuple[Step, ...]
    after: tuple[Step, ...]
    columns: bool
    keep: bool

    def answer(self, rng: Random, dialect: Dialect) -> Answer:
        form: Form = "columns" if self.columns else "whole" if self.kind.whole or rng.random() < 0.6 else "blocks"
        work = RowWork(
            kind=self.kind, form=form, inputs=self.module.forward, before=self.before, after=self.after,
            batched=len(self.shape.values) == 3,
        )  # fmt: skip
        name = rng.choice((f"{self.kind.name}_kernel", "row_kernel", "fused_kernel"))
        kernel = row_kernel(name, work, dialect, rng)
        weights = [(expression.rsplit(".", 1)[-1], expression) for _, expression in self.kind.weights]
        arguments = (*((n, n) for n in self.module.forward), *weights)
        body = row_launch(
            name,
            [f"{{{n}}}" for n, _ in arguments],
            self.shape,
            form,
            dialect,
            rng,
            out=row_out(
                f"{{{self.module.forward[0]}}}", self.kind, self.shape, dialect, columns=self.columns, keep=self.keep
            ),
        )
        return Answer(kernels=(kernel,), body=tuple(body), arguments=tuple(arguments), style=f"{dialect.name}/{form}")


def row_out(first: str, kind: RowKind, shape: Shape, dialect: Dialect, *, columns: bool, keep: bool) -> str:
    """The expression that allocates what row work on the tensor `first` gives."""
    rank = len(shape.values)
    if not kind.scalar:
        return f"torch.empty_like({first})"
    dtype = "torch.int64" if kind.whole else f"{first}.dtype"
    if rank == 3 and not columns and not dialect.literal:
        text = f"(*{first}.shape[:-1], 1)" if keep else f"{first}.shape[:-1]"
    else:
        names = ("batch", "n_rows", dialect.width)[-rank:]
        texts = list(map(str, shape.values) if dialect.literal else names)
        at = rank - (2 if columns else 1)
        texts[at : at + 1] = ["1"] if keep else []
        text = f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
    return f"torch.empty({text}, device={first}.device, dtype={dtype})"


def row_launch(
    name: str, tensors: Sequence[str], shape: Shape, form: Form, dialect: Dialect, rng: Random, *, out: str
) -> list[str]:
    """The lines from the sizes to the return. `tensors` are what the kernel is given before its output, the first of
    that shape; `out` allocates the output, and may say the names of the sizes."""
    values, width, block = shape.values, dialect.width, str(rng.choice((64, 128, 256)))
    columns, rank = form == "columns", len(values)
    if not columns and form == "blocks" and rng.random() < 0.3:
        block = "1024"
    if dialect.literal:
        lines, width, n_rows = [], str(values[-1]), str(values[-2] if columns else shape.num_elements // values[-1])
        batch = [str(values[0])] if rank == 3 else []
    elif columns or rank == 2:
        names = ("batch", "n_rows", width)[-rank:]
        lines, n_rows, batch = [f"{', '.join(names)} = {tensors[0]}.shape"], "n_rows", list(names[:-2])
    else:
        n_rows, batch = "n_rows", []
        lines = [f"{width} = {tensors[0]}.shape[-1]", f"n_rows = {tensors[0]}.numel() // {width}"]
    if form == "whole":
        block = str(1 << (values[-1] - 1).bit_length()) if dialect.literal else f"triton.next_power_of_2({width})"
    grid = ", ".join([*batch, f"triton.cdiv({width}, {block})"]) if columns else n_rows
    sizes = f"{n_rows}, {width}" if columns else width
    options = launch_options(rng, {dialect.block: block})
    call = (
        f"{name}[({grid}{'' if columns and batch else ','})]({', '.join(tensors)}, {dialect.out}, {sizes}, {options})"
    )
    return [*lines, f"{dialect.out} = {out}", call, f"return {dialect.out}"]


class Rows:
    """A family of row work: the kinds that it draws from, and how often there are steps before and after."""

    def __init__(self, name: str, kinds: Mapping[str, RowKind], *, weight: float, before: float, after: float) -> None:
        self.name, self.weight = name, weight
        self._kinds, self._before, self._after = kinds, before, after

    def draw(self, rng: Random) -> tuple[str, ...]:
        kind = self._kinds[rng.choice(tuple(self._kinds))]
        before: list[str] = []
        after: list[str] = []
        if not kind.whole:
            if rng.random() < self._before:
                before = draw_names(rng, rng.choice((1, 1, 2)), among=(*ACTIVATIONS, "square", "sin", "exp"))
            if rng.random() < 0.12:
                before.insert(0, rng.choice(("add", "mul", "sub")))
            if rng.random() < self._after:
                after = draw_names(rng, 1, among=(*ACTIVATIONS, "log1p_abs", "neg"), given=kind.gives)
            if not kind.scalar and rng.random() < 0.15:
                after.append(rng.choice(("add", "mul")))
        return (*before, kind.name, *after)

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> RowTask:
        at = next(i for i, name in enumerate(operations) if name in KINDS and name not in (*UNARY, *BINARY))
        kind = KINDS[operations[at]]
        second = rng.choice((("y", "z"), ("residual", "other"), ("u", "v")))
        others = second[: sum(name in BINARY for name in operations)]
        before = draw_steps(rng, operations[:at], others=others)
        after = draw_steps(rng, operations[at + 1 :], others=others[sum(bool(step.other) for step in before) :])
        columns = not kind.last and not kind.whole and rng.random() < 0.25
        rank = rng.choices((2, 3), (70, 30))[0]
        shape = draw_shape(rng, rank, size, rows=True)
        keep = kind.scalar and rng.random() < 0.4
        dims = (str(rank - 2),) if columns else ("-1", str(rank - 1))
        dim = rng.choice(dims)
        stateless, lines, expression = write_steps(before, "x", rng)
        if expression != "x":
            lines.append(f"x = {expression}")
        result, extra = _torch(kind, dim, keep, shape, rng)
        more, rest, final = write_steps(after, "x", rng)
        lines += [f"x = {result}", *rest, f"return {final}"] if after else [f"return {result}"]
        stateful = bool(kind.state)
        module = Module(
            forward=("x", *others),
            lines=tuple(lines),
            inputs=tuple((name, draw_input(rng, shape)) for name in ("x", *others)),
            sizes=shape.constants,
            arguments=(("dim", shape.texts[-1]),) if stateful else (),
            state=tuple(line.format(dim="dim") for line in kind.state),
            stateless=tuple(dict.fromkeys((*stateless, *extra, *more))),
            doc=f"{kind.name.replace('_', ' ').capitalize()} over dimension {dim}.",
        )
        return RowTask(module=module, shape=shape, kind=kind, before=before, after=after, columns=columns, keep=keep)


def _torch(kind: RowKind, dim: str, keep: bool, shape: Shape, rng: Random) -> tuple[str, list[str]]:
    """PyTorch's expression, and the lines of `__init__` that it needs."""
    if kind.module is not None and rng.random() < 0.3:
        return f"self.{kind.name}(x)", [f"self.{kind.name} = {kind.module.format(d=dim)}"]
    form = rng.choice(kind.torch)
    text = form.format(x="x", d=dim, k=", keepdim=True" if keep else "", dim="x.shape[-1]")
    return text, []


REDUCTION = Rows("reduction", REDUCTIONS, weight=18.0, before=0.4, after=0.2)
SOFTMAX = Rows("softmax", SOFTMAXES, weight=10.0, before=0.5, after=0.25)
NORM = Rows("norm", NORMS, weight=14.0, before=0.25, after=0.4)

"""Losses: one number for a prediction and a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from standin.answer_text import Answer, Dialect, kernel, launch_options
from standin.operations import Step, draw_names, draw_steps, triton_lines
from standin.problem_text import Module, write_steps
from standin.shapes import Shape, Size, name_shape, pick

_BEFORE = ("sigmoid", "tanh", "mul_scalar", "relu", "softsign", "silu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """`{p}` is the prediction, `{t}` the target, `{r}` "mean" or "sum". `lines` compute `loss` for an element."""

    torch: tuple[str, ...]
    lines: tuple[str, ...]
    module: str | None = None
    target: str = "torch.randn({s})"


LOSSES: Mapping[str, Loss] = {
    "mse": Loss(
        torch=('F.mse_loss({p}, {t}, reduction="{r}")', "torch.{r}(({p} - {t}) ** 2)"),
        lines=("d = {p} - {t}", "loss = d * d"), module='nn.MSELoss(reduction="{r}")'),
    "l1": Loss(
        torch=('F.l1_loss({p}, {t}, reduction="{r}")', "torch.{r}(torch.abs({p} - {t}))"),
        lines=("loss = tl.abs({p} - {t})",), module='nn.L1Loss(reduction="{r}")'),
    "smooth_l1": Loss(
        torch=('F.smooth_l1_loss({p}, {t}, reduction="{r}")',),
        lines=("d = tl.abs({p} - {t})", "loss = tl.where(d < 1.0, 0.5 * d * d, d - 0.5)"),
        module='nn.SmoothL1Loss(reduction="{r}")'),
    "huber": Loss(
        torch=('F.huber_loss({p}, {t}, reduction="{r}", delta=2.0)',),
        lines=("d = tl.abs({p} - {t})", "loss = tl.where(d < 2.0, 0.5 * d * d, 2.0 * (d - 1.0))"),
        module='nn.HuberLoss(reduction="{r}", delta=2.0)'),
    "bce_with_logits": Loss(
        torch=('F.binary_cross_entropy_with_logits({p}, {t}, reduction="{r}")',),
        lines=("loss = tl.maximum({p}, 0.0) - {p} * {t} + libdevice.log1p(tl.exp(-tl.abs({p})))",),
        module='nn.BCEWithLogitsLoss(reduction="{r}")', target="torch.rand({s})"),
    "hinge": Loss(
        torch=("torch.{r}(torch.clamp(1 - {p} * {t}, min=0))", "torch.{r}(F.relu(1 - {p} * {t}))"),
        lines=("loss = tl.maximum(1.0 - {p} * {t}, 0.0)",), target="torch.randint(0, 2, ({s},)).float() * 2 - 1"),
    "squared_hinge": Loss(
        torch=("torch.{r}(torch.clamp(1 - {p} * {t}, min=0) ** 2)",),
        lines=("d = tl.maximum(1.0 - {p} * {t}, 0.0)", "loss = d * d"),
        target="torch.randint(0, 2, ({s},)).float() * 2 - 1"),
    "kl_div": Loss(
        torch=('F.kl_div({p}, {t}, reduction="{r}")',),
        lines=("loss = tl.where({t} > 0, {t} * tl.log({t}), 0.0) - {t} * {p}",),
        module='nn.KLDivLoss(reduction="{r}")', target="torch.rand({s})"),
    "weighted_mse": Loss(
        torch=("torch.{r}(torch.abs({t}) * ({p} - {t}) ** 2)",),
        lines=("d = {p} - {t}", "loss = tl.abs({t}) * d * d")),
}  # fmt: skip
CROSS_ENTROPY = "cross_entropy"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTask:
    module: Module
    shape: Shape
    loss: str
    mean: bool
    before: tuple[Step, ...]

    def answer(self, rng: Random, dialect: Dialect) -> Answer:
        if self.loss == CROSS_ENTROPY:
            return self._cross_entropy(rng, dialect)
        names, d = self.module.forward, dialect
        lines, value = triton_lines(self.before, names[0], rng)
        lines += [line.format(p=value, t=names[1]) for line in LOSSES[self.loss].lines]
        atomic = rng.random() < 0.5
        block = rng.choice((256, 512, 1024))
        if atomic:
            block = 1024  # the fewer the sums that are added one after the other, the better they agree
        name = rng.choice(("loss_kernel", f"{self.loss}_kernel"))
        options = launch_options(rng, {d.block: block})
        kernels = [kernel(name, *self._kernel(lines, d, atomic=atomic))]
        if not atomic:
            kernels.append(_sum_kernel(divided="n" if self.mean else ""))
        body = (self._atomic_body if atomic else self._partial_body)(name, block, options, d)
        style = f"{d.name}/{'atomic' if atomic else 'partial'}"
        arguments = tuple((n, n) for n in names)
        return Answer(kernels=tuple(kernels), body=(*body, f"return {d.out}"), arguments=arguments, style=style)

    def _kernel(self, lines: Sequence[str], d: Dialect, *, atomic: bool) -> tuple[list[str], list[str]]:
        """Parameters and body of the kernel that adds up a block's losses: `lines` compute `loss` for an element."""
        pointers = d.pointers(self.module.forward)
        head = [f"{d.pid} = tl.program_id(0)", f"{d.index} = {d.pid} * {d.block} + tl.arange(0, {d.block})"]
        if atomic and not d.helper:
            head = [f"{d.index} = tl.program_id(0) * {d.block} + tl.arange(0, {d.block})"]
        loads = [
            f"{n} = tl.load({p} + {d.index}, mask={d.mask}, other=0.0)"
            for n, p in zip(self.module.forward, pointers, strict=True)
        ]
        total = f"tl.sum(tl.where({d.mask}, loss, 0.0), axis=0)"
        store = f"tl.store({d.out_ptr} + {d.pid}, {total})"
        if atomic:
            store = f"tl.atomic_add({d.out_ptr}, {total}{f' / {d.count}' if self.mean else ''})"
        parameters = [*pointers, d.out_ptr, d.count, f"{d.block}: tl.constexpr"]
        return parameters, [*head, f"{d.mask} = {d.index} < {d.count}", *loads, *lines, store]

    def _size(self, d: Dialect) -> tuple[list[str], str]:
        """The line that takes the number of elements, if it is not a literal, and its text."""
        if d.literal:
            return [], str(self.shape.num_elements)
        return [f"{d.count} = {{{self.module.forward[0]}}}.numel()"], d.count

    def _empty(self, function: str, shape: str) -> str:
        first = self.module.forward[0]
        return f"torch.{function}({shape}, device={{{first}}}.device, dtype={{{first}}}.dtype)"

    def _atomic_body(self, name: str, block: int, options: str, d: Dialect) -> list[str]:
        (start, count), tensors = self._size(d), ", ".join(f"{{{n}}}" for n in self.module.forward)
        return [
            *start,
            f"{d.out} = {self._empty('zeros', '()')}",
            f"{name}[(triton.cdiv({count}, {block}),)]({tensors}, {d.out}, {count}, {options})",
        ]

    def _partial_body(self, name: str, block: int, options: str, d: Dialect) -> list[str]:
        (start, count), tensors = self._size(d), ", ".join(f"{{{n}}}" for n in self.module.forward)
        return [
            *start,
            f"n_blocks = triton.cdiv({count}, {block})",
            f"partial = {self._empty('empty', 'n_blocks')}",
            f"{name}[(n_blocks,)]({tensors}, partial, {count}, {options})",
            f"{d.out} = {self._empty('empty', '()')}",
            f"sum_kernel[(1,)](partial, {d.out}, n_blocks, {f'{count}, ' if self.mean else ''}BLOCK=1024)",
        ]

    def _cross_entropy(self, rng: Random, dialect: Dialect) -> Answer:
        """A row a program: the logarithm of the sum of exponentials less the target's logit."""
        (logits, target), d = self.module.forward, dialect
        (x_ptr, t_ptr), literal = d.pointers((logits, target)), d.literal
        lines = [
            f"{d.row} = tl.program_id(0)",
            f"{d.cols} = tl.arange(0, {d.block})",
            f"{d.mask} = {d.cols} < {d.width}",
            f'x = tl.load({x_ptr} + {d.row} * {d.width} + {d.cols}, mask={d.mask}, other=-float("inf"))',
            f"label = tl.load({t_ptr} + {d.row})",
            f"picked = tl.load({x_ptr} + {d.row} * {d.width} + label)",
            "peak = tl.max(x, axis=0)",
            "loss = tl.log(tl.sum(tl.exp(x - peak), axis=0)) + peak - picked",
            f"tl.atomic_add({d.out_ptr}, loss{' / n_rows' if self.mean else ''})",
        ]
        rows = ["n_rows"] if self.mean else []
        parameters = [x_ptr, t_ptr, d.out_ptr, *rows, d.width, f"{d.block}: tl.constexpr"]
        n_rows, n_cols = (str(v) for v in self.shape.values) if literal else ("n_rows", d.width)
        width = self.shape.values[1]
        block = str(1 << (width - 1).bit_length()) if literal else f"triton.next_power_of_2({n_cols})"
        given = ", ".join([f"{{{logits}}}, {{{target}}}, {d.out}", *([n_rows] if self.mean else []), n_cols])
        body = [
            *([] if literal else [f"n_rows, {n_cols} = {{{logits}}}.shape"]),
            f"{d.out} = torch.zeros((), device={{{logits}}}.device, dtype={{{logits}}}.dtype)",
            f"cross_entropy_kernel[({n_rows},)]({given}, {launch_options(rng, {d.block: block})})",
            f"return {d.out}",
        ]
        return Answer(
            kernels=(kernel("cross_entropy_kernel", parameters, lines),), body=tuple(body),
            arguments=((logits, logits), (target, target)), style=f"{d.name}/atomic",
        )  # fmt: skip


def _sum_kernel(*, divided: str) -> str:
    """One program that adds up the partial sums."""
    parameters = ["partial_ptr", "out_ptr", "n_blocks", *([divided] if divided else []), "BLOCK: tl.constexpr"]
    lines = [
        "acc = tl.zeros([BLOCK], dtype=tl.float32)",
        "for start in range(0, n_blocks, BLOCK):",
        "    offs = start + tl.arange(0, BLOCK)",
        "    acc += tl.load(partial_ptr + offs, mask=offs < n_blocks, other=0.0)",
        f"tl.store(out_ptr, tl.sum(acc, axis=0){f' / {divided}' if divided else ''})",
    ]
    return kernel("sum_kernel", parameters, lines)


class LossFamily:
    name, weight = "loss", 10.0

    def draw(self, rng: Random) -> tuple[str, ...]:
        loss = rng.choice((*LOSSES, CROSS_ENTROPY))
        before = draw_names(rng, 1, among=_BEFORE) if loss != CROSS_ENTROPY and rng.random() < 0.35 else []
        return (*before, loss, rng.choices(("mean", "sum"), (3, 1) if loss != "kl_div" else (0, 1))[0])

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> LossTask:
        *before, loss, reduction = operations
        shape = _shape(rng, size, rows=loss == CROSS_ENTROPY)
        names = rng.choice((("predictions", "targets"), ("pred", "target"), ("x", "y"), ("logits", "target")))
        steps = draw_steps(rng, before)
        stateless, lines, value = write_steps(steps, names[0], rng)
        if value != names[0]:
            lines.append(f"{names[0]} = {value}")
        made, result = _torch(loss, reduction, names, rng)
        if loss == CROSS_ENTROPY:
            target = f"torch.randint(0, {shape.texts[1]}, ({shape.texts[0]},))"
        else:
            target = LOSSES[loss].target.format(s=shape.text)
        module = Module(
            forward=names,
            lines=(*lines, f"return {result}"),
            inputs=((names[0], f"torch.randn({shape.text})"), (names[1], target)),
            sizes=shape.constants,
            stateless=(*stateless, *made),
            doc=f"{loss.replace('_', ' ').capitalize()} loss.",
        )
        return LossTask(module=module, shape=shape, loss=loss, mean=reduction == "mean", before=steps)


def _shape(rng: Random, size: Size, *, rows: bool) -> Shape:
    """At most 16 million elements: atomics add up a sum for each thousand of them, in single precision."""
    last = (*range(20 if rows else 40, 220), *(64, 128) * 30)
    first = pick(rng, small=range(2, 20) if rows else range(6, 40), large=(512, 1024, 2048), size=size)
    return name_shape(rng, [first, pick(rng, small=last, large=(1024, 4096, 8192), size=size)])


def _torch(loss: str, reduction: str, names: tuple[str, str], rng: Random) -> tuple[list[str], str]:
    """The lines of `__init__` and the expression of the loss."""
    if loss == CROSS_ENTROPY:
        form = 'F.cross_entropy({p}, {t}, reduction="{r}")'
        forms: tuple[str, ...] = (form, "F.cross_entropy({p}, {t})") if reduction == "mean" else (form,)
        constructed: str | None = 'nn.CrossEntropyLoss(reduction="{r}")'
    else:
        forms, constructed = LOSSES[loss].torch, LOSSES[loss].module
    if constructed is not None and rng.random() < 0.3:
        made = constructed.format(r=reduction).replace('reduction="mean", ', "").replace('reduction="mean"', "")
        return [f"self.criterion = {made}"], f"self.criterion({names[0]}, {names[1]})"
    text = rng.choice(forms).format(p=names[0], t=names[1], r=reduction)
    return [], text.replace(', reduction="mean"', "") if rng.random() < 0.6 else text

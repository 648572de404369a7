"""Norms and pooling over the planes of images: instance norm, group norm, global pools. A plane, or a group of them, is
a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from standin.answer_text import Answer, Dialect, launch_options
from standin.operations import ACTIVATIONS, Step, draw_names, draw_steps
from standin.problem_text import Module, write_steps
from standin.row_kernels import Form, RowWork, row_kernel
from standin.row_kinds import KINDS
from standin.shapes import Shape, Size, draw_input, name_shape, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneKind:
    """`row` is the kind of row work. `module` takes `{c}` channels and `{g}` groups, `torch` takes groups."""

    row: str
    torch: tuple[str, ...]
    module: str | None = None
    grouped: bool = False


PLANES: Mapping[str, PlaneKind] = {
    "instance_norm": PlaneKind(row="layer_norm_plain", torch=("F.instance_norm(x)",), module="nn.InstanceNorm2d({c})"),
    "group_norm": PlaneKind(row="layer_norm_plain", torch=("F.group_norm(x, {g})",), grouped=True,
                            module="nn.GroupNorm({g}, {c}, affine=False)"),
    "global_avg_pool": PlaneKind(row="mean", torch=("torch.mean(x, dim=(2, 3))", "x.mean(dim=[2, 3])",
                                                    "F.adaptive_avg_pool2d(x, 1).flatten(1)")),
    "global_max_pool": PlaneKind(row="max", torch=("torch.amax(x, dim=(2, 3))",
                                                   "F.adaptive_max_pool2d(x, 1).flatten(1)")),
    "global_sum": PlaneKind(row="sum", torch=("torch.sum(x, dim=(2, 3))",)),
    "plane_softmax": PlaneKind(row="softmax", torch=("torch.softmax(x.flatten(2), dim=-1).view_as(x)",)),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneTask:
    module: Module
    shape: Shape
    kind: PlaneKind
    groups: int
    before: tuple[Step, ...]
    after: tuple[Step, ...]

    def answer(self, rng: Random, dialect: Dialect) -> Answer:
        row, d, values = KINDS[self.kind.row], dialect, self.shape.values
        form: Form = "whole" if rng.random() < 0.5 else "blocks"
        name = rng.choice(("plane_kernel", f"{self.kind.row}_kernel"))
        work = RowWork(kind=row, form=form, inputs=("x",), before=self.before, after=self.after)
        text = row_kernel(name, work, d, rng)
        count = values[2] * values[3] * (values[1] // self.groups if self.kind.grouped else 1)
        width, n_rows, lines = d.width, "n_rows", list[str]()
        if d.literal:
            width, n_rows = str(count), str(self.shape.num_elements // count)
        elif self.kind.grouped:
            lines = [f"{width} = {{x}}[0].numel() // {self.groups}", f"n_rows = {{x}}.numel() // {width}"]
        else:
            lines = [f"{width} = {{x}}.shape[2] * {{x}}.shape[3]", f"n_rows = {{x}}.numel() // {width}"]
        sizes = f"({values[0]}, {values[1]})" if d.literal else "{x}.shape[:2]"
        scalar = f"torch.empty({sizes}, device={{x}}.device, dtype={{x}}.dtype)"
        block = str(rng.choice((64, 128, 256)))
        if form == "whole":
            block = str(1 << (count - 1).bit_length()) if d.literal else f"triton.next_power_of_2({width})"
        options = launch_options(rng, {d.block: block})
        lines.append(f"{d.out} = {scalar if row.scalar else 'torch.empty_like({x})'}")
        lines.append(f"{name}[({n_rows},)]({{x}}, {d.out}, {width}, {options})")
        lines.append(f"return {d.out}")
        return Answer(kernels=(text,), body=tuple(lines), arguments=(("x", "x"),), style=f"{d.name}/{form}")


class PlaneFamily:
    name, weight = "planes", 6.0

    def draw(self, rng: Random) -> tuple[str, ...]:
        before = draw_names(rng, rng.choice((0, 0, 1)), among=ACTIVATIONS)
        name = rng.choice(tuple(PLANES))
        after = draw_names(rng, rng.choice((0, 1)), among=ACTIVATIONS, given=KINDS[PLANES[name].row].gives)
        return (*before, name, *after)

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> PlaneTask:
        at = next(i for i, name in enumerate(operations) if name in PLANES)
        kind = PLANES[operations[at]]
        channels = pick(rng, small=range(4, 13, 2), large=(64, 128), size=size)
        side = pick(rng, small=range(5, 13), large=(64, 112, 56), size=size)
        shape = name_shape(rng, [pick(rng, small=range(1, 5), large=(16, 32), size=size), channels, side, side])
        groups = rng.choice((2, 2, channels // 2))
        before, after = draw_steps(rng, operations[:at]), draw_steps(rng, operations[at + 1 :])
        stateless, lines, value = write_steps(before, "x", rng)
        if value != "x":
            lines.append(f"x = {value}")
        more, rest, final = write_steps(after, "x", rng)
        result, made = rng.choice(kind.torch).format(g=groups), []
        owned = kind.module is not None and rng.random() < 0.6
        if kind.module is not None and owned:
            result, made = "self.norm(x)", [f"self.norm = {kind.module.format(c='channels', g=groups)}"]
        lines += [f"x = {result}", *rest, f"return {final}"] if after else [f"return {result}"]
        module = Module(
            forward=("x",),
            lines=tuple(lines),
            inputs=(("x", draw_input(rng, shape)),),
            sizes=shape.constants,
            arguments=(("channels", shape.texts[1]),) if owned else (),
            stateless=tuple(dict.fromkeys((*stateless, *made, *more))),
            doc=f"{operations[at].replace('_', ' ').capitalize()} of images.",
        )
        return PlaneTask(module=module, shape=shape, kind=kind, groups=groups, before=before, after=after)

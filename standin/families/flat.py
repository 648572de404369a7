"""The kernel that takes one element of the output a lane, whatever the shape: elementwise, broadcasts and pooling
share it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from standin.answer_text import Dialect, kernel, launch_options


def flat_kernel(name: str, pointers: Sequence[str], lines: Sequence[str], result: str, dialect: Dialect) -> str:
    """`lines` compute `result` from the offsets; they stand between the mask and the store."""
    head = [
        f"{dialect.pid} = tl.program_id(0)",
        f"{dialect.index} = {dialect.pid} * {dialect.block} + tl.arange(0, {dialect.block})",
    ]
    if dialect.numbered:
        head = [f"{dialect.index} = tl.program_id(0) * {dialect.block} + tl.arange(0, {dialect.block})"]
    store = f"tl.store({dialect.out_ptr} + {dialect.index}, {result}, mask={dialect.mask})"
    parameters = [*pointers, dialect.out_ptr, dialect.count, f"{dialect.block}: tl.constexpr"]
    return kernel(name, parameters, [*head, f"{dialect.mask} = {dialect.index} < {dialect.count}", *lines, store])


def load(value: str, pointer: str, index: str, dialect: Dialect) -> str:
    return f"{value} = tl.load({pointer} + {index}, mask={dialect.mask})"


def flat_launch(
    name: str, tensors: Sequence[str], dialect: Dialect, rng: Random, *, allocate: str, num_elements: int
) -> list[str]:
    """The lines from the allocation to the return; `allocate` is the expression of the output."""
    out, block = dialect.out, rng.choice((256, 512, 1024))
    if dialect.literal:
        block = 256 if num_elements < 4096 else 1024
        options = launch_options(rng, {dialect.block: block})
        call = f"{name}[(triton.cdiv({num_elements}, {block}),)]({', '.join((*tensors, out))}, {num_elements}, {options})"
        return [f"{out} = {allocate}", call, f"return {out}"]
    count = dialect.count
    options = launch_options(rng, {dialect.block: block})
    grid = f"(triton.cdiv({count}, {block}),)"
    lines = [f"{out} = {allocate}", f"{count} = {out}.numel()"]
    if dialect.helper:
        lines.append(f"grid = {grid}")
        grid = "grid"
    lines.append(f"{name}[{grid}]({', '.join((*tensors, out))}, {count}, {options})")
    return [*lines, f"return {out}"]

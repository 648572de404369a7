"""The kernel that takes one element of the output a lane, whatever the shape: elementwise, broadcasts and pooling
share it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from standin.answer_text import Dialect, kernel, launch_options


def flat_kernel(
    name: str,
    pointers: Sequence[str],
    lines: Sequence[str],
    result: str,
    dialect: Dialect,
    *,
    sizes: Sequence[str] = (),
) -> str:
    """`lines` compute `result` from the offsets; they stand between the mask and the store. `sizes` are further
    parameters."""
    head = [
        f"{dialect.pid} = tl.program_id(0)",
        f"{dialect.index} = {dialect.pid} * {dialect.block} + tl.arange(0, {dialect.block})",
    ]
    if dialect.numbered:
        head = [f"{dialect.index} = tl.program_id(0) * {dialect.block} + tl.arange(0, {dialect.block})"]
    store = f"tl.store({dialect.out_ptr} + {dialect.index}, {result}, mask={dialect.mask})"
    parameters = [*pointers, dialect.out_ptr, dialect.count, *sizes, f"{dialect.block}: tl.constexpr"]
    return kernel(name, parameters, [*head, f"{dialect.mask} = {dialect.index} < {dialect.count}", *lines, store])


def load(value: str, pointer: str, index: str, dialect: Dialect) -> str:
    return f"{value} = tl.load({pointer} + {index}, mask={dialect.mask})"


def flat_launch(
    name: str,
    tensors: Sequence[str],
    dialect: Dialect,
    rng: Random,
    *,
    allocate: str,
    num_elements: int,
    sizes: Sequence[str] = (),
) -> list[str]:
    """The lines from the allocation to the return; `allocate` is the expression of the output, `sizes` those of the
    kernel's further parameters."""
    out, block = dialect.out, rng.choice((256, 512, 1024))
    options = launch_options(rng, {dialect.block: block})
    count = str(num_elements) if dialect.literal else dialect.count
    grid = f"(triton.cdiv({count}, {block}),)"
    lines = [f"{out} = {allocate}"]
    if not dialect.literal:
        lines.append(f"{count} = {out}.numel()")
    if dialect.helper:
        lines.append(f"grid = {grid}")
        grid = "grid"
    lines.append(f"{name}[{grid}]({', '.join((*tensors, out, count, *sizes))}, {options})")
    return [*lines, f"return {out}"]

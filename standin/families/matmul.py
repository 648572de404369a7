"""Matrix products with what is done to the product before it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from standin.answer_text import Answer, Dialect, kernel, launch_options
from standin.operations import ACTIVATIONS, BINARY, Step, draw_names, draw_steps, triton_lines
from standin.problem_text import Module, write_steps
from standin.shapes import Size, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """`left` and `right` are the operands' shapes in the sizes M, N, K (and B), as they are stored."""

    torch: tuple[str, ...]
    left: str
    right: str

    @property
    def batched(self) -> bool:
        return self.left.startswith("B")


PRODUCTS: Mapping[str, Product] = {
    "matmul": Product(torch=("torch.matmul({a}, {b})", "{a} @ {b}", "torch.mm({a}, {b})"), left="MK", right="KN"),
    "matmul_left_transposed": Product(torch=("torch.matmul({a}.T, {b})", "{a}.t() @ {b}"), left="KM", right="KN"),
    "matmul_right_transposed": Product(torch=("torch.matmul({a}, {b}.T)", "{a} @ {b}.t()"), left="MK", right="NK"),
    "bmm": Product(torch=("torch.bmm({a}, {b})", "torch.matmul({a}, {b})"), left="BMK", right="BKN"),
    "linear": Product(torch=("self.linear({a})",), left="MK", right="NK"),
    "linear_no_bias": Product(torch=("self.linear({a})",), left="MK", right="NK"),
}
_SIZE_NAMES = {"B": "batch", "M": "M", "N": "N", "K": "K"}
_INDEX = {"M": "rm[:, None]", "N": "rn[None, :]"}


def matmul_kernel(
    name: str,
    product: Product,
    operands: Sequence[str],
    *,
    bias: str | None,
    extras: Sequence[str],
    steps: Sequence[Step],
    out_ptr: str,
    rng: Random,
) -> str:
    """A tile of the output a program. `operands` are the pointers of the two factors, `bias` that of a vector of N,
    `extras` those of further tensors of the output's shape, which the steps take by the names without `_ptr`."""
    left, right = (_offsets(text, place) for text, place in ((product.left, 0), (product.right, 1)))
    whole = "(rm[:, None] < M) & (rn[None, :] < N)"
    out = "rm[:, None] * N + rn[None, :]"
    lines = [
        "rm = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)",
        "rn = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)",
    ]
    if product.batched:
        lines.append("batch = tl.program_id(2)")
        left, right, out = f"batch * M * K + {left}", f"batch * K * N + {right}", f"batch * M * N + {out}"
    lines += [
        "acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)",
        "for k in range(0, K, BLOCK_K):",
        "    rk = k + tl.arange(0, BLOCK_K)",
        f"    a = tl.load({operands[0]} + {left}, mask=(rm[:, None] < M) & (rk[None, :] < K), other=0.0)",
        f"    b = tl.load({operands[1]} + {right}, mask=(rk[:, None] < K) & (rn[None, :] < N), other=0.0)",
        '    acc = tl.dot(a, b, acc, input_precision="ieee")',
    ]
    if bias is not None:
        lines.append(f"acc = acc + tl.load({bias} + rn, mask=rn < N)[None, :]")
    others = {step.other: f"extra{i}" for i, step in enumerate(s for s in steps if s.other)}
    loads = [f"extra{i} = tl.load({pointer} + {out}, mask={whole})" for i, pointer in enumerate(extras)]
    computed, result = triton_lines(steps, "acc", rng, others=others)
    store = f"tl.store({out_ptr} + {out}, {result}, mask={whole})"
    pointers = [*operands, *([bias] if bias else []), *extras, out_ptr]
    blocks = [f"BLOCK_{axis}: tl.constexpr" for axis in "MNK"]
    return kernel(name, [*pointers, "M", "N", "K", *blocks], [*lines, *loads, *computed, store])


def _offsets(shape: str, place: int) -> str:
    """The offsets of a factor's tile: rows of the stored matrix times its width."""
    rows, width = list(shape[-2:])
    index = {**_INDEX, "K": "rk[None, :]" if place == 0 else "rk[:, None]"}
    return f"{index[rows]} * {width} + {index[width]}"


def matmul_blocks(rng: Random) -> dict[str, object]:
    return {f"BLOCK_{axis}": rng.choice((16, 32, 64) if axis != "K" else (16, 32)) for axis in "MNK"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulTask:
    module: Module
    product: Product
    sizes: Mapping[str, int]
    factors: tuple[tuple[str, str], ...]
    bias: str | None
    extras: tuple[str, ...]
    steps: tuple[Step, ...]

    def answer(self, rng: Random, dialect: Dialect) -> Answer:
        arguments = (*self.factors, *([("bias", self.bias)] if self.bias else []), *((n, n) for n in self.extras))
        pointers = dialect.pointers([name for name, _ in arguments])
        bias = pointers[2] if self.bias else None
        name = rng.choice(("matmul_kernel", "fused_matmul_kernel"))
        text = matmul_kernel(
            name, self.product, pointers[:2], bias=bias, extras=pointers[3 if bias else 2 :], steps=self.steps,
            out_ptr=dialect.out_ptr, rng=rng,
        )  # fmt: skip
        body = matmul_launch(name, self, arguments, dialect, matmul_blocks(rng), rng, out=dialect.out)
        return Answer(
            kernels=(text,), body=(*body, f"return {dialect.out}"), arguments=tuple(arguments), style=dialect.name
        )


def matmul_launch(
    name: str,
    task: MatmulTask,
    arguments: Sequence[tuple[str, str]],
    dialect: Dialect,
    blocks: Mapping[str, object],
    rng: Random,
    *,
    out: str,
) -> list[str]:
    """From the sizes to the launch, which writes `out`."""
    a, b = (f"{{{factor}}}" for factor, _ in task.factors)
    product = task.product
    sizes = {axis: str(task.sizes[axis]) for axis in task.sizes} if dialect.literal else _SIZE_NAMES
    lines = []
    if not dialect.literal:
        lines.append(f"{', '.join(_SIZE_NAMES[axis] for axis in product.left)} = {a}.shape")
        lines.append(f"N = {b}.shape[{product.right.index('N')}]")
    shape = ", ".join(sizes[axis] for axis in ("BMN" if product.batched else "MN"))
    lines.append(f"{out} = torch.empty(({shape}), device={a}.device, dtype={a}.dtype)")
    grid = [f"triton.cdiv({sizes[axis]}, {blocks[f'BLOCK_{axis}']})" for axis in "MN"]
    grid += [sizes["B"]] if product.batched else []
    lines.append(f"grid = ({', '.join(grid)})")
    tensors = ", ".join(f"{{{n}}}" for n, _ in arguments)
    given = f"{tensors}, {out}, {sizes['M']}, {sizes['N']}, {sizes['K']}"
    return [*lines, f"{name}[grid]({given}, {launch_options(rng, blocks)})"]


class MatmulFamily:
    name, weight = "matmul", 12.0

    def draw(self, rng: Random) -> tuple[str, ...]:
        product = rng.choices(tuple(PRODUCTS), (4, 1, 1, 2, 6, 1))[0]
        names = draw_names(rng, rng.choices((0, 1, 2), (25, 50, 25))[0], among=ACTIVATIONS)
        if rng.random() < 0.25:
            names.insert(rng.randrange(len(names) + 1), rng.choice(("add", "mul", "sub")))
        return (product, *names)

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> MatmulTask:
        return settle_matmul(operations, rng, size)


def draw_matmul_sizes(rng: Random, size: Size) -> dict[str, int]:
    options = {"M": range(8, 50), "N": (*range(10, 60), 32, 48), "K": (*range(20, 80), 32, 64), "B": range(2, 6)}
    full = {"M": (1024, 2048, 4096), "N": (1024, 2048, 4096), "K": (1024, 2048), "B": (8, 16)}
    return {axis: pick(rng, small=options[axis], large=full[axis], size=size) for axis in "MNKB"}


def settle_matmul(operations: tuple[str, ...], rng: Random, size: Size) -> MatmulTask:
    """The product and the elementwise steps after it; `operations` holds nothing else."""
    product, linear = PRODUCTS[operations[0]], operations[0].startswith("linear")
    values = draw_matmul_sizes(rng, size)
    names = rng.choice((("batch_size", "in_features", "out_features"), ("M", "K", "N"))) if linear else ("M", "K", "N")
    texts = {"M": names[0], "K": names[1], "N": names[2], "B": "batch_size"}
    others = rng.choice((("residual", "scale"), ("y", "z")))[: sum(name in BINARY for name in operations[1:])]
    steps = draw_steps(rng, operations[1:], others=others)
    first = "x" if linear else rng.choice(("A", "a", "x"))
    second = {"A": "B", "a": "b", "x": "w"}[first]
    result = rng.choice(product.torch).format(a=first, b=second)
    stateless, rest, final = write_steps(steps, "x" if linear else "out", rng)
    value = "x" if linear else "out"
    lines = (f"{value} = {result}", *rest, f"return {final}") if steps else (f"return {result}",)
    shapes = {first: product.left, **({} if linear else {second: product.right})}
    shapes |= dict.fromkeys(others, "BMN" if product.batched else "MN")
    inputs = [(name, f"torch.randn({', '.join(texts[axis] for axis in axes)})") for name, axes in shapes.items()]
    used = dict.fromkeys("".join([*shapes.values(), product.right]))
    made = f"self.linear = nn.Linear(in_features, out_features{', bias=False' if operations[0] != 'linear' else ''})"
    module = Module(
        forward=tuple(shapes),
        lines=lines,
        inputs=tuple(inputs),
        sizes=tuple((texts[axis], values[axis]) for axis in used),
        arguments=(("in_features", texts["K"]), ("out_features", texts["N"])) if linear else (),
        state=(made,) if linear else (),
        stateless=tuple(stateless),
        doc="Matrix multiplication with an epilogue.",
    )
    weight = ("weight", "self.linear.weight") if linear else (second, second)
    return MatmulTask(
        module=module, product=product, sizes=values, factors=((first, first), weight),
        bias="self.linear.bias" if operations[0] == "linear" else None, extras=others, steps=steps,
    )  # fmt: skip

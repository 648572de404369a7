"""Makes the mixed set of candidates that the throughput benchmark judges: right, wrong, not compiling, and harmful.

Seeded; the same seed gives the same set in the same order. A kernel that hangs ends by itself after some twenty
seconds. Loads no torch.
"""

from __future__ import annotations

import json
import random
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sandbox.extract import extract
from sandbox.types import Candidate, Operator, Problem
from tests.benchmarks.recipes import Recipe, recipe_of

HEAD = "import torch\nimport triton\nimport triton.language as tl\n\n\n@triton.jit\n"
MODULE = """

class ModelNew(torch.nn.Module):
    def __init__(self, *args):
        super().__init__()
        {init}

    def forward(self, {names}):
{forward}
"""
_BURST = 12  # a search asks for about so many candidates of one problem at a time


class Kind(StrEnum):
    """What a candidate was made to be. What it is judged to be is the judge's to say."""

    RIGHT = "right"
    WRONG = "wrong"
    BROKEN = "broken"  # does not parse, compile or trace
    RECORDED = "recorded"
    HOST_CRASH = "host_crash"
    HANG = "hang"
    ILLEGAL_ACCESS = "illegal_access"
    DEVICE_MEMORY = "device_memory"
    HOST_MEMORY = "host_memory"

    @property
    def harmful(self) -> bool:
        return self in HARMFUL


HARMFUL = (Kind.HOST_CRASH, Kind.HANG, Kind.ILLEGAL_ACCESS, Kind.DEVICE_MEMORY, Kind.HOST_MEMORY)
# Shares of the set; the rest is recorded completions, of which there is a fixed number.
_SHARES = {Kind.RIGHT: 0.45, Kind.WRONG: 0.25, Kind.BROKEN: 0.2, **dict.fromkeys(HARMFUL, 0.1 / len(HARMFUL))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One candidate of the set, and what it was made to be."""

    problem: Problem
    candidate: Candidate
    kind: Kind


def _pointers(recipe: Recipe) -> list[str]:
    return [name.rpartition(".")[2] + "_ptr" for name in recipe.inputs]


def _program(recipe: Recipe, kernel: str, forward: str, *, init: str | None = None) -> str:
    names = ", ".join(name for name in recipe.inputs if not name.startswith("self."))
    body = textwrap.indent(textwrap.dedent(forward).strip(), " " * 8)
    return HEAD + kernel.strip("\n") + "\n" + MODULE.format(init=init or recipe.init, names=names, forward=body)


def _indented(text: str) -> str:
    return textwrap.indent(text, "    ")


def pointwise(recipe: Recipe, body: str, choose: random.Random) -> str:
    """One program a block of elements."""
    pointers, block, warps = _pointers(recipe), choose.choice((256, 512, 1024, 2048, 4096)), choose.choice((2, 4, 8))
    policy = choose.choice(("", ", eviction_policy='evict_first'"))
    by_input = dict(zip(recipe.inputs, pointers, strict=True))
    loads = "\n".join(f"{n} = tl.load({by_input[i]} + {at}, mask=mask{policy})" for n, i, at in recipe.loads)
    kernel = f"""
def kernel({", ".join(pointers)}, y_ptr, n, cols, extent, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
{_indented(loads)}
{_indented(body)}
    tl.store(y_ptr + offsets, y, mask=mask)
"""
    forward = f"""
        y = {recipe.out}
        n = y.numel()
        arguments = ({", ".join(recipe.inputs)}, y, n, y.shape[-1], {recipe.extent})
        kernel[(triton.cdiv(n, {block}),)](*arguments, BLOCK={block}, num_warps={warps})
        return y
    """
    return _program(recipe, kernel, forward)


def rows(recipe: Recipe, body: str, choose: random.Random) -> str:
    """One program for one or more whole rows; `y` is a row's, or one number a row, or two of them."""
    pointers, many, warps = _pointers(recipe), choose.choice((1, 2, 4)), choose.choice((4, 8, 16))
    policy = choose.choice(("", ", eviction_policy='evict_first'"))
    extra = [f"{n} = tl.load({p} + columns, mask=columns < cols)" for n, p in zip("wb", pointers[1:], strict=False)]
    one = "tl.store(y_ptr + rows, y, mask=rows < num_rows)"
    stores = {
        "rows": "tl.store(y_ptr + at, y, mask=mask)",
        "rows_to_one": one,
        "rows_to_two": one + "\n" + one.replace("y", "z"),
    }
    two = recipe.kind == "rows_to_two"
    parameters = ", ".join([*pointers, "y_ptr", *(["z_ptr"] if two else []), "num_rows", "cols"])
    kernel = f"""
def kernel({parameters}, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    mask = (rows < num_rows)[:, None] & (columns < cols)[None, :]
    at = rows[:, None] * cols + columns[None, :]
    x = tl.load({pointers[0]} + at, mask=mask, other=float('-inf'){policy})
{_indented(chr(10).join(extra))}
{_indented(body)}
{_indented(stores[recipe.kind])}
"""
    forward = f"""
        y = {recipe.out}
        {"z = torch.empty_like(y)" if two else ""}
        cols = x.shape[-1]
        num_rows = x.numel() // cols
        grid = (triton.cdiv(num_rows, {many}),)
        arguments = ({", ".join(recipe.inputs)}, y, {"z, " if two else ""}num_rows, cols)
        kernel[grid](*arguments, ROWS={many}, BLOCK=triton.next_power_of_2(cols), num_warps={warps})
        return y{", z" if two else ""}
    """
    return _program(recipe, kernel, forward)


def middle(recipe: Recipe, body: str, choose: random.Random) -> str:
    """Reduces the middle one of three dimensions; `init` is what the reduction starts from."""
    block, warps = choose.choice((64, 128, 256, 512, 1024)), choose.choice((1, 2, 4, 8))
    kernel = f"""
def kernel(x_ptr, y_ptr, steps, cols, BLOCK: tl.constexpr):
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < cols
    start = tl.program_id(0).to(tl.int64) * steps * cols
    total = tl.full((BLOCK,), {recipe.init}, tl.float32)
    for step in range(steps):
        x = tl.load(x_ptr + start + step * cols + columns, mask=mask, other=0.0)
        {body}
    tl.store(y_ptr + tl.program_id(0) * cols + columns, total, mask=mask)
"""
    forward = f"""
        batch, steps, cols = x.shape
        y = torch.empty(batch, cols, device=x.device)
        kernel[(batch, triton.cdiv(cols, {block}))](x, y, steps, cols, BLOCK={block}, num_warps={warps})
        return y
    """
    return _program(recipe, kernel, forward, init="pass")


def loss(recipe: Recipe, body: str, choose: random.Random) -> str:
    """A mean over all elements: each program's sum first, then the sum of those."""
    pieces, block, warps = choose.choice((1, 2, 4, 8)), choose.choice((1024, 2048, 4096)), choose.choice((4, 8))
    kernel = f"""
def kernel(x_ptr, t_ptr, sums_ptr, n, PIECES: tl.constexpr, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK,), tl.float32)
    for piece in range(PIECES):
        offsets = (tl.program_id(0) * PIECES + piece) * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < n
        x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
        t = tl.load(t_ptr + offsets, mask=mask, other=0.0)
{textwrap.indent(body, " " * 8)}
        total += tl.where(mask, v, 0.0)
    tl.store(sums_ptr + tl.program_id(0), tl.sum(total, axis=0))


@triton.jit
def mean(sums_ptr, y_ptr, num_sums, n, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, num_sums, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(sums_ptr + at, mask=at < num_sums, other=0.0)
    tl.store(y_ptr, tl.sum(total, axis=0) / n)
"""
    forward = f"""
        n = x.numel()
        num_sums = triton.cdiv(n, {block * pieces})
        sums = torch.empty(num_sums, device=x.device)
        y = torch.empty((), device=x.device)
        kernel[(num_sums,)](x, t, sums, n, PIECES={pieces}, BLOCK={block}, num_warps={warps})
        mean[(1,)](sums, y, num_sums, n, BLOCK=1024)
        return y
    """
    return _program(recipe, kernel, forward)


def matmul(recipe: Recipe, body: str, choose: random.Random) -> str:
    """Tiles of a product, in full fp32."""
    tall, wide, deep = choose.choice((32, 64)), choose.choice((32, 64)), choose.choice((16, 32))
    warps = choose.choice((4, 8))
    kernel = f"""
def kernel(a_ptr, b_ptr, c_ptr, y_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        k = start + tl.arange(0, BK)
        a = tl.load(a_ptr + rows[:, None] * K + k[None, :], mask=(rows < M)[:, None] & (k < K)[None, :], other=0.0)
        inside = (k < K)[:, None] & (columns < N)[None, :]
        b = tl.load(b_ptr + k[:, None] * N + columns[None, :], mask=inside, other=0.0)
        total += tl.dot(a, b, input_precision="ieee")
    c = tl.load(c_ptr + columns, mask=columns < N, other=0.0)
    {body}
    tl.store(y_ptr + rows[:, None] * N + columns[None, :], y, mask=(rows < M)[:, None] & (columns < N)[None, :])
"""
    forward = f"""
        (M, K), N = a.shape, b.shape[1]
        y = torch.empty(M, N, device=a.device)
        grid = (triton.cdiv(M, {tall}), triton.cdiv(N, {wide}))
        kernel[grid](a, b, bias, y, M, N, K, BM={tall}, BN={wide}, BK={deep}, num_warps={warps})
        return y
    """
    return _program(recipe, kernel, forward)


SKELETONS: dict[str, Callable[[Recipe, str, random.Random], str]] = {
    "pointwise": pointwise, "rows": rows, "rows_to_one": rows, "rows_to_two": rows, "middle": middle, "loss": loss,
    "matmul": matmul,
}  # fmt: skip

# Each takes a right program and makes a plausible mistake in it; one that does not apply is skipped.
_SLIPS: tuple[tuple[str, str], ...] = (
    ("offsets < n", "offsets < n - 1"),
    ("(columns < cols)", "(columns < cols - 1)"),
    ("columns < cols", "columns < cols - 1"),
    ("(rows < M)", "(rows < M - 1)"),
    ("rows[:, None] * cols + columns[None, :]", "columns[None, :] * num_rows % cols + rows[:, None] * cols"),
    ("device=x.device)\n", "device=x.device, dtype=torch.float16)\n"),
    ("torch.empty_like(x)", "torch.empty_like(x, dtype=torch.float16)"),
    ("+ offsets, y, mask", "+ offsets, y.to(tl.bfloat16), mask"),
    ("+ at, y, mask", "+ at, y.to(tl.float16), mask"),
)
_BREAKS: tuple[tuple[str, str], ...] = (
    ("tl.program_id(0)", "tl.program_id(0"),
    ("tl.program_id(0)", "tl.program_index(0)"),
    ("tl.load(", "tl.loads("),
    ("tl.arange(0, ", "tl.arange(0, 3 * "),
    ("mask=mask", "mask=maskk"),
    ("torch.empty", "torch.emtpy"),
    ("class ModelNew(torch.nn.Module):", "class Model(torch.nn.Module):"),
    ("        return y", "        raise NotImplementedError\n        return y"),
    ("        return y", "        if float(y.sum()) > 0:\n            y = y + 1\n        return y"),
    ("tl.constexpr):", "tl.constexpr, EXTRA: tl.constexpr):"),
    ("        return y", "        return self.scale * y"),
    ("import triton\n", ""),
)
_FAR = "tl.load({0} + (1 << 45) + "
_HANG = """

@triton.jit
def spin(y_ptr):
    x = tl.load(y_ptr)
    for _ in range(8):
        for _ in range(1 << 30):
            x = x * 1.0001 + 0.5
    tl.store(y_ptr, x)

"""
_HARM: dict[Kind, str] = {
    Kind.HOST_CRASH: "        import os\n        os.abort()\n",
    Kind.HANG: "        spin[(1,)](y)\n",  # one thread block, some twenty seconds
    Kind.DEVICE_MEMORY: (  # 128 GiB, just below what a plan may have
        "        device = y.device\n"
        "        huge = [torch.zeros(1 << 34, device=device), torch.zeros((1 << 34) - (1 << 27), device=device)]\n"
    ),
    Kind.HOST_MEMORY: "        huge = [bytearray(1 << 36) for _ in range(64)]\n",
}


def _right(recipe: Recipe, choose: random.Random) -> str:
    return SKELETONS[recipe.kind](recipe, choose.choice(recipe.bodies), choose)


def right_answers(problem: Problem, *, count: int, seed: int) -> list[str]:
    """Texts of right answers, which need not differ; none where the problem has no recipe."""
    recipe, choose = recipe_of(problem.id), random.Random(seed)
    return [] if recipe is None else [_right(recipe, choose) for _ in range(count)]


def _wrong(recipe: Recipe, choose: random.Random) -> str:
    right = _right(recipe, choose)
    slips = [(old, new) for old, new in _SLIPS if old in right]
    if slips and choose.random() < 0.5:
        return right.replace(*choose.choice(slips), 1)
    return SKELETONS[recipe.kind](recipe, choose.choice(recipe.wrong), choose)


def _broken(recipe: Recipe, choose: random.Random) -> str:
    right = _right(recipe, choose)
    if choose.random() < 0.1:
        return right[: choose.randrange(len(right) // 3, len(right) - 40)]  # cut off
    return right.replace(*choose.choice([b for b in _BREAKS if b[0] in right]), 1)


def _harmful(recipe: Recipe, kind: Kind, choose: random.Random) -> str:
    right = _right(recipe, choose)
    if kind is Kind.ILLEGAL_ACCESS:
        pointer = _pointers(recipe)[0]
        return re.sub(rf"tl\.load\({pointer} \+ ", _FAR.format(pointer), right, count=1)
    head, _, tail = right.rpartition("        return y")
    program = head + _HARM[kind] + "        return y" + tail
    return program.replace("\n\nclass ModelNew", _HANG + "\nclass ModelNew") if kind is Kind.HANG else program


def _make(recipe: Recipe, kind: Kind, choose: random.Random) -> str:
    match kind:
        case Kind.RIGHT:
            return _right(recipe, choose)
        case Kind.WRONG:
            return _wrong(recipe, choose)
        case Kind.BROKEN:
            return _broken(recipe, choose)
        case _:
            return _harmful(recipe, kind, choose)


def _recorded(problems: Sequence[Problem], path: Path) -> Iterator[Entry]:
    by_id = {problem.id: problem for problem in problems}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        source = extract(row["completion"], finish_reason=row["finish_reason"]).source
        if source is not None and (problem := by_id.get(row["problem"])) is not None:
            yield Entry(problem=problem, candidate=_candidate(problem, source), kind=Kind.RECORDED)


def _candidate(problem: Problem, source: str) -> Candidate:
    return Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)


def mixed_set(problems: Sequence[Problem], *, count: int, seed: int, recorded: Path) -> list[Entry]:
    """`count` candidates without a repetition, in bursts of one problem. Raises ValueError where so many distinct ones
    cannot be made."""
    choose = random.Random(seed)
    found = {entry.candidate.id: entry for entry in _recorded(problems, recorded)}
    kept = choose.sample(list(found.values()), min(len(found), count // 6))
    found = {entry.candidate.id: entry for entry in kept}
    able = [(problem, recipe) for problem in problems if (recipe := recipe_of(problem.id)) is not None]
    left = count - len(found)
    wanted = {kind: round((count if kind.harmful else left) * share) for kind, share in _SHARES.items()}
    wanted[Kind.RIGHT] += left - sum(wanted.values())
    for kind, number in wanted.items():
        for _ in range(number):
            for _ in range(1000):
                problem, recipe = choose.choice(able)
                candidate = _candidate(problem, _make(recipe, kind, choose))
                if candidate.id not in found:
                    found[candidate.id] = Entry(problem=problem, candidate=candidate, kind=kind)
                    break
            else:
                raise ValueError(f"there are no {number} distinct candidates of kind {kind}")
    return _in_bursts(list(found.values()), choose)


def _in_bursts(entries: list[Entry], choose: random.Random) -> list[Entry]:
    choose.shuffle(entries)
    bursts: list[list[Entry]] = []
    for problem_id in sorted({entry.problem.id for entry in entries}):
        mine = [entry for entry in entries if entry.problem.id == problem_id]
        bursts += [mine[at : at + _BURST] for at in range(0, len(mine), _BURST)]
    choose.shuffle(bursts)
    return [entry for burst in bursts for entry in burst]

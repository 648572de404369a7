"""A source of examples small enough for tests: chains of elementwise operations, and answers with one thing broken.

The right answers are right by construction; the feedback is written here, where a test needs no judge.
"""

from __future__ import annotations

import random

from standin.examples import Example

# What the module says, and what the kernel says, of the value so far.
OPERATIONS = {
    "relu": ("torch.relu(x)", "tl.maximum(x, 0.0)"),
    "sigmoid": ("torch.sigmoid(x)", "tl.sigmoid(x)"),
    "tanh": ("torch.tanh(x)", "2.0 * tl.sigmoid(2.0 * x) - 1.0"),
    "abs": ("torch.abs(x)", "tl.abs(x)"),
    "square": ("x * x", "x * x"),
    "exp": ("torch.exp(-x)", "tl.exp(-x)"),
    "scale": ("x * {number}", "x * {number}"),
    "shift": ("x + {number}", "x + {number}"),
}
PROBLEM = """import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
{module}
        return x


def get_inputs():
    return [torch.randn({rows}, {columns})]


def get_init_inputs():
    return []
"""
ANSWER = """import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    x = tl.load(x_ptr + at, mask=mask)
{body}
    tl.store(y_ptr + at, x, mask=mask)


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        n = x.numel()
        kernel[(triton.cdiv(n, {block}),)](x, y, n, BLOCK={block})
        return y
"""
# Each takes a right answer's text to a wrong one's, and says what a judge says of it.
BREAKAGES = (
    ("tl.maximum(", "tl.max(", "compile_error: tl.max takes a tensor and an axis"),
    ("tl.sigmoid(", "tl.sigmoids(", "compile_error: module 'triton.language' has no attribute 'sigmoids'"),
    ("mask = at < n", "mask = at < n - 7", "wrong_values: the last elements are wrong"),
    ("tl.store(y_ptr + at, x,", "tl.store(y_ptr + at, x0,", "compile_error: NameError: x0 is not defined"),
)


def tiny_pair(seed: int, *, split: str) -> Example:
    """A draft. Every fourth chain of names is held out; a seed draws until its chain is of its split."""
    draw = random.Random(f"tiny:{split}:{seed}")
    while True:
        names = draw.choices(list(OPERATIONS), k=draw.randint(1, 3))
        if (sum(len(name) * place for place, name in enumerate(names, start=1)) % 4 == 0) == (split == "held_out"):
            break
    numbers = [f"{draw.randint(2, 29) / 10}" for _ in names]
    lines = [OPERATIONS[name] for name in names]
    module = "\n".join(f"        x = {m.format(number=n)}" for (m, _), n in zip(lines, numbers, strict=True))
    body = "\n".join(f"    x = {k.format(number=n)}" for (_, k), n in zip(lines, numbers, strict=True))
    problem = PROBLEM.format(module=module, rows=draw.randint(3, 64), columns=draw.randint(5, 300))
    answer = ANSWER.format(body=body, block=draw.choice((256, 512, 1024)))
    return Example(kind="draft", seed=seed, split=split, family="tiny", problem=problem, answer=answer)


def tiny_repair(seed: int, *, split: str) -> Example:
    """A repair of one breakage that applies."""
    draft = tiny_pair(seed, split=split)
    draw = random.Random(f"break:{seed}")
    right, wrong, feedback = draw.choice([breakage for breakage in BREAKAGES if breakage[0] in draft.answer])
    return Example(
        kind="repair",
        seed=seed,
        split=split,
        family="tiny",
        problem=draft.problem,
        attempt=draft.answer.replace(right, wrong, 1),
        feedback=feedback,
        answer=draft.answer,
    )

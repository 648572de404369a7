"""Writes an answer's file from kernels and the lines that launch them, in one of a few dialects.

A dialect is how one author writes: the names, whether sizes are taken from tensors or written as numbers, whether a
function launches the kernel or `forward` does. Knows nothing of what is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from standin.problem_text import Module, constructor


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one author writes. `numbered` values are tmp0, tmp1 and so on; `literal` sizes are numbers."""

    name: str
    pid: str
    row: str
    index: str
    cols: str
    mask: str
    block: str
    count: str
    width: str
    out: str
    numbered: bool = False
    literal: bool = False
    helper: bool = False

    def pointers(self, names: Sequence[str]) -> list[str]:
        """The kernel's parameters for the tensors that it reads."""
        if self.numbered:
            return [f"in_ptr{i}" for i in range(len(names))]
        return [f"{name}_ptr" for name in names]

    def values(self, names: Sequence[str]) -> tuple[list[str], Iterator[str] | None]:
        """What the kernel calls the values that it loads, and the names of what it computes from them."""
        if not self.numbered:
            return list(names), None
        fresh = (f"tmp{i}" for i in range(len(names), 1000))
        return [f"tmp{i}" for i in range(len(names))], fresh

    @property
    def out_ptr(self) -> str:
        return "out_ptr0" if self.numbered else f"{self.out}_ptr"


DIALECTS = (
    Dialect(
        name="tutorial", pid="pid", row="row", index="offsets", cols="cols", mask="mask", block="BLOCK_SIZE",
        count="n_elements", width="n_cols", out="output", helper=True,
    ),
    Dialect(
        name="plain", pid="pid", row="row", index="offs", cols="offs", mask="mask", block="BLOCK", count="n",
        width="n_cols", out="out",
    ),
    Dialect(
        name="literal", pid="pid", row="xindex", index="xindex", cols="rindex", mask="xmask", block="XBLOCK",
        count="xnumel", width="rnumel", out="out", numbered=True, literal=True,
    ),
)  # fmt: skip
_WEIGHTS = (4, 4, 2)
_IMPORTS = ("import torch", "import torch.nn as nn", "import triton", "import triton.language as tl")


def draw_dialect(rng: Random) -> Dialect:
    return rng.choices(DIALECTS, _WEIGHTS)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an answer's file says.

    `kernels` are whole functions. `body` are the lines that allocate, launch and return; in them `{name}` stands for
    one of `arguments`, each a name and the expression that `forward` has for it.
    """

    kernels: tuple[str, ...]
    body: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]
    style: str


def kernel(name: str, parameters: Sequence[str], lines: Sequence[str]) -> str:
    """A jitted function; `lines` are its body, indented from nothing."""
    body = "".join(f"    {line}\n" for line in lines)
    return f"@triton.jit\ndef {name}({', '.join(parameters)}):\n{body}"


def write_answer(answer: Answer, module: Module, dialect: Dialect, *, helper_name: str) -> str:
    """The file's text."""
    init = constructor([name for name, _ in module.arguments], module.state, named=False)
    forward = f"    def forward({', '.join(('self', *module.forward))}):"
    if dialect.helper:
        names = {name: name for name, _ in answer.arguments}
        lines = [line.format_map(names) for line in answer.body]
        function = [f"def {helper_name}({', '.join(names)}):", *(f"    {line}" for line in lines)]
        call = f"        return {helper_name}({', '.join(expression for _, expression in answer.arguments)})"
        between, body = "\n".join(function) + "\n\n\n", [call]
    else:
        expressions = dict(answer.arguments)
        between, body = "", [f"        {line.format_map(expressions)}" for line in answer.body]
    kernels = "".join(f"{text}\n\n" for text in answer.kernels)
    imports = [*_IMPORTS, *(["from triton.language.extra import libdevice"] if "libdevice." in kernels else [])]
    model = "\n".join(["class ModelNew(nn.Module):", *init, forward, *body])
    return "\n".join(imports) + f"\n\n\n{kernels}{between}{model}\n"


def launch_options(rng: Random, options: Mapping[str, object]) -> str:
    """The keyword arguments of a launch; now and then with a number of warps."""
    shown = dict(options)
    if rng.random() < 0.15:
        shown["num_warps"] = rng.choice((4, 8))
    return ", ".join(f"{name}={value}" for name, value in shown.items())

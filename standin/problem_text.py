"""Writes a problem's file in KernelBench form from its parts, in the varied ways that people write such files.

Knows nothing of operations or kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from standin.operations import Step, torch_expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """What a problem's file says.

    `state` are the lines of `__init__` that make parameters and buffers, which the answer repeats; `stateless` those
    that make modules without any. `arguments` are those of `__init__`, by the name of the size that they are given.
    `lines` is the body of `forward`. `inputs` are names and expressions, `sizes` the module-level constants.
    """

    forward: tuple[str, ...]
    lines: tuple[str, ...]
    inputs: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[str, int], ...]
    doc: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
    state: tuple[str, ...] = ()
    stateless: tuple[str, ...] = ()


def constructor(arguments: Sequence[str], lines: Sequence[str], *, named: bool) -> list[str]:
    """`__init__` as lines of a class body; none where there is nothing to do."""
    if not lines and not arguments:
        return []
    start = f"super({'Model, self' if named else ''}).__init__()"
    head = f"    def __init__({', '.join(('self', *arguments))}):"
    return [head, *(f"        {line}" for line in (start, *lines)), ""]


def write_problem(module: Module, rng: Random) -> str:
    """The file's text."""
    typed, named = rng.random() < 0.25, rng.random() < 0.4
    made = (*module.state, *module.stateless)
    init = constructor([name for name, _ in module.arguments], made, named=named)
    if not init and rng.random() < 0.5:
        init = constructor([], ["pass"], named=named)
        init.remove("        pass")
    takes = [f"{name}: torch.Tensor" if typed else name for name in module.forward]
    forward = f"    def forward({', '.join(('self', *takes))}){' -> torch.Tensor' if typed else ''}:"
    doc = f'    """{module.doc}"""\n' if module.doc and rng.random() < 0.3 else ""
    body = "\n".join([*init, forward, *(f"        {line}" for line in module.lines)])
    imports = ["import torch", "import torch.nn as nn"]
    if "F." in body:
        imports.append("import torch.nn.functional as F")
    parts = ["\n".join(imports), f"class Model(nn.Module):\n{doc}{body}", f"def get_inputs():\n{_inputs(module, rng)}"]
    sizes = "\n".join(f"{name} = {value}" for name, value in module.sizes)
    at = 1 if rng.random() < 0.4 else 2
    if sizes:
        parts.insert(at, sizes)
    parts.append(f"def get_init_inputs():\n    return [{', '.join(value for _, value in module.arguments)}]")
    return "\n\n\n".join(parts) + "\n"


def _inputs(module: Module, rng: Random) -> str:
    names, expressions = [name for name, _ in module.inputs], [expression for _, expression in module.inputs]
    if rng.random() < 0.5:
        return f"    return [{', '.join(expressions)}]"
    lines = [f"    {name} = {expression}\n" for name, expression in module.inputs]
    return "".join(lines) + f"    return [{', '.join(names)}]"


def write_steps(
    steps: Sequence[Step], value: str, rng: Random, *, others: dict[str, str] | None = None
) -> tuple[list[str], list[str], str]:
    """The steps in PyTorch on the value named `value`: lines of `__init__` that make modules, lines of `forward`, and
    the expression of the result, which the caller assigns or returns."""
    stateless: list[str] = []
    lines: list[str] = []
    nested = rng.random() < 0.25
    expression = value
    for step in steps:
        other = (others or {}).get(step.other, step.other)
        if expression != value and not (nested and expression.endswith(")") and expression.count("(") < 4):
            lines.append(f"{value} = {expression}")
            expression = value
        constructed = step.operation.module
        if constructed is not None and rng.random() < 0.35 and f"self.{step.name} " not in " ".join(stateless):
            stateless.append(f"self.{step.name} = {constructed.format(c=step.constant)}")
            expression = f"self.{step.name}({expression})"
        elif expression != value and not _once(step):
            lines.append(f"{value} = {expression}")
            expression = torch_expression(step, value, rng, other=other)
        else:
            expression = torch_expression(step, expression, rng, other=other)
    return stateless, lines, expression


def _once(step: Step) -> bool:
    """Whether every form of the operation is a call that says its value once, so that a call may stand in it."""
    return all(form.count("{x}") == 1 and "({x}" in form for form in step.operation.torch)

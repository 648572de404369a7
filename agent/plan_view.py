"""Puts a plan in words: what it is given, its steps, its kernels and the bytes they move.

Reads a validated plan and runs nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sandbox.descriptors import Descriptor
from sandbox.plan import Argument, AtenStep, ChoiceStep, Kernel, LaunchStep, Plan, Step
from sandbox.plan_check import step_refs
from sandbox.precision import kernel_precision

MAX_STEPS_SHOWN = 200


def plan_text(plan: Plan, *, labels: Sequence[str]) -> str:
    """The whole plan as lines of text, under `labels`. Tensors are `%index`, kernels go by name."""
    sections = [
        ("labels", [", ".join(labels) or "none"]),
        ("inputs", [value_text(plan, index) for index in plan.inputs] or ["none"]),
        ("weights", [f"{name}  {value_text(plan, index)}" for name, index in plan.weights] or ["none"]),
        ("steps", steps_lines(plan)),
        ("outputs", [tree_text(plan.outputs)]),
        ("kernels", kernel_lines(plan)),
        ("memory", [memory_text(plan)]),
    ]
    return "\n".join(line for title, lines in sections for line in (title, *(f"  {line}" for line in lines)))


def value_text(plan: Plan, index: int) -> str:
    """A tensor with its type: %3 float32[16, 1024]; strides only where it is not contiguous."""
    value = plan.values[index]
    shape = ", ".join(map(str, value.shape))
    dense = tuple(math.prod(value.shape[axis + 1 :]) for axis in range(len(value.shape)))
    window = "" if value.stride == dense or value.num_elements == 0 else f" stride {list(value.stride)}"
    offset = f" offset {value.offset}" if value.offset else ""
    return f"%{index} {value.dtype}[{shape}]{window}{offset}"


def steps_lines(plan: Plan) -> list[str]:
    """Each step in order, numbered; a very long plan is cut with a line that says so."""
    lines: list[str] = []
    for number, step in enumerate(plan.steps[:MAX_STEPS_SHOWN], start=1):
        first, *rest = step_lines(plan, step)
        lines += [f"{number:>3}  {first}", *(f"     {line}" for line in rest)]
    if (left := len(plan.steps) - MAX_STEPS_SHOWN) > 0:
        lines.append(f"     and {left} more")
    return lines or ["none"]


def step_lines(plan: Plan, step: Step) -> list[str]:
    match step:
        case AtenStep():
            return [aten_text(plan, step)]
        case LaunchStep():
            return [launch_text(plan, step)]
        case ChoiceStep():
            return [f"one of {len(step.alternatives)} configurations, chosen by timing", *choice_lines(plan, step)]


def choice_lines(plan: Plan, step: ChoiceStep) -> list[str]:
    return [
        f"  {name}: {line}"
        for name, alternative in zip(step.names, step.alternatives, strict=True)
        for inner in alternative
        for line in step_lines(plan, inner)
    ]


def aten_text(plan: Plan, step: AtenStep) -> str:
    given = [tree_text(item) for item in step.args] if isinstance(step.args, list) else [tree_text(step.args)]
    if isinstance(step.kwargs, dict):
        given += [f"{key}={tree_text(item)}" for key, item in step.kwargs.items()]
    made = ", ".join("none" if index is None else value_text(plan, index) for index in step.outputs)
    return f"{step.op}({', '.join(given)}) -> {made or 'none'}"


def launch_text(plan: Plan, step: LaunchStep) -> str:
    kernel = plan.kernels[step.kernel]
    given = ", ".join(
        f"{name}={argument_text(arg, kind)}" for (name, kind), arg in zip(kernel.params, step.args, strict=True)
    )
    return f"launch {kernel.name} grid {step.grid} ({given}), {bytes_text(moved_bytes(plan, step))} touched at most"


def argument_text(argument: Argument, kind: str) -> str:
    """What a launch is given: %3 for a tensor, with what it is described as where it is a descriptor."""
    if isinstance(argument, Descriptor):
        padding = "" if argument.padding == "zero" else f" padded with {argument.padding}"
        return f"%{argument.base} as {list(argument.shape)} stride {list(argument.strides)}{padding}"
    return f"%{argument}" if kind.startswith("*") and argument is not None else str(argument)


def moved_bytes(plan: Plan, step: LaunchStep) -> int:
    """Bytes of the tensors that a launch is given, each counted once: what it must move if it uses all of them."""
    return sum(plan.value_bytes(index) for index in set(step_refs(plan, step)))


def kernel_lines(plan: Plan) -> list[str]:
    """One line a compiled kernel. The stack is local memory, where registers spill to."""
    if not plan.kernels:
        return ["none"]
    width = max(len(kernel.name) for kernel in plan.kernels)
    return [kernel_text(kernel, width=width) for kernel in plan.kernels]


def kernel_text(kernel: Kernel, *, width: int) -> str:
    figures = (
        f"sm_{kernel.capability}",
        f"{kernel.num_warps} warps",
        f"{kernel.num_registers} registers",
        f"{kernel.local_bytes} B stack, spills included" if kernel.local_bytes else "no spills",
        f"{bytes_text(kernel.shared_bytes)} shared memory",
        f"{bytes_text(len(kernel.cubin))} cubin",
        f"precision {kernel_precision(kernel)}" + (f" (dots in {', '.join(kernel.dots)})" if kernel.dots else ""),
    )
    return f"{kernel.name:<{width}}  {', '.join(figures)}"


def memory_text(plan: Plan) -> str:
    total = sum(storage.num_bytes for storage in plan.storages)
    return f"{len(plan.storages)} storages, {bytes_text(total)}"


def tree_text(tree: Any) -> str:
    """An argument as Python would show it, tensors as %index; the tags are those of `sandbox/trees.py`."""
    match tree:
        case list():
            return f"[{', '.join(map(tree_text, tree))}]"
        case {"tensor": int(index)}:
            return f"%{index}"
        case {"tuple": list(items)}:
            return f"({', '.join(map(tree_text, items))})"
        case {"dict": list(items)}:
            return f"{{{', '.join(f'{key!r}: {tree_text(item)}' for key, item in items)}}}"
        case dict() if len(tree) == 1:
            return str(next(iter(tree.values())))
    return repr(tree)


def bytes_text(count: int) -> str:
    """12 B, 4.0 KiB, 1.5 MiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"

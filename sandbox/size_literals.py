"""Finds sizes and strides written as numbers that are not those of the tensors they stand for.

Knows the tensors from what tracing saw (`trace.wrong_sizes`) and from the problem's spec. What those say of the
candidate is data out of the sandbox: it is used only where the candidate's text has the literal to match.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sandbox.plan import Plan
from sandbox.plan_check import tree_tensors
from sandbox.spans import Spans
from sandbox.types import Finding

ASSERTED, OUTPUT = "asserted_size", "output_size"
MAX_OUTPUTS = 16  # that are looked at
_MAKES = ("empty", "zeros", "ones", "empty_strided", "empty_strided_cuda", "_empty_strided_cuda", "new_empty")
_VIEWS = ("reinterpret_tensor", "_reinterpret_tensor", "as_strided")

AssertedSize = tuple[int, tuple[int, ...], tuple[int, ...]]  # line, size and stride of the tensor there


def asserted_sizes(tree: ast.Module, spans: Spans, sizes: Sequence[AssertedSize]) -> Iterator[Finding]:
    """What `assert_size_stride` should say at the lines where it failed. A line that saw several sizes is left."""
    seen: dict[int, set[tuple[tuple[int, ...], tuple[int, ...]]]] = {}
    for line, size, stride in sizes:
        seen.setdefault(line, set()).add((size, stride))
    for call in _calls(tree):
        met = seen.get(call.lineno, set())
        if len(met) != 1 or len(call.args) < 3 or not _name(call).endswith("assert_size_stride"):
            continue
        for word, node, value in zip(("size", "stride"), call.args[1:3], next(iter(met)), strict=True):
            if (literal := literal_of(node)) is not None and literal != value:
                what = ast.unparse(call.args[0])
                message = f"line {call.lineno}: {what} has {word} {value}, not {literal}"
                yield spans.finding(ASSERTED, node, instead=repr(value), message=message)


def output_sizes(tree: ast.Module, spans: Spans, plan: Plan, spec: Mapping[str, Any]) -> Iterator[Finding]:
    """Where an output of the wrong shape is made with its shape written as numbers."""
    for shape, stride, wanted in wrong_outputs(plan, spec):
        for call in _calls(tree):
            size_at = 1 if _name(call) in _VIEWS else 0 if _name(call) in _MAKES else None
            if size_at is None or len(call.args) <= size_at or literal_of(call.args[size_at]) != shape:
                continue
            if size_at == 1 and math.prod(shape) != math.prod(wanted):
                continue  # what it is a view of would not have room
            message = f"line {call.lineno}: the output has size {wanted}, not {shape}"
            yield spans.finding(OUTPUT, call.args[size_at], instead=repr(wanted), message=message)
            strides = call.args[size_at + 1] if len(call.args) > size_at + 1 else None
            if strides is not None and literal_of(strides) == stride:
                yield spans.finding(OUTPUT, strides, instead=repr(contiguous(wanted)), message=message)


def wrong_outputs(
    plan: Plan, spec: Mapping[str, Any]
) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """(shape, stride, wanted shape) of each output whose shape is not the reference's; none where structures differ."""
    mine, wanted = tree_tensors(plan.outputs), spec["outputs"]
    if wanted is None or [path for path, _ in mine] != [path for path, _, _ in wanted]:
        return []
    values = [plan.values[index] for _, index in mine]
    pairs = zip(values, (tuple(shape) for _, _, shape in wanted), strict=True)
    return list(dict.fromkeys((v.shape, v.stride, want) for v, want in pairs if v.shape != want))[:MAX_OUTPUTS]


def literal_of(node: ast.expr) -> tuple[int, ...] | None:
    """The numbers of a tuple or list of plain integers."""
    if not isinstance(node, (ast.Tuple, ast.List)):
        return None
    numbers = [e.value for e in node.elts if isinstance(e, ast.Constant) and type(e.value) is int]
    return tuple(numbers) if len(numbers) == len(node.elts) else None


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(max(size, 1) for size in shape[dim + 1 :]) for dim in range(len(shape)))


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")

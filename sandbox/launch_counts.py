"""Finds launches of pointwise kernels that count another number of elements than any of their tensors has.

Knows the launches from the plan, where all counts are numbers, and nothing of the candidate's own text. A count that
fits no tensor may still be meant (four elements at a time): what is found is told with a failure and never makes one.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sandbox.plan import ITEM_BYTES, Kernel, LaunchStep, Plan
from sandbox.plan_check import first_choices, step_refs
from sandbox.size_literals import wrong_outputs
from sandbox.syntax import parse
from sandbox.unknown_names import chain_of

_COUNT = re.compile(r"xnumel|numel|(?:n|num|total)_?(?:elements?|elems?|els?)|n_total|total(?:_size)?|nelem(?:ents)?")
# What is looked at of a plan, which may be made to be slow to look at.
MAX_LAUNCHES, MAX_WRONG, MAX_CHARACTERS = 64, 8, 20_000
# What makes a kernel more than one value out for each index.
_NOT_POINTWISE = frozenset((
    "dot", "dot_scaled", "sum", "max", "min", "argmax", "argmin", "reduce", "associative_scan", "cumsum",
    "cumprod", "sort", "histogram", "xor_sum", "atomic_add", "atomic_max", "atomic_min", "atomic_cas",
    "atomic_xchg", "any", "max2", "min2", "welford", "welford_reduce", "make_block_ptr", "gather",
))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongCount:
    """`kernel` is launched with its count `parameter` at `counted`, which no tensor that it is given has. `wanted` is
    the number of elements of what it writes, None where it writes several sizes; `block` the elements of a program."""

    kernel: str
    parameter: str
    counted: int
    wanted: int | None
    block: int | None


def wrong_counts(plan: Plan, spec: Mapping[str, Any]) -> list[WrongCount]:
    """Each once, in the order of the launches, of the first `MAX_LAUNCHES`. A count that two launches of a kernel share
    is sure only where both want the same in its place."""
    right = {shape: math.prod(wanted) for shape, _, wanted in wrong_outputs(plan, spec)}
    launches = [step for step in first_choices(plan) if isinstance(step, LaunchStep)][:MAX_LAUNCHES]
    bodies = {index: _pointwise_body(plan.kernels[index]) for index in {step.kernel for step in launches}}
    found: dict[tuple[str, str, int], WrongCount] = {}
    for step in launches:
        if (body := bodies[step.kernel]) is not None:
            for wrong in _of_launch(step, plan.kernels[step.kernel], body, plan, right):
                known = found.setdefault((wrong.kernel, wrong.parameter, wrong.counted), wrong)
                if known != wrong:
                    found[wrong.kernel, wrong.parameter, wrong.counted] = replace(wrong, wanted=None)
    return list(found.values())[:MAX_WRONG]


def _pointwise_body(kernel: Kernel) -> ast.FunctionDef | None:
    text = kernel.functions.get(kernel.name, "")
    body = function_named(parse(text), kernel.name) if len(text) <= MAX_CHARACTERS else None
    return body if body is not None and _pointwise(body) else None


def _of_launch(
    step: LaunchStep, kernel: Kernel, body: ast.FunctionDef, plan: Plan, right: Mapping[tuple[int, ...], int]
) -> Iterator[WrongCount]:
    given = {name: argument for (name, _), argument in zip(kernel.params, step.args, strict=True)}
    pointers = {name: plan.values[int(given[name])] for name, kind in kernel.params  # type: ignore[arg-type]
                if kind.startswith("*") and given[name] is not None}  # fmt: skip
    values = [plan.values[index] for index in step_refs(plan, step)]
    numels = {value.num_elements for value in values}
    numels |= {plan.storages[v.storage].num_bytes // ITEM_BYTES[v.dtype] for v in values}
    written = [value for name, value in pointers.items() if name in _stored_pointers(body)]
    sizes = {right.get(value.shape, value.num_elements) for value in written}
    numels -= {value.num_elements for value in written if value.shape in right}  # will not be what it has now
    wanted = sizes.pop() if len(sizes) == 1 else None
    for name, counted in _counts(body, given, kernel).items():
        if written and counted not in numels and counted != wanted:
            yield WrongCount(
                kernel=kernel.name, parameter=name, counted=counted, wanted=wanted, block=_block(body, kernel)
            )


def _counts(body: ast.FunctionDef, given: Mapping[str, Any], kernel: Kernel) -> dict[str, int]:
    """The kernel's counts of elements: arguments, compile-time constants, or numbers that it sets itself."""
    constants = {name: _plain(meaning) for name, meaning in kernel.constants.items()}
    own = {name: node.value for name, node in number_nodes(body)}
    counts = {name: value for name, value in {**given, **constants, **own}.items() if _COUNT.fullmatch(name)}
    return {name: value for name, value in counts.items() if type(value) is int}


def _pointwise(body: ast.FunctionDef) -> bool:
    """One index in x, no loop, no reduction: as far as the text shows."""
    if any(isinstance(node, (ast.For, ast.While)) for node in ast.walk(body)):
        return False
    if any(argument.arg in ("rnumel", "ynumel") for argument in body.args.args):
        return False
    return all(called(call) not in _NOT_POINTWISE and _along_x(call) for call in calls_in(body))


def _along_x(call: ast.Call) -> bool:
    if called(call) != "program_id":
        return True
    axis = call.args[0] if call.args else next((keyword.value for keyword in call.keywords), None)
    return isinstance(axis, ast.Constant) and axis.value == 0


def _stored_pointers(body: ast.FunctionDef) -> set[str]:
    """The parameters that `tl.store` writes through, as far as its address is written out with them."""
    parameters = {argument.arg for argument in (*body.args.args, *body.args.kwonlyargs)}
    addresses = [call.args[0] for call in calls_in(body) if called(call) == "store" and call.args]
    return set[str]().union(*map(names_in, addresses)) & parameters


def _block(body: ast.FunctionDef, kernel: Kernel) -> int | None:
    """The end of the kernel's one `tl.arange`."""
    ends = [call.args[1] for call in calls_in(body) if called(call) == "arange" and len(call.args) > 1]
    if len(ends) != 1:
        return None
    end: ast.expr | None = ends[0]
    if isinstance(end, ast.Name):
        own = [node for node in ast.walk(body) if isinstance(node, ast.AnnAssign) and names_in(node.target) == {end.id}]
        if not own:
            value = _plain(kernel.constants.get(end.id))
            return value if type(value) is int else None
        end = own[0].value
    return end.value if isinstance(end, ast.Constant) and type(end.value) is int else None


def _plain(meaning: Any) -> Any:
    """The value of a compile-time constant as the plan writes it down, where it is a plain one."""
    if isinstance(meaning, dict) and "constexpr" in meaning:
        return _plain(meaning["constexpr"])
    return meaning.get("value") if isinstance(meaning, dict) else None


def function_named(tree: ast.AST, name: str) -> ast.FunctionDef | None:
    """The one function of that name."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    return found[0] if len(found) == 1 else None


def number_nodes(tree: ast.AST) -> list[tuple[str, ast.Constant]]:
    """`name = 123`, wherever in `tree`."""
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and len(node.targets) == 1]
    pairs = [(node.targets[0], node.value) for node in assigned]
    return [
        (target.id, value)
        for target, value in pairs
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and type(value.value) is int
    ]


def calls_in(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def called(call: ast.Call) -> str:
    """The last name of what is called: `load` of `tl.load(...)`."""
    chain = chain_of(call.func)
    return "" if chain is None else chain[-1]


def names_in(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}

"""Finds launches of pointwise kernels that count another number of elements than any of their tensors has.

Knows the launches from the plan, where all counts are numbers, and looks for the same numbers in the candidate's text.
A count that fits no tensor may still be meant (four elements at a time): what is found is told with a failure and
never makes one.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.plan import ITEM_BYTES, Kernel, LaunchStep, Plan
from sandbox.plan_check import first_choices
from sandbox.size_literals import wrong_outputs
from sandbox.spans import Spans
from sandbox.types import Finding
from sandbox.unknown_names import chain_of

RULE = "numel"
_COUNT = re.compile(r"xnumel|numel|(?:n|num|total)_?(?:elements?|elems?|els?)|n_total|total(?:_size)?|nelem(?:ents)?")
# What makes a kernel more than one value out for each index.
_NOT_POINTWISE = frozenset(
    "dot dot_scaled sum max min argmax argmin reduce associative_scan cumsum cumprod sort histogram xor_sum atomic_add "
    "atomic_max atomic_min atomic_cas atomic_xchg any max2 min2 welford welford_reduce make_block_ptr gather".split()
)


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
    """Each once, in the order of the launches."""
    right = {shape: math.prod(wanted) for shape, _, wanted in wrong_outputs(plan, spec)}
    found = []
    for step in first_choices(plan):
        if isinstance(step, LaunchStep):
            found += _of_launch(step, plan.kernels[step.kernel], plan, right)
    return list(dict.fromkeys(found))


def _of_launch(
    step: LaunchStep, kernel: Kernel, plan: Plan, right: Mapping[tuple[int, ...], int]
) -> Iterator[WrongCount]:
    body = _function(ast.parse(kernel.functions.get(kernel.name, "")), kernel.name)
    if body is None or not _pointwise(body):
        return
    given = {name: argument for (name, _), argument in zip(kernel.params, step.args, strict=True)}
    pointers = {name: plan.values[int(given[name])] for name, kind in kernel.params  # type: ignore[arg-type]
                if kind.startswith("*") and given[name] is not None}  # fmt: skip
    numels = {value.num_elements for value in pointers.values()}
    numels |= {plan.storages[v.storage].num_bytes // ITEM_BYTES[v.dtype] for v in pointers.values()}
    written = [value for name, value in pointers.items() if name in stored_pointers(body)]
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
    counts = {name: value for name, value in {**given, **constants}.items() if _COUNT.fullmatch(name)}
    for target, value in assigned_numbers(body):
        if _COUNT.fullmatch(target):
            counts[target] = value
    return {name: value for name, value in counts.items() if type(value) is int}


def assigned_numbers(body: ast.FunctionDef) -> list[tuple[str, int]]:
    return [(name, node.value) for name, node in _number_nodes(body)]


def _number_nodes(tree: ast.AST) -> list[tuple[str, ast.Constant]]:
    """`name = 123`, wherever in `tree`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            if isinstance(node.value, ast.Constant) and type(node.value.value) is int:
                found.append((node.targets[0].id, node.value))
    return found


def stored_pointers(body: ast.FunctionDef) -> set[str]:
    """The parameters that `tl.store` writes through, as far as its address is written out with them."""
    parameters = {argument.arg for argument in (*body.args.args, *body.args.kwonlyargs)}
    stores = [node for node in ast.walk(body) if isinstance(node, ast.Call) and _called(node) == "store" and node.args]
    return {n.id for store in stores for n in ast.walk(store.args[0]) if isinstance(n, ast.Name)} & parameters


def _pointwise(body: ast.FunctionDef) -> bool:
    """One index in x, no loop, no reduction: as far as the text shows."""
    for node in ast.walk(body):
        if isinstance(node, (ast.For, ast.While)):
            return False
        if isinstance(node, ast.Call) and _called(node) in _NOT_POINTWISE:
            return False
        if isinstance(node, ast.Call) and _called(node) == "program_id":
            axis = node.args[0] if node.args else next((k.value for k in node.keywords), None)
            if not (isinstance(axis, ast.Constant) and axis.value == 0):
                return False
    return not any(argument.arg in ("rnumel", "ynumel") for argument in body.args.args)


def _called(node: ast.Call) -> str:
    chain = chain_of(node.func)
    return "" if chain is None else chain[-1]


def _block(body: ast.FunctionDef, kernel: Kernel) -> int | None:
    """The end of the kernel's one `tl.arange`."""
    ends = [n.args[1] for n in ast.walk(body) if isinstance(n, ast.Call) and _called(n) == "arange" and len(n.args) > 1]
    if len(ends) != 1:
        return None
    own = {n.target.id: n.value for n in ast.walk(body) if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    end: Any = own.get(ends[0].id, ends[0]) if isinstance(ends[0], ast.Name) else ends[0]
    if isinstance(end, ast.Name):
        value = _plain(kernel.constants.get(end.id))
    else:
        value = end.value if isinstance(end, ast.Constant) else None
    return value if type(value) is int else None


def _plain(meaning: Any) -> Any:
    """The value of a compile-time constant as the plan writes it down, where it is a plain one."""
    if isinstance(meaning, dict) and "constexpr" in meaning:
        return _plain(meaning["constexpr"])
    return meaning.get("value") if isinstance(meaning, dict) else None


def _function(tree: ast.AST, name: str) -> ast.FunctionDef | None:
    """The one function of that name."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    return found[0] if len(found) == 1 else None


def count_findings(tree: ast.Module, spans: Spans, wrong: WrongCount) -> list[Finding]:
    """The number's places in the text: in the kernel, at its launches, in what those are given. With a replacement
    where every store is masked, the block divides the right number, or the mask can be restored."""
    body = _function(tree, wrong.kernel)
    if body is None:
        return []
    message = f"{wrong.kernel} counts {wrong.counted} elements ({wrong.parameter}), and none of its tensors has so many"
    if wrong.wanted is None:
        return [_on_name(body, spans, message)]
    message += f": what it writes has {wrong.wanted}"
    places = _places(tree, body, wrong)
    masks = None if not places else mask_edits(body, spans, wrong)
    if masks is None:
        return [_on_name(body, spans, message)]
    edits = [(spans.start(n), spans.end(n), str(wrong.wanted)) for n in places] + masks
    return [spans.finding_at(RULE, start, end, instead=text, message=message) for start, end, text in edits]


def _on_name(body: ast.FunctionDef, spans: Spans, message: str) -> Finding:
    start = spans.source.index(body.name, spans.start(body))
    return spans.finding_at(RULE, start, start + len(body.name), instead=None, message=message)


def _places(tree: ast.Module, body: ast.FunctionDef, wrong: WrongCount) -> list[ast.Constant]:
    launches = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Subscript)
                and isinstance(n.func.value, ast.Name) and n.func.value.id == wrong.kernel]  # fmt: skip
    found = [node for name, node in _number_nodes(body) if name == wrong.parameter]
    passed: set[str] = set()
    for node in (inner for launch in launches for inner in ast.walk(launch)):
        if isinstance(node, ast.Constant):
            found.append(node)
        elif isinstance(node, ast.Name):
            passed.add(node.id)
    inside = set(ast.walk(body))
    found += [node for name, node in _number_nodes(tree) if name in passed and node not in inside]
    return [node for node in found if type(node.value) is int and node.value == wrong.counted]


def mask_edits(body: ast.FunctionDef, spans: Spans, wrong: WrongCount) -> list[tuple[int, int, str]] | None:
    """What makes the kernel stop at the right number: nothing where it does already. None where that is not sure."""
    index = _index(body)
    always = {n.targets[0].id: n for n in ast.walk(body) if isinstance(n, ast.Assign)  # a mask that masks nothing
              and isinstance(n.targets[0], ast.Name) and isinstance(n.value, ast.Call) and _called(n.value) == "full"
              and len(n.value.args) > 1 and isinstance(n.value.args[1], ast.Constant) and n.value.args[1].value is True}  # fmt: skip
    stores = [node for node in ast.walk(body) if isinstance(node, ast.Call) and _called(node) == "store"]
    masks = [_mask(store, at=2) for store in stores]
    if all(mask is not None and not _is_none(mask) and getattr(mask, "id", None) not in always for mask in masks):
        return []
    assert wrong.wanted is not None
    if wrong.block is not None and wrong.wanted % wrong.block == 0:
        return []
    if index is None or not isinstance(index.targets[0], ast.Name):
        return None
    test = f"{index.targets[0].id} < {wrong.parameter}"
    used = {mask.id for mask in masks if isinstance(mask, ast.Name) and mask.id in always}
    edits = [(spans.start(always[name].value), spans.end(always[name].value), test) for name in sorted(used)]
    if len(used) < len({ast.dump(mask) if mask is not None else "" for mask in masks}):
        at = spans.end(index)
        edits.append((at, at, f"\n{' ' * index.col_offset}in_range = {test}"))
        edits += _masked_by("in_range", body, spans)
    return edits


def _masked_by(name: str, body: ast.FunctionDef, spans: Spans) -> list[tuple[int, int, str]]:
    """`name` as the mask of every store without one, and of every load that has None in its place."""
    edits = []
    for node in ast.walk(body):
        if not isinstance(node, ast.Call) or _called(node) not in ("load", "store"):
            continue
        at = 2 if _called(node) == "store" else 1
        mask = _mask(node, at=at)
        if mask is not None and _is_none(mask):
            edits.append((spans.start(mask), spans.end(mask), name))
        elif mask is None and at == 2 and len(node.args) == 2:
            end = spans.end(node.args[1])
            edits.append((end, end, f", {name}"))
    return edits


def _index(body: ast.FunctionDef) -> ast.Assign | None:
    """`xindex = xoffset + tl.arange(0, XBLOCK)`, the kernel's one index."""
    found = [s for s in body.body if isinstance(s, ast.Assign) and len(s.targets) == 1
             and any(isinstance(n, ast.Call) and _called(n) == "arange" for n in ast.walk(s.value))]  # fmt: skip
    return found[0] if len(found) == 1 else None


def _mask(call: ast.Call, *, at: int) -> ast.expr | None:
    named = next((keyword.value for keyword in call.keywords if keyword.arg == "mask"), None)
    return named if named is not None else call.args[at] if len(call.args) > at else None


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None

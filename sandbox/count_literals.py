"""Finds in a candidate's text the number of elements that a launch gets wrong, and what to write there.

Knows from `launch_counts.py` which kernel counts what. Inductor leaves masks out where a block divides the number of
elements: such a kernel gets its mask back where the right number is not so divided.
"""

from __future__ import annotations

import ast

from sandbox.launch_counts import WrongCount, called, calls_in, function_named, names_in, number_nodes
from sandbox.spans import Spans
from sandbox.types import Finding

RULE = "numel"
_MASK = "in_range"

Edit = tuple[int, int, str]


def count_findings(tree: ast.Module, spans: Spans, wrong: WrongCount) -> list[Finding]:
    """The number's places in the text: in the kernel, at its launches, in what those are given. With a replacement
    where every store is masked, the block divides the right number, or the mask can be restored."""
    body = function_named(tree, wrong.kernel)
    if body is None:
        return []
    message = f"{wrong.kernel} counts {wrong.counted} elements ({wrong.parameter}), and none of its tensors has so many"
    if wrong.wanted is None:
        return [_on_name(body, spans, message)]
    message += f": what it writes has {wrong.wanted}"
    places = _places(tree, body, wrong)
    masks = mask_edits(body, spans, wrong, wanted=wrong.wanted) if places else None
    if masks is None:
        return [_on_name(body, spans, message)]
    edits = [(spans.start(node), spans.end(node), str(wrong.wanted)) for node in places] + masks
    return [spans.finding_at(RULE, start, end, instead=text, message=message) for start, end, text in edits]


def _on_name(body: ast.FunctionDef, spans: Spans, message: str) -> Finding:
    start = spans.source.index(body.name, spans.start(body))
    return spans.finding_at(RULE, start, start + len(body.name), instead=None, message=message)


def _places(tree: ast.Module, body: ast.FunctionDef, wrong: WrongCount) -> list[ast.Constant]:
    """The wrong number where the kernel sets it, where it is passed, and where a name that is passed gets it."""
    launches = [call for call in calls_in(tree) if _launched(call) == wrong.kernel]
    passed = [node for launch in launches for node in ast.walk(launch)]
    names = {node.id for node in passed if isinstance(node, ast.Name)}
    inside = set(ast.walk(body))
    found = [node for node in passed if isinstance(node, ast.Constant)]
    found += [node for name, node in number_nodes(body) if name == wrong.parameter]
    found += [node for name, node in number_nodes(tree) if name in names and node not in inside]
    return [node for node in found if type(node.value) is int and node.value == wrong.counted]


def _launched(call: ast.Call) -> str | None:
    """`kernel` of `kernel[grid](...)`."""
    if isinstance(call.func, ast.Subscript) and isinstance(call.func.value, ast.Name):
        return call.func.value.id
    return None


def mask_edits(body: ast.FunctionDef, spans: Spans, wrong: WrongCount, *, wanted: int) -> list[Edit] | None:
    """What makes the kernel stop at the right number: nothing where it does already. None where that is not sure."""
    always = _always_true(body)
    masks = [_mask(call, at=2) for call in calls_in(body) if called(call) == "store"]
    if all(mask is not None and not _is_none(mask) and names_in(mask).isdisjoint(always) for mask in masks):
        return []
    if wrong.block is not None and wanted % wrong.block == 0:
        return []
    index = _index(body)
    if index is None or not isinstance(index.targets[0], ast.Name):
        return None
    name = index.targets[0].id
    test = f"{name} < {wrong.parameter}"
    edits = [(spans.start(node), spans.end(node), test) for node in always.values()]
    if any(mask is None or _is_none(mask) for mask in masks):
        at = spans.end(index)
        edits.append((at, at, f"\n{' ' * index.col_offset}{_MASK} = {test}"))
        edits += _masked(body, name, spans)
    return edits


def _always_true(body: ast.FunctionDef) -> dict[str, ast.Call]:
    """`xmask = tl.full([XBLOCK], True, tl.int1)`: masks that mask nothing, by name."""
    found = {}
    for node in ast.walk(body):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Call(args=[_, ast.Constant(value=True), *_]) as call
            ):
                if called(call) == "full":
                    found[name] = call
    return found


def _masked(body: ast.FunctionDef, index: str, spans: Spans) -> list[Edit]:
    """The mask for every store without one, and for every load without one whose address moves with `index`."""
    edits, moving = [], _moving_with(index, body)
    for call in calls_in(body):
        at = {"store": 2, "load": 1}.get(called(call))
        if at is None or not call.args:
            continue
        mask = _mask(call, at=at)
        if mask is not None and _is_none(mask):
            edits.append((spans.start(mask), spans.end(mask), _MASK))
        elif mask is None and len(call.args) == at and (at == 2 or names_in(call.args[0]) & moving):
            end = spans.end_of_argument(call.args[-1], call)
            edits.append((end, end, f", {_MASK}"))
    return edits


def _moving_with(index: str, body: ast.FunctionDef) -> set[str]:
    """The names whose values come from `index`."""
    found = {index}
    for statement in body.body:
        if isinstance(statement, ast.Assign) and names_in(statement.value) & found:
            found |= set[str]().union(*map(names_in, statement.targets))
    return found


def _index(body: ast.FunctionDef) -> ast.Assign | None:
    """`xindex = xoffset + tl.arange(0, XBLOCK)`, the kernel's one index."""
    assigned = [statement for statement in body.body if isinstance(statement, ast.Assign)]
    found = [one for one in assigned if any(called(call) == "arange" for call in calls_in(one.value))]
    return found[0] if len(found) == 1 and len(found[0].targets) == 1 else None


def _mask(call: ast.Call, *, at: int) -> ast.expr | None:
    named = next((keyword.value for keyword in call.keywords if keyword.arg == "mask"), None)
    return named if named is not None else call.args[at] if len(call.args) > at else None


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None

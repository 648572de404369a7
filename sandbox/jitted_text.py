"""The Triton kernels that a candidate's text defines, and where it launches them.

Reads syntax alone: nothing is imported or run.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

_LOOPS = (ast.For, ast.While)
_RANGES = ("range", "static_range")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A function under `triton.jit`. `configs` is the list that `triton.autotune` is given, None without one; `dots`
    says that there are matrix products in the text, its own or those of a function that it may call."""

    node: ast.FunctionDef
    configs: ast.expr | None
    by_heuristics: frozenset[str]
    dots: bool

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def parameters(self) -> list[ast.arg]:
        return [*self.node.args.posonlyargs, *self.node.args.args, *self.node.args.kwonlyargs]

    @property
    def constexprs(self) -> frozenset[str]:
        named = ((argument.arg, argument.annotation) for argument in self.parameters)
        return frozenset(name for name, kind in named if kind is not None and ast.unparse(kind).endswith("constexpr"))

    @property
    def loops(self) -> bool:
        return any(isinstance(node, _LOOPS) for node in ast.walk(self.node))

    def default(self, name: str) -> ast.expr | None:
        places = [*self.node.args.posonlyargs, *self.node.args.args]
        defaults = self.node.args.defaults
        given = dict(zip([argument.arg for argument in places[len(places) - len(defaults) :]], defaults, strict=True))
        given |= {
            argument.arg: value
            for argument, value in zip(self.node.args.kwonlyargs, self.node.args.kw_defaults, strict=True)
            if value is not None
        }
        return given.get(name)

    def steps_by(self, name: str) -> bool:
        """Whether a loop goes in steps of `name`, or something is counted in them."""
        counted = any(_divides(node, name) for node in ast.walk(self.node) if _called(node) == "cdiv")
        return counted or self.loops_by(name)

    def loops_by(self, name: str) -> bool:
        """Whether a loop goes in steps of `name`. A loop that `name` only ends says nothing of a block."""
        loops = [node for node in ast.walk(self.node) if isinstance(node, ast.Call) and _called(node) in _RANGES]
        return any(
            (len(loop.args) == 3 and _names(loop.args[2], name)) or any(_divides(node, name) for node in ast.walk(loop))
            for loop in loops
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """`kernel[grid](...)`. `scopes` are the functions around it, innermost first, and then the module."""

    kernel: Kernel
    grid: ast.expr
    call: ast.Call
    scopes: tuple[ast.AST, ...]

    @property
    def given(self) -> dict[str, ast.expr]:
        """The arguments by the kernel's names for them, as far as the text tells: none by place behind `*arguments`."""
        names = [argument.arg for argument in self.kernel.parameters]
        told = itertools.takewhile(lambda argument: not isinstance(argument, ast.Starred), self.call.args)
        by_place = dict(zip(names, told, strict=False))
        return by_place | {keyword.arg: keyword.value for keyword in self.call.keywords if keyword.arg is not None}

    @property
    def starred(self) -> bool:
        """Whether some arguments by place are written as `*arguments`: a parameter that is not given may be there."""
        return any(isinstance(argument, ast.Starred) for argument in self.call.args)

    @property
    def named(self) -> bool:
        """Whether every keyword is written out: none in `**options`."""
        return all(keyword.arg is not None for keyword in self.call.keywords)


def kernels_of(tree: ast.Module) -> dict[str, Kernel]:
    """By name; a name that is defined twice is left out."""
    found: dict[str, list[Kernel]] = {}
    dots = any(_called(node) == "dot" for node in ast.walk(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(_decorator(item) == "jit" for item in node.decorator_list):
            tuners = [d for d in node.decorator_list if isinstance(d, ast.Call) and _decorator(d) == "autotune"]
            heuristics = [d for d in node.decorator_list if isinstance(d, ast.Call) and _decorator(d) == "heuristics"]
            kernel = Kernel(
                node=node,
                configs=None if not tuners else _argument(tuners[0], "configs"),
                by_heuristics=frozenset(key for item in heuristics for key in _keys(item)),
                dots=dots,
            )
            found.setdefault(node.name, []).append(kernel)
    return {name: kernels[0] for name, kernels in found.items() if len(kernels) == 1}


def launches_of(tree: ast.Module, kernels: dict[str, Kernel]) -> list[Launch]:
    """In the order of the text."""
    found = list(_launches(tree, scopes=(tree,), kernels=kernels))
    return sorted(found, key=lambda launch: (launch.call.lineno, launch.call.col_offset))


def _launches(node: ast.AST, *, scopes: tuple[ast.AST, ...], kernels: dict[str, Kernel]) -> Iterator[Launch]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Subscript):
            launched = child.func.value
            if isinstance(launched, ast.Name) and launched.id in kernels:
                yield Launch(kernel=kernels[launched.id], grid=child.func.slice, call=child, scopes=scopes)
        inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _launches(child, scopes=(child, *scopes) if inner else scopes, kernels=kernels)


def _decorator(node: ast.expr) -> str | None:
    name = node.func if isinstance(node, ast.Call) else node
    return name.attr if isinstance(name, ast.Attribute) else name.id if isinstance(name, ast.Name) else None


def _called(node: ast.AST) -> str | None:
    return _decorator(node) if isinstance(node, ast.Call) else None


def _divides(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Call(args=[_, divisor, *_]) if _called(node) == "cdiv":
            return _names(divisor, name)
        case ast.BinOp(op=ast.FloorDiv(), right=divisor):
            return _names(divisor, name)
    return False


def _names(node: ast.AST, name: str) -> bool:
    return any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(node))


def _argument(call: ast.Call, name: str) -> ast.expr | None:
    if call.args:
        return call.args[0]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _keys(call: ast.Call) -> Iterator[str]:
    values = _argument(call, "values")
    if isinstance(values, ast.Dict):
        yield from (key.value for key in values.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))

"""What names stand for in a candidate's text, as far as one assignment settles it.

Knows nothing of kernels or launches.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Everything in a module or function that belongs to it and not to a function or class inside."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _INNER):
            waiting.extend(ast.iter_child_nodes(node))


class Scopes:
    """Looks names up from the innermost function outwards, and attributes of `self` in the whole text."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree

    def value_of(self, node: ast.expr, *, scopes: Sequence[ast.AST]) -> ast.expr | ast.FunctionDef | None:
        """What a name or an attribute of `self` stands for; None unless it is bound once, by a plain assignment or by
        a `def`. `scopes` are the functions around it, innermost first, and then the module."""
        if isinstance(node, ast.Name):
            for scope in scopes:
                bound = list(_bindings(scope, node.id))
                if bound:
                    return bound[0] if len(bound) == 1 else None
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            bound = list(self._attributes(node.attr))
            return bound[0] if len(bound) == 1 else None
        return None

    def _attributes(self, name: str) -> Iterator[ast.expr | ast.FunctionDef | None]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.ClassDef):
                yield from _bindings(node, name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Attribute) and target.attr == name:
                        yield None if isinstance(node, ast.AugAssign) else node.value


def _bindings(scope: ast.AST, name: str) -> Iterator[ast.expr | ast.FunctionDef | None]:
    """Each binding of `name` in `scope` itself; None for one that says nothing of the value."""
    if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        arguments = scope.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg):
            if argument is not None and argument.arg == name:
                yield None
    plain: dict[int, ast.expr] = {}
    for node in own_nodes(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                plain |= {id(stored): value for stored, value in _pairs(target, node.value)}
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            plain[id(node.target)] = node.value
    for node in own_nodes(scope):
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            yield plain.get(id(node))
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            yield node


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        yield from zip(target.elts, value.elts, strict=True)
    else:
        yield target, value

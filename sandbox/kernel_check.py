"""Decides whether a kernel's text reaches Triton's language and nothing else.

The text comes out of the sandbox: it claims to be what Triton's front end compiled, but a forged plan can hold any
Python. The interpreter would run it as Python, so what the front end refuses is refused here again. Builds and runs
nothing.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Mapping
from typing import Any

from sandbox.kernel_source import MODULES, SourceError, normalised

_FORBIDDEN_NODES = (
    ast.Import, ast.ImportFrom, ast.ClassDef, ast.AsyncFunctionDef, ast.Lambda, ast.Global, ast.Nonlocal, ast.Yield,
    ast.YieldFrom, ast.Await, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.AsyncFor, ast.Delete, ast.Match,
)  # fmt: skip
# What would lead from a tensor or a function to numpy's files, raw memory or Python's insides.
_FORBIDDEN_ATTRIBUTES = frozenset(
    ("handle", "data", "fn", "format", "format_map", "tofile", "dump", "dumps", "ctypes", "base", "gi_frame", "mro")
)
_KERNEL_LIBRARIES = ("triton.language", "triton.runtime", "sandbox.", "torch._inductor.runtime")


def check_text(text: str, scope: Mapping[str, Any]) -> None:
    """Raises SourceError unless the function in `text` is fit to be run. `scope` holds what its global names mean."""
    (function,) = ast.parse(normalised(text)).body
    assert isinstance(function, ast.FunctionDef)
    own = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    own |= {argument.arg for argument in ast.walk(function) if isinstance(argument, ast.arg)}
    meanings = {name: item for name, item in scope.items() if name not in own}
    in_chain: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, _FORBIDDEN_NODES) or (isinstance(node, ast.FunctionDef) and node is not function):
            raise SourceError(f"kernel text holds a {type(node).__name__}")
        if isinstance(node, ast.Attribute):
            if node.attr.startswith("_") or node.attr in _FORBIDDEN_ATTRIBUTES:
                raise SourceError(f"kernel text uses the attribute {node.attr}")
            if id(node) not in in_chain:
                _check_chain(node, meanings, in_chain)
        elif isinstance(node, ast.Name) and id(node) not in in_chain:
            _check_usable(meanings.get(node.id), node.id)


def _check_chain(node: ast.Attribute, meanings: Mapping[str, Any], in_chain: set[int]) -> None:
    """Follows `a.b.c` from a module to what it names: Triton's, by way of no other module."""
    attributes: list[str] = []
    base: ast.expr = node
    while isinstance(base, ast.Attribute):
        in_chain.add(id(base))
        attributes.insert(0, base.attr)
        base = base.value
    if not isinstance(base, ast.Name):
        return
    in_chain.add(id(base))
    found = meanings.get(base.id)
    for attribute in attributes:
        if not isinstance(found, types.ModuleType):
            break
        if not hasattr(found, attribute):
            raise SourceError(f"{found.__name__} has no {attribute}")
        found = getattr(found, attribute)
        if isinstance(found, types.ModuleType) and found.__name__ not in MODULES:
            raise SourceError(f"kernel text reaches the module {found.__name__}")
    _check_usable(found, ".".join((base.id, *attributes)))


def _check_usable(found: Any, name: str) -> None:
    """Refuses modules as values and functions that are not for kernels."""
    if isinstance(found, types.ModuleType):
        raise SourceError(f"kernel text uses the module {name} as a value")
    home = getattr(found, "__module__", None) or ""
    if callable(found) and not home.startswith(_KERNEL_LIBRARIES) and not home.startswith("<"):
        raise SourceError(f"kernel text uses {name}, which is not for kernels")

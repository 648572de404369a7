"""Finds well-known names that a candidate uses and never imports.

Knows nothing of the modules themselves. A name that is bound anywhere in the file, or may come from a star import, is
left alone.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator

from sandbox.spans import Spans
from sandbox.types import Finding

RULE = "missing_import"
_GUARDS = "torch._C._dynamo.guards"
_INDUCTOR = "torch._inductor.runtime"
IMPORTS = {
    "torch": "import torch",
    "triton": "import triton",
    "tl": "import triton.language as tl",
    "nn": "import torch.nn as nn",
    "F": "import torch.nn.functional as F",
    "math": "import math",
    "libdevice": "from triton.language.extra import libdevice",
    "tl_math": f"from {_INDUCTOR}.triton_helpers import math as tl_math",
    "triton_helpers": f"from {_INDUCTOR} import triton_helpers",
    "grid": f"from {_INDUCTOR}.triton_heuristics import grid",
    "extern_kernels": "from torch._inductor.select_algorithm import extern_kernels",
    "get_raw_stream": "from torch._C import _cuda_getCurrentRawStream as get_raw_stream",
    **{name: f"from typing import {name}" for name in ("Any", "Dict", "List", "Optional", "Tuple", "Union")},
}
# These stand after the imports, since they need one.
ASSIGNMENTS = {
    "assert_size_stride": f"assert_size_stride = {_GUARDS}.assert_size_stride",
    "empty_strided_cuda": f"empty_strided_cuda = {_GUARDS}._empty_strided_cuda",
    "reinterpret_tensor": f"reinterpret_tensor = {_GUARDS}._reinterpret_tensor",
}


def import_line(tree: ast.Module) -> int:
    """The line before which an import can be put: after the docstring and `__future__`."""
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            continue
        decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
        return min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    return 1


def missing_imports(tree: ast.Module, spans: Spans) -> Iterator[Finding]:
    """One finding a name, an insertion before the first import or after the last."""
    missing = unbound_names(spans.source, tree)
    needed = set(missing) & (IMPORTS.keys() | ASSIGNMENTS.keys())
    if needed & ASSIGNMENTS.keys() and not _binds(tree, "torch"):
        needed.add("torch")
    for name in sorted(needed & IMPORTS.keys()):
        yield _insertion(name, IMPORTS[name], spans.line_start(import_line(tree)), spans)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    for name in sorted(needed & ASSIGNMENTS.keys()):
        after = spans.end(imports[-1]) if imports else None
        if after is None:
            yield _insertion(name, ASSIGNMENTS[name], spans.line_start(import_line(tree)), spans)
        else:
            message = f"{name} is used and never defined: add `{ASSIGNMENTS[name]}`"
            yield spans.finding_at(RULE, after, after, instead=f"\n{ASSIGNMENTS[name]}", message=message)


def unbound_names(source: str, tree: ast.Module) -> list[str]:
    """Names that are looked up in the module and that nothing in it binds."""
    if any(isinstance(n, ast.ImportFrom) and any(a.name == "*" for a in n.names) for n in ast.walk(tree)):
        return []
    top = symtable.symtable(source, "<candidate>", "exec")
    bound = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used, todo = set[str](), [top]
    while todo:
        scope = todo.pop()
        todo += scope.get_children()
        for symbol in scope.get_symbols():
            if scope is not top and symbol.is_declared_global() and (symbol.is_assigned() or symbol.is_imported()):
                bound.add(symbol.get_name())
            if symbol.is_referenced() and (scope is top or symbol.is_global()):
                used.add(symbol.get_name())
    bound |= {child.get_name() for child in top.get_children()}
    return sorted(used - bound - set(dir(builtins)))


def _binds(tree: ast.Module, name: str) -> bool:
    return any(
        (alias.asname or alias.name) == name for n in tree.body if isinstance(n, ast.Import) for alias in n.names
    )


def _insertion(name: str, line: str, at: int, spans: Spans) -> Finding:
    message = f"{name} is used and never imported: add `{line}`"
    return spans.finding_at(RULE, at, at, instead=f"{line}\n", message=message)

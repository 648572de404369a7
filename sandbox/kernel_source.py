"""The text of a Triton kernel, reduced to what the interpreter needs: function bodies and what their names mean.

`describe_kernel` runs in the trace child and reads jitted functions; `build` runs in the interpret child and makes
Python functions again, from text that is checked once more. Decorators and annotations are taken off and only literal
defaults stay, so that nothing runs but the bodies that Triton's own front end accepted.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import linecache
import symtable
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# What a kernel's global names may stand for on the interpreting side.
MODULES = (
    "triton.language",
    "triton.language.math",
    "triton.language.core",
    "triton.language.standard",
    "triton.language.random",
    "triton.language.extra",
    "triton.language.extra.libdevice",
    "triton.language.extra.cuda",
    "triton.language.extra.cuda.libdevice",
    "torch._inductor.runtime.triton_helpers",
    "triton",
    "math",
)
# The builtins that Triton's front end knows; a kernel's text gets no others.
BUILTINS = ("range", "min", "max", "abs", "len", "float", "int", "bool", "tuple", "list", "isinstance", "print", "zip")
_INLINE_LIBRARIES = ("triton.", "torch._inductor.")


class SourceError(ValueError):
    """A kernel's text is not what the interpreter may run."""


class UnknownName(SourceError):
    """A kernel's text uses a name whose meaning was not described: too much for us, not against the rules."""


class _Strip(ast.NodeTransformer):
    """Takes decorators, annotations and computed defaults off."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.decorator_list, node.returns = [], None
        node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        self.generic_visit(node)
        # A default that is not a literal becomes None: the recorded launch and calls pass what they need by name.
        node.defaults = [d if isinstance(d, ast.Constant) else ast.Constant(None) for d in node.defaults]
        node.kw_defaults = [d if isinstance(d, ast.Constant) else ast.Constant(None) for d in node.kw_defaults]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        # Kept, with nothing to evaluate in it: `BLOCK: tl.constexpr = 256` inside a kernel stays a compile-time value.
        node.annotation = ast.Constant("constexpr")
        return node


def _is_text(statement: ast.stmt) -> bool:
    """Docstrings, and texts that would become one when those before them are gone."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def normalised(source: str) -> str:
    """The one function in `source`, stripped and unparsed. Raises SourceError if it holds anything but one function."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise SourceError(f"kernel text does not parse: {error}") from error
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef):
        raise SourceError("kernel text is not one function")
    return ast.unparse(ast.fix_missing_locations(_Strip().visit(tree)))


def describe_kernel(function: Any) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Texts and name meanings of a JITFunction and of every jitted function of the candidate's own that it calls."""
    functions: dict[str, str] = {}
    names: dict[str, dict[str, Any]] = {}
    todo = [(function.__name__, function)]
    while todo:
        name, jitted = todo.pop()
        if name in functions:
            continue
        functions[name] = normalised(jitted.src)
        scope = {**jitted.fn.__globals__, **_closure(jitted.fn)}
        names[name] = {}
        for used in sorted(global_names(functions[name])):
            if used not in scope:
                continue
            meaning = describe_name(scope[used])
            if meaning is None:
                continue
            names[name][used] = meaning
            if "function" in meaning:
                todo.append((meaning["function"], scope[used]))
    return functions, names


def _closure(function: Any) -> dict[str, Any]:
    cells = function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, cells, strict=True)}


def _symbols(text: str) -> Iterator[symtable.Symbol]:
    """The names of the one function in `text` and of the comprehensions in it, each scope's on its own."""
    todo = symtable.symtable(text, "<kernel>", "exec").get_children()
    while todo:
        table = todo.pop()
        todo += table.get_children()
        yield from table.get_symbols()


def global_names(text: str) -> set[str]:
    """Names that `text` looks up outside itself. A name that it assigns anywhere but in a comprehension is its own."""
    return {symbol.get_name() for symbol in _symbols(text) if symbol.is_global()}


def local_names(text: str) -> set[str]:
    """Parameters, assigned names and targets of comprehensions."""
    return {symbol.get_name() for symbol in _symbols(text) if symbol.is_local() or symbol.is_parameter()} - {".0"}


def describe_name(item: Any) -> dict[str, Any] | None:
    """The meaning of one global of a kernel as plain data, or None where it has none."""
    from triton.language import constexpr, dtype
    from triton.runtime.jit import JITFunction

    if isinstance(item, constexpr):
        inner = describe_name(item.value)
        return None if inner is None else {"constexpr": inner}
    if isinstance(item, dtype):
        return {"dtype": str(item)}
    if item is None or isinstance(item, bool | int | float | str):
        return {"value": item if not isinstance(item, float) else repr(item), "kind": type(item).__name__}
    if isinstance(item, list | tuple):
        inner_items = [describe_name(i) for i in item]
        return None if any(i is None for i in inner_items) else {"tuple": inner_items}
    if isinstance(item, types.ModuleType):
        return {"module": item.__name__} if item.__name__ in MODULES else None
    module, name = getattr(item, "__module__", None) or "", getattr(item, "__name__", "")
    if isinstance(item, JITFunction) and not module.startswith(_INLINE_LIBRARIES):
        return {"function": name}
    for public in MODULES:
        if getattr(importlib.import_module(public), name, None) is item:
            return {"attribute": [public, name]}
    return None


def meaning_of(raw: Mapping[str, Any], function: Callable[[str], Any]) -> Any:
    """The inverse of `describe_name` for a global name; `function` gives the interpreted function of a name. Raises
    SourceError."""
    match dict(raw):
        case {"module": str(name)} if name in MODULES:
            return importlib.import_module(name)
        case {"attribute": [str(module), str(name)]} if module in MODULES and not name.startswith("_"):
            return getattr(importlib.import_module(module), name, None)
        case _:
            return data_of(raw, function)


def data_of(raw: Mapping[str, Any], function: Callable[[str], Any]) -> Any:
    """The same for what may be passed about, inside of tuples and compile-time values too: never a module or what is in
    one, for no check follows where such a value goes."""
    import triton.language as tl

    match dict(raw):
        case {"constexpr": Mapping() as inner}:
            return tl.constexpr(data_of(inner, function))
        case {"dtype": str(name)}:
            return tl.dtype(name)
        case {"value": str(value), "kind": "float"}:
            return float(value)
        case {"value": (bool() | int() | float() | str() | None) as value, "kind": _}:
            return value
        case {"tuple": list(items)}:
            return tuple(data_of(item, function) for item in items)
        case {"function": str(name)}:
            return function(name)
        case _:
            raise SourceError("a kernel uses a name of unknown meaning")


def prepared(source: str, *, name: str, constexprs: tuple[str, ...]) -> str:
    """The text that `build` takes: the function in `source`, with `constexprs` marked as compile-time parameters."""
    parsed = ast.parse(normalised(source))
    assert isinstance(parsed.body[0], ast.FunctionDef)
    if parsed.body[0].name != name:
        raise SourceError("kernel text and name differ")
    for argument in parsed.body[0].args.args:
        if argument.arg in constexprs:
            argument.annotation = ast.Constant("constexpr")
    return ast.unparse(ast.fix_missing_locations(parsed)) + "\n"


def build(text: str, *, name: str, filename: str, scope: dict[str, Any]) -> types.FunctionType:
    """A Python function from a text that `kernel_check` has let through, with `scope` as its globals."""
    # `inspect.getsource`, which the interpreter calls, reads from here.
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    scope["__builtins__"] = {name: getattr(builtins, name) for name in BUILTINS}
    exec(compile(text, filename, "exec"), scope)
    function: types.FunctionType = scope[name]
    if inspect.getsource(function) != text:  # the interpreter would run something else than what was checked
        raise SourceError("kernel text does not read back as it was")
    return function

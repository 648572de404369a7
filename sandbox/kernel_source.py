"""The text of a Triton kernel, reduced to what it is compiled from: function bodies and what their names mean.

The trace child makes such texts of jitted functions (`kernel_description.py`); the compile and the interpret child make
Python functions again, of text that is checked once more. Decorators and annotations are taken off and defaults are
literals or names, so that nothing runs but the bodies that Triton's own front end accepted.
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

from sandbox.syntax import parse

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
INLINE_LIBRARIES = ("triton.", "torch._inductor.")


class SourceError(ValueError):
    """A kernel's text is not what may be compiled or interpreted."""


class UnknownName(SourceError):
    """A kernel's text uses a name whose meaning was not described: too much for us, not against the rules."""


# What stands for a default that is not a literal, and, where a text is compiled, for `tl.constexpr` in annotations.
DEFAULT, _CONSTEXPR = "default_of_", "__constexpr__"


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
        positional = [*node.posonlyargs, *node.args]
        node.defaults = [_default(d, a) for d, a in zip(node.defaults, positional[-len(node.defaults) :], strict=False)]
        node.kw_defaults = [d and _default(d, a) for d, a in zip(node.kw_defaults, node.kwonlyargs, strict=True)]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        if not ast.unparse(node.annotation).strip("'\"").endswith("constexpr"):  # Triton makes nothing of others
            return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)
        # Kept, with nothing to evaluate in it: `BLOCK: tl.constexpr = 256` inside a kernel stays a compile-time value.
        node.annotation = ast.Constant("constexpr")
        return node


def _default(node: ast.expr, argument: ast.arg) -> ast.expr:
    """A literal stays, `-1` for one is computed, `tl.float32` is a name's meaning: these get a name that
    `kernel_description.Description` explains."""
    return node if isinstance(node, ast.Constant) else ast.Name(DEFAULT + argument.arg, ast.Load())


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
        tree = parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise SourceError(f"kernel text does not parse: {error}") from error
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef):
        raise SourceError("kernel text is not one function")
    return ast.unparse(ast.fix_missing_locations(_Strip().visit(tree)))


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


def meaning_of(raw: Mapping[str, Any], function: Callable[[str], Any]) -> Any:
    """The inverse of `kernel_description.describe_name` for a global name; `function` gives the function of a name.
    Raises SourceError."""
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
    parsed = parse(normalised(source))
    assert isinstance(parsed.body[0], ast.FunctionDef)
    if parsed.body[0].name != name:
        raise SourceError("kernel text and name differ")
    for argument in parsed.body[0].args.args:
        if argument.arg in constexprs:
            argument.annotation = ast.Constant("constexpr")
    return ast.unparse(ast.fix_missing_locations(parsed)) + "\n"


class _Annotate(ast.NodeTransformer):
    """Turns the marks of compile-time values into a name for what they mark, which Triton's front end looks at."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = node.annotation and ast.Name(_CONSTEXPR, ast.Load())
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Name(_CONSTEXPR, ast.Load())
        return node


def annotated(text: str) -> tuple[str, dict[str, Any]]:
    """A text that was checked, as Triton's front end wants its annotations, and what they mean."""
    import triton.language as tl

    parsed = _Annotate().visit(parse(text))
    return ast.unparse(ast.fix_missing_locations(parsed)) + "\n", {_CONSTEXPR: tl.constexpr}


class Functions:
    """A kernel's functions, each made when it is first asked for, and only from text that was checked before.

    `make` takes a function's checked text, its name and its scope and gives what stands for it in the process.
    """

    def __init__(
        self,
        functions: Mapping[str, str],
        names: Mapping[str, Mapping[str, Any]],
        *,
        constexprs: Mapping[str, tuple[str, ...]],
        make: Callable[[str, str, dict[str, Any]], Any],
    ) -> None:
        self._functions, self._names, self._constexprs, self._make = functions, names, constexprs, make
        self._made: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        """Raises SourceError, or UnknownName where something is not described."""
        if name not in self._made:
            self._made[name] = None
            self._made[name] = self._function(name)
        if self._made[name] is None:
            raise SourceError(f"the function {name} calls itself")
        return self._made[name]

    def _function(self, name: str) -> Any:
        from sandbox.kernel_check import check_text

        if name not in self._functions:
            raise UnknownName(f"the text of the function {name} is not known")
        text = prepared(self._functions[name], name=name, constexprs=self._constexprs.get(name, ()))
        scope = {used: meaning_of(raw, self) for used, raw in self._names.get(name, {}).items()}
        check_text(text, scope)
        return self._make(text, name, scope)


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

"""Decides whether a kernel's text reaches Triton's language and nothing else.

The text comes out of the sandbox: it claims to be what Triton's front end compiled, but a forged plan can hold any
Python. The interpreter would run it as Python, so what the front end refuses is refused here again. Builds and runs
nothing.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.kernel_source import BUILTINS, MODULES, SourceError, UnknownName, global_names, local_names
from sandbox.syntax import parse

_FORBIDDEN_NODES = (
    ast.Import, ast.ImportFrom, ast.ClassDef, ast.AsyncFunctionDef, ast.Lambda, ast.Global, ast.Nonlocal, ast.Yield,
    ast.YieldFrom, ast.Await, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.AsyncFor, ast.Delete, ast.Match,
    ast.NamedExpr, ast.GeneratorExp, ast.SetComp, ast.DictComp, ast.Dict, ast.Set,
)  # fmt: skip
# What kernels say about tensors, types, compile-time values, pointers and descriptors. A tensor's `handle` holds a
# numpy array, which leads to files and raw memory: neither it nor anything else of Python's may be said.
_SAID_OF_VALUES = """
    T abs advance argmax argmin associative_scan atomic_add atomic_and atomic_cas atomic_max atomic_min atomic_or
    atomic_xchg atomic_xor broadcast_to cast cdiv ceil cos cumprod cumsum erf exp exp2 expand_dims flip floor gather
    histogram item log log2 logical_and logical_or max min permute ravel reduce reduce_or reshape rsqrt sigmoid sin
    softmax sort split sqrt sqrt_rn store sum to trans view xor_sum
    dtype numel shape type value
    SIGNED SIGNEDNESS UNSIGNED address_space element_ty exponent_bias fp_mantissa_width get_block_shapes
    get_int_max_value get_int_min_value int_bitwidth int_signedness is_bf16 is_block is_bool is_const is_dtype
    is_floating is_fp16 is_fp32 is_fp64 is_fp8 is_fp8e4b15 is_fp8e4b8 is_fp8e4nv is_fp8e5 is_fp8e5b16 is_int is_int1
    is_int16 is_int32 is_int64 is_int8 is_int_signed is_int_unsigned is_ptr is_standard_floating is_uint16 is_uint32
    is_uint64 is_uint8 is_void itemsize name nbytes primitive_bitwidth scalar with_element_ty
    block_shape block_type load scatter strides
    ALL NONE
"""
_ATTRIBUTES = frozenset(_SAID_OF_VALUES.split())
_CLASSES = (
    "block_type", "condition", "const", "constexpr", "dtype", "pointer_type", "range", "slice", "static_range",
    "tensor", "tensor_descriptor", "tensor_descriptor_base", "tuple",
)  # fmt: skip


def check_text(text: str, scope: Mapping[str, Any]) -> None:
    """Raises SourceError unless the function in `text` is fit to be run as it stands. `scope` holds what its global
    names mean; UnknownName is raised for one that it lacks."""
    function = _only_function(text, scope)
    in_chain: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, _FORBIDDEN_NODES) or (isinstance(node, ast.FunctionDef) and node is not function):
            raise SourceError(f"kernel text holds a {type(node).__name__}")
        if isinstance(node, ast.keyword) and (node.arg or "").startswith("_"):
            raise SourceError(f"kernel text passes the argument {node.arg}")
        if isinstance(node, ast.Attribute):
            if not isinstance(node.ctx, ast.Load):
                raise SourceError(f"kernel text assigns to the attribute {node.attr}")
            if id(node) not in in_chain:
                _check_chain(node, scope, in_chain)
        elif isinstance(node, ast.Name) and id(node) not in in_chain and node.id in scope:
            _check_usable(scope[node.id], node.id)
    _check_names(function.name, text, scope)


def _only_function(text: str, scope: Mapping[str, Any]) -> ast.FunctionDef:
    try:
        body = parse(text).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise SourceError(f"kernel text does not parse: {error}") from error
    if len(body) != 1 or not isinstance(function := body[0], ast.FunctionDef):
        raise SourceError("kernel text is not one function")
    # Triton's interpreter runs what follows the last line that begins a function, even one inside a string.
    if sum(line.strip().startswith("def ") for line in text.splitlines()) != 1:
        raise SourceError("kernel text holds more than one line that begins a function")
    if function.decorator_list or not all(_is_given(part, scope) for part in _header(function)):
        raise SourceError("kernel text computes something in its header")
    return function


def _is_given(part: ast.expr, scope: Mapping[str, Any]) -> bool:
    """Whether a part of the header is a literal or the name of a plain value: nothing to compute."""
    if isinstance(part, ast.Name) and part.id in scope:
        return _is_value(scope[part.id]) or _is_for_kernels(scope[part.id])
    return isinstance(part, ast.Constant)


def _header(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """Whatever is evaluated when the function is made."""
    arguments = function.args
    yield from arguments.defaults
    yield from (default for default in arguments.kw_defaults if default is not None)
    yield from (node.annotation for node in ast.walk(function) if isinstance(node, ast.arg) and node.annotation)
    yield from (node.annotation for node in ast.walk(function) if isinstance(node, ast.AnnAssign))
    if function.returns is not None:
        yield function.returns


def _check_names(name: str, text: str, scope: Mapping[str, Any]) -> None:
    """Every name is either the function's own or one that `scope` or Triton's front end gives a meaning, never both.

    Triton's interpreter puts its own globals under the function's, numpy among them, so an unknown name is not
    harmless.
    """
    own, used = local_names(text), global_names(text)
    for said in sorted({name} | own | used | set(scope)):
        if said.startswith("__"):
            raise SourceError(f"kernel text uses the name {said}")
    if shadowed := sorted(({name} | own) & set(scope)):
        raise SourceError(f"kernel text gives {shadowed[0]} a second meaning")
    if unknown := sorted(used - set(scope) - set(BUILTINS)):
        kept = "which cannot be kept as text or a plain value (as a triton.constexpr_function cannot)"
        raise UnknownName(f"its text uses {unknown[0]}, {kept}: pass what it gives as a tl.constexpr")


def _check_chain(node: ast.Attribute, scope: Mapping[str, Any], in_chain: set[int]) -> None:
    """Follows `a.b.c` from a module to what it names, by way of no other module; what is left, and all of a chain that
    begins elsewhere, must be what kernels say about values."""
    attributes: list[str] = []
    base: ast.expr = node
    while isinstance(base, ast.Attribute):
        in_chain.add(id(base))
        attributes.insert(0, base.attr)
        base = base.value
    if isinstance(base, ast.Name) and base.id in scope:
        in_chain.add(id(base))
        found, name = scope[base.id], base.id
        while isinstance(found, types.ModuleType) and attributes:
            attribute = attributes.pop(0)
            if found.__name__ not in MODULES:
                raise SourceError(f"kernel text reaches the module {found.__name__}")
            if attribute.startswith("_") or not hasattr(found, attribute):
                raise SourceError(f"kernel text uses {name}.{attribute}")
            found, name = getattr(found, attribute), f"{name}.{attribute}"
        _check_usable(found, name)
    for attribute in attributes:
        if attribute not in _ATTRIBUTES:
            raise SourceError(f"kernel text uses the attribute {attribute}")


def _check_usable(found: Any, name: str) -> None:
    """Lets through plain values, types and what kernels may call; modules are not values."""
    if not _is_value(found) and not _is_for_kernels(found):
        raise SourceError(f"kernel text uses {name}, which is not for kernels")


def _is_value(found: Any) -> bool:
    import triton.language as tl

    if isinstance(found, tuple):
        return all(_is_value(item) or _is_for_kernels(item) for item in found)
    return found is None or isinstance(found, bool | int | float | str | tl.dtype | tl.constexpr)


def _is_for_kernels(found: Any) -> bool:
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITCallable

    if isinstance(found, InterpretedFunction | JITCallable) or found is tl.PropagateNan:
        return True
    if isinstance(found, type):
        return any(found is getattr(tl.core, name, None) for name in _CLASSES)
    if isinstance(found, types.ModuleType) or not callable(found):
        return False
    if getattr(found, "__triton_builtin__", False) or found is tl.core.get_int_dtype:
        return True
    # Triton's libdevice functions stand for those of the target's library; the interpreter has others in their place.
    return getattr(found, "__module__", None) in ("math", "sandbox.libdevice_numpy", "triton.language.extra.libdevice")

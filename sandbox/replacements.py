"""What to write instead of a name that does not exist, where that is sure.

Knows nothing of how unknown names are found. A replacement means the same in every use that it is given for; whether
the kernel is right with it is for the judge. Each family of mistakes has a function of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.spans import Spans
from sandbox.unknown_names import LIBDEVICE, LIBDEVICES, TL, Bindings, NameTable, UnknownName

# Functions that models ask the wrong module for: those that triton.language has, those that only the device library
# has, and other words for one of either.
_IN_TL = frozenset((
    "abs", "add", "atomic_add", "cdiv", "ceil", "clamp", "cos", "cumprod", "cumsum", "div_rn", "dot", "erf",
    "exp", "exp2", "fdiv", "floor", "fma", "full", "log", "log2", "maximum", "minimum", "mul", "num_programs",
    "program_id", "rsqrt", "sigmoid", "sin", "softmax", "sqrt", "sqrt_rn", "sub", "sum", "where", "zeros",
    "zeros_like",
))  # fmt: skip
_IN_LIBDEVICE = frozenset((
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "copysign", "cosh", "erfc", "erfinv",
    "expm1", "fmod", "hypot", "isinf", "isnan", "lgamma", "log10", "log1p", "nearbyint", "pow", "rint", "signbit",
    "sinh", "tan", "tanh", "trunc",
))  # fmt: skip
_OTHER_WORDS = {
    "fabs": "abs", "absolute": "abs", "fmax": "maximum", "fmin": "minimum", "clip": "clamp", "logistic": "sigmoid",
    "expit": "sigmoid", "power": "pow", "arctan": "atan", "arctan2": "atan2", "arcsin": "asin", "arccos": "acos",
    "round": "nearbyint", "ceildiv": "cdiv", "ceil_div": "cdiv", "multiply": "mul", "subtract": "sub", "div": "fdiv",
    "divide": "fdiv", "matmul": "dot", "get_program_id": "program_id",
}  # fmt: skip
_DTYPES = {
    "bf16": "bfloat16", "fp16": "float16", "f16": "float16", "half": "float16", "fp32": "float32", "f32": "float32",
    "float": "float32", "fp64": "float64", "f64": "float64", "double": "float64", "bool": "int1", "bool_": "int1",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "int": "int32", "long": "int64",
}  # fmt: skip
_BARRIERS = frozenset(["barrier", "sync", "syncthreads", "sync_threads", "__syncthreads"])
_HOST_CDIV = frozenset(["ceil_div", "ceildiv", "div_up", "divup"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """`text` in place of the characters from `start` to `end`."""

    start: int
    end: int
    text: str


class Names:
    """What a candidate's file calls the modules; an import that it lacks becomes an edit of its own."""

    def __init__(self, bindings: Bindings, table: NameTable, *, import_at: int) -> None:
        self._bindings = bindings
        self._table = table
        self._import_at = import_at

    def has(self, module: str, name: str) -> bool:
        return name in self._table.get(module, {})

    def language(self) -> tuple[str, list[Edit]]:
        """The name of triton.language."""
        return self._named((TL,), wanted="tl", line="import triton.language as {}")

    def device_library(self) -> tuple[str, list[Edit]]:
        return self._named(LIBDEVICES, wanted="libdevice", line="from triton.language.extra import libdevice as {}")

    def _named(self, modules: tuple[str, ...], *, wanted: str, line: str) -> tuple[str, list[Edit]]:
        if (name := self._bindings.name_of(*modules)) is not None:
            return name, []
        name = f"triton_{wanted}" if wanted in self._bindings else wanted
        text = line.format(name).replace(f"{wanted} as {wanted}", wanted)
        return name, [Edit(start=self._import_at, end=self._import_at, text=text + "\n")]


Family = Callable[[UnknownName, Names, Spans], list[Edit] | None]


def replacement(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    """The edits that put what exists in the place of `unknown`, or None where none is sure."""
    if isinstance(unknown.node, ast.alias):
        return None
    for family in _IN_KERNELS if unknown.in_kernel else _ON_THE_HOST:
        if (edits := family(unknown, names, spans)) is not None:
            return edits
    return None


def device_library_elsewhere(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    """`tl.libdevice.exp`, `tl.math.libdevice.pow`: the module is there under another path."""
    if unknown.name != "libdevice" or unknown.outer is None:
        return None
    if not names.has(LIBDEVICE, unknown.outer.attr):
        inner = UnknownName(
            node=unknown.outer, module=LIBDEVICE, name=unknown.outer.attr, call=unknown.call, in_kernel=True
        )
        return replacement(inner, names, spans)
    name, needed = names.device_library()
    return [*needed, _whole(unknown, name, spans)]


def same_function(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    """A function that another module has, by this name or another word for it."""
    if unknown.outer is not None or unknown.call is None:
        return None
    name = _OTHER_WORDS.get(unknown.name, unknown.name)
    if name in _IN_TL and names.has(TL, name):
        module, needed = names.language()
    elif name in _IN_LIBDEVICE and names.has(LIBDEVICE, name):
        module, needed = names.device_library()
    else:
        return None
    return [*needed, _whole(unknown, f"{module}.{name}", spans)]


def larger_or_smaller(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    """`max` and `min` of two blocks are `tl.maximum` and `tl.minimum`; of one block along an axis `tl.max`, `tl.min`.

    A second argument that is a plain integer may be either, so nothing is sure then.
    """
    kind = {"amax": "max", "amin": "min", "reduce_max": "max", "reduce_min": "min"}.get(unknown.name, unknown.name)
    call = unknown.call
    if kind not in ("max", "min") or call is None or unknown.outer is not None:
        return None
    module, needed = names.language()
    words = {keyword.arg for keyword in call.keywords}
    if "axis" in words or (len(call.args) == 1 and not words):
        return [*needed, _whole(unknown, f"{module}.{kind}", spans)]
    if len(call.args) != 2 or words or unknown.name != kind or _is_integer(call.args[1]):
        return None
    return [*needed, _whole(unknown, f"{module}.{kind}imum", spans)]


def relu(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    if unknown.name != "relu" or (argument := _one_argument(unknown)) is None:
        return None
    module, needed = names.language()
    assert unknown.call is not None
    at = spans.end_of_argument(argument, unknown.call)
    return [*needed, _whole(unknown, f"{module}.maximum", spans), Edit(start=at, end=at, text=", 0.0")]


def product_with_sigmoid(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    """`silu(x)` of a plain name, which may stand twice."""
    argument = _one_argument(unknown)
    if unknown.name not in ("silu", "swish") or not isinstance(argument, ast.Name):
        return None
    module, needed = names.language()
    return [*needed, *_around_call(unknown, f"({argument.id} * {module}.sigmoid", ")", spans)]


def reciprocal(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    if unknown.name not in ("reciprocal", "recip") or _one_argument(unknown) is None:
        return None
    return _around_call(unknown, "(1.0 / ", ")", spans)


def ones(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    """`tl.ones(shape, dtype)` is `tl.full(shape, 1, dtype)`."""
    call = unknown.call
    if unknown.name != "ones" or call is None or len(call.args) + len(call.keywords) != 2 or not call.args:
        return None
    module, needed = names.language()
    at = spans.end_of_argument(call.args[0], call)
    return [*needed, _whole(unknown, f"{module}.full", spans), Edit(start=at, end=at, text=", 1")]


def dtype(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    if unknown.module != TL or unknown.name not in _DTYPES or unknown.call is not None or unknown.outer is not None:
        return None
    return [_whole(unknown, f"{names.language()[0]}.{_DTYPES[unknown.name]}", spans)]


def barrier(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    if unknown.module != TL or unknown.name not in _BARRIERS or unknown.call is None or unknown.call.args:
        return None
    return [_whole(unknown, f"{names.language()[0]}.debug_barrier", spans)]


def host_division(unknown: UnknownName, names: Names, spans: Spans) -> list[Edit] | None:
    """`triton.ceil_div(a, b)` on the host."""
    if unknown.module != "triton" or unknown.name not in _HOST_CDIV or unknown.outer is not None:
        return None
    assert isinstance(unknown.node, ast.Attribute)
    return [_whole(unknown, f"{spans.text(unknown.node.value)}.cdiv", spans)]


_IN_KERNELS: tuple[Family, ...] = (
    device_library_elsewhere, larger_or_smaller, relu, product_with_sigmoid, reciprocal, ones, dtype, barrier,
    same_function,
)  # fmt: skip
_ON_THE_HOST: tuple[Family, ...] = (host_division, dtype)


def _whole(unknown: UnknownName, text: str, spans: Spans) -> Edit:
    """`text` for the chain of names up to and with the one that is not there."""
    assert isinstance(unknown.node, ast.Attribute)
    return Edit(start=spans.start(unknown.node), end=spans.end(unknown.node), text=text)


def _around_call(unknown: UnknownName, before: str, after: str, spans: Spans) -> list[Edit]:
    assert unknown.call is not None
    at = spans.end(unknown.call)
    return [_whole(unknown, before, spans), Edit(start=at, end=at, text=after)]


def _one_argument(unknown: UnknownName) -> ast.expr | None:
    call = unknown.call
    if call is None or unknown.outer is not None or len(call.args) != 1 or call.keywords:
        return None
    return None if isinstance(call.args[0], ast.Starred) else call.args[0]


def _is_integer(node: ast.expr) -> bool:
    node = node.operand if isinstance(node, ast.UnaryOp) else node
    return isinstance(node, ast.Constant) and isinstance(node.value, int)

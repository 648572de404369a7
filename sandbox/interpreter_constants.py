"""Compile-time constants that meet tensors, as Triton's compiler has them: a tensor comes out.

In the interpreter an operator of `tl.constexpr` wraps whatever it computes as a constant again, tensors too, which no
function of the language then takes. Runs in the interpret child only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton.language as tl

_OPERATORS = (
    "add", "radd", "sub", "rsub", "mul", "rmul", "mod", "truediv", "rtruediv", "floordiv", "rfloordiv", "gt", "rgt",
    "ge", "rge", "lt", "rlt", "le", "rle", "eq", "ne", "and", "or", "xor", "lshift", "rshift",
)  # fmt: skip


def _unwrapped(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def operator(self: Any, other: Any) -> Any:
        result = original(self, other)
        inner = getattr(result, "value", None)
        return inner if isinstance(inner, tl.core.tensor) else result

    return operator


def install() -> None:
    """Replaces the operators of `tl.constexpr`, for the life of this process."""
    for name in _OPERATORS:
        setattr(tl.constexpr, f"__{name}__", _unwrapped(getattr(tl.constexpr, f"__{name}__")))

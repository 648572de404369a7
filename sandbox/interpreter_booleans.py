"""Comparisons that give booleans, as Triton's compiler has them.

Triton's interpreter notes the dtype of the operands for what a comparison gives. One number compared is then made a
tensor of floats where it meets a mask, and no mask is a float: `mask & (limit > 0.0)` fails. Runs in the interpret
child only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as ti

_Builder: Any = ti.InterpreterBuilder


def _noted(original: Callable[..., Any]) -> Callable[..., Any]:
    def operation(self: Any, *operands: Any) -> Any:
        result = original(self, *operands)
        return ti.TensorHandle(result.data, tl.int1) if result.data.dtype == np.bool_ else result

    return operation


def install() -> None:
    """Replaces the builder's operation, for the life of this process."""
    _Builder.binary_op = _noted(_Builder.binary_op)

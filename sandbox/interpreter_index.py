"""Tensors of one number where Python asks for a whole number, as `range(n)` does in a kernel.

Triton before 3.7 gives `int` the array, which has one dimension, and NumPy from 2.5 on takes none but arrays without
any: every kernel with such a loop fails. Runs in the interpret child only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from triton.runtime import interpreter as ti

_Triton: Any = ti


def _with_index(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def patch(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    return patch


def install() -> None:
    """Replaces what the interpreter makes of a tensor, for the life of this process."""
    _Triton._patch_lang_tensor = _with_index(_Triton._patch_lang_tensor)

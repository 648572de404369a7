"""bfloat16 arithmetic, and maxima that pass over NaN, as a GPU has them.

Triton's interpreter keeps bfloat16 as uint16 and computes with these as integers, which calls every honest kernel that
multiplies, compares or constructs bfloat16 numbers wrong; and its maxima always give NaN where one operand is NaN. Here
bfloat16 operands are widened to float32 and results rounded to the nearest even, once an operation, as the hardware
does. Where a block is padded with NaN, the interpreter has zeros of bfloat16 and float8 there, and NaN is put in
their place. Runs in the interpret child only. Atomics on bfloat16 are not covered, nor is arithmetic on float8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as ti

_Builder: Any = ti.InterpreterBuilder
_BITS = np.dtype(np.uint16)
# NaN of what is kept as integers, by Triton's name.
_NAN_BITS: dict[str, Any] = {"bf16": np.uint16(0x7FC0), "fp8e5": np.uint8(0x7F), "fp8e4nv": np.uint8(0x7F)}


def _is_brain(handle: Any) -> bool:
    # The interpreter gives a comparison's booleans the dtype of its operands, so the array is asked as well.
    return bool(handle.dtype.scalar == tl.bfloat16 and handle.data.dtype == _BITS)


def widened(bits: Any) -> Any:
    """float32 numbers from bfloat16's bits in uint16. Exact."""
    return (np.asarray(bits).astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrowed(numbers: Any) -> Any:
    """bfloat16's bits in uint16 from float32 numbers, rounded to the nearest even; NaN stays NaN."""
    numbers = np.asarray(numbers, dtype=np.float32)
    bits = np.ascontiguousarray(numbers).view(np.uint32).reshape(numbers.shape)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(numbers), np.uint32(0x7FC0), rounded).astype(np.uint16)


def _wide(handle: Any) -> Any:
    return ti.TensorHandle(widened(handle.data), tl.float32) if _is_brain(handle) else handle


def _narrow(handle: Any) -> Any:
    if handle.data.dtype == np.bool_:
        return ti.TensorHandle(handle.data, tl.int1)
    return ti.TensorHandle(narrowed(handle.data), tl.bfloat16)


def _through_float32(original: Callable[..., Any]) -> Callable[..., Any]:
    """The operation on float32 in place of bfloat16; other operands go their usual way."""

    def operation(self: Any, *operands: Any) -> Any:
        if not any(isinstance(o, ti.TensorHandle) and _is_brain(o) for o in operands):
            return original(self, *operands)
        return _narrow(original(self, *(_wide(o) if isinstance(o, ti.TensorHandle) else o for o in operands)))

    return operation


def _ternary(original: Callable[..., Any]) -> Callable[..., Any]:
    through = _through_float32(original)

    def operation(self: Any, *operands: Any) -> Any:
        moves = operands[-1] is np.where  # chooses, and computes nothing
        return (original if moves else through)(self, *operands)

    return operation


def _cast(original: Callable[..., Any]) -> Callable[..., Any]:
    def cast(self: Any, source: Any, target: Any, *rounding: Any) -> Any:
        if target.scalar == tl.bfloat16:
            return source if _is_brain(source) else ti.TensorHandle(narrowed(source.data), tl.bfloat16)
        if not _is_brain(source):
            return original(self, source, target, *rounding)
        wide = _wide(source)
        return wide if target.scalar == tl.float32 else original(self, wide, target, *rounding)

    return cast


def _get_bf16(self: Any, value: float) -> Any:
    return ti.TensorHandle(narrowed(np.array([value])), tl.bfloat16)


def _dot(original: Callable[..., Any]) -> Callable[..., Any]:
    def dot(self: Any, a: Any, b: Any, d: Any, *how: Any) -> Any:
        return original(self, _wide(a), _wide(b), d, *how)

    return dot


def _padded(pointers: Any) -> Any:
    """NaN in the form of what the pointers lead to."""
    kind = pointers.get_element_ty()
    bits = _NAN_BITS[kind.name]
    return ti.TensorHandle(np.full(pointers.data.shape, bits, dtype=bits.dtype), kind)


def _descriptor_load(original: Callable[..., Any]) -> Callable[..., Any]:
    def load(self: Any, described: Any, offsets: Any, *how: Any) -> Any:
        with_nan = described.padding == ti._ir.PADDING_OPTION.PAD_NAN
        if not with_nan or described.base.get_element_ty().name not in _NAN_BITS:
            return original(self, described, offsets, *how)
        pointers, mask = described.materialize_pointers(offsets)
        return self.create_masked_load(pointers, mask, _padded(pointers), *how, False)

    return load


def _block_load(original: Callable[..., Any]) -> Callable[..., Any]:
    def load(self: Any, block: Any, checked: Any, padding: Any, *how: Any) -> Any:
        with_nan = padding == ti._ir.PADDING_OPTION.PAD_NAN
        if not with_nan or block.base.get_element_ty().name not in _NAN_BITS:
            return original(self, block, checked, padding, *how)
        pointers, mask = block.materialize_pointers(checked)
        return self.create_masked_load(pointers, mask, _padded(pointers), *how)

    return load


def install() -> None:
    """Replaces the builder's operations, for the life of this process."""
    for name in ("binary_op", "unary_op", "create_fma"):
        setattr(_Builder, name, _through_float32(getattr(_Builder, name)))
    _Builder.ternary_op = _ternary(_Builder.ternary_op)
    for name in ("cast_impl", "create_fp_to_fp"):
        setattr(_Builder, name, _cast(getattr(_Builder, name)))
    _Builder.create_dot = _dot(_Builder.create_dot)
    _Builder.get_bf16 = _get_bf16
    _Builder.create_descriptor_load = _descriptor_load(_Builder.create_descriptor_load)
    _Builder.create_tensor_pointer_load = _block_load(_Builder.create_tensor_pointer_load)
    _Builder.create_maxnumf = lambda self, lhs, rhs: self.binary_op(lhs, rhs, np.fmax)
    _Builder.create_minnumf = lambda self, lhs, rhs: self.binary_op(lhs, rhs, np.fmin)

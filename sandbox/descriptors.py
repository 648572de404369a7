"""Descriptors of tensors that launches are given (Triton's `TensorDescriptor`, made on the host), as plain data.

What a plan says of them is hostile, so every bound is here: a descriptor that is let through stays within the storage
of its tensor, and is one that the driver can encode. Knows neither torch nor triton nor CUDA.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_RANK = 5
MAX_BOX = 256  # CUDA driver API, cuTensorMapEncodeTiled: elements of a box along one dimension
MIN_INNER_BYTES = 16  # and bytes of a box along the last one; strides are multiples of as many
_MAX_SIZE, _MAX_STRIDE_BYTES = 2**31 - 1, 2**40 - 1
_MAX_BLOCK_ELEMENTS = 1 << 20  # triton.language.core.TRITON_MAX_TENSOR_NUMEL
PADDINGS = ("zero", "nan")
_PADDED_WITH_NAN = ("fp64", "fp32", "fp16", "bf16")  # of floating types alone, and the driver takes 8-bit ones as bytes

# Triton's names of the dtypes of a plan.
TRITON_DTYPE = {
    "float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float8_e4m3fn": "fp8e4nv",
    "float8_e5m2": "fp8e5", "int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8", "uint64": "u64",
    "uint32": "u32", "uint16": "u16", "uint8": "u8",
}  # fmt: skip
_ITEM_BYTES = {
    "fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "fp8e4nv": 1, "fp8e5": 1, "i64": 8, "i32": 4, "i16": 2, "i8": 1,
    "u64": 8, "u32": 4, "u16": 2, "u8": 1,
}  # fmt: skip
# Bytes of an element by CUtensorMapDataType (cuda.h).
_ELEMENT_BYTES = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 5: 8, 6: 2, 7: 4, 8: 8, 9: 2, 10: 4}
_SWIZZLE_BYTES = {1: 32, 2: 64, 3: 128}  # CUtensorMapSwizzle; 0 is none
# Triton's front end runs as Python what follows the block in such a type (a layout of Gluon's): nothing may.
_KIND = re.compile(r"tensordesc<([a-z0-9]+)\[([0-9]{1,7}(?:, ?[0-9]{1,7}){0,4})\]>", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """One argument of a launch: a tensor described anew. `base` is a value's index, whose first element is the
    descriptor's. `strides` count elements. Its block is in the parameter's type."""

    base: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    def to_json(self) -> dict[str, Any]:
        return {"descriptor": [self.base, list(self.shape), list(self.strides), self.padding]}

    @classmethod
    def from_json(cls, raw: Any) -> Descriptor:
        """Of what `to_json` gives. Raises ValueError, TypeError; sizes are for `fault_of` to check."""
        base, shape, strides, padding = raw["descriptor"]
        if len(raw) != 1 or not all(isinstance(sizes, list) and len(sizes) <= MAX_RANK for sizes in (shape, strides)):
            raise ValueError("a descriptor is malformed")
        return cls(base=base, shape=tuple(shape), strides=tuple(strides), padding=padding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What the type of a descriptor's parameter says: Triton's name of the dtype, and the block that one load takes."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def item_bytes(self) -> int:
        return _ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMap:
    """How a kernel wants a descriptor encoded, besides what the launch says: numbers of `cuTensorMapEncodeTiled`."""

    swizzle: int
    element_type: int
    element_bytes: int
    box: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TensorMap.__slots__} | {"box": list(self.box)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A kernel takes a descriptor apart: address, shape and strides, so many flags, shape and strides again."""

    flags: int

    def to_json(self) -> dict[str, Any]:
        return {"flags": self.flags}


Form = TensorMap | Lowered


def form_from_json(raw: Any) -> Form:
    """Of what `to_json` gives. Raises ValueError, TypeError; numbers are for `form_fault` to check."""
    if set(raw) == {"flags"}:
        return Lowered(flags=raw["flags"])
    if set(raw) != set(TensorMap.__slots__) or not isinstance(raw["box"], list) or len(raw["box"]) > MAX_RANK:
        raise ValueError("the form of a descriptor is malformed")
    return TensorMap(**{**raw, "box": tuple(raw["box"])})


def is_descriptor(kind: str) -> bool:
    """Whether a parameter's type is a descriptor's."""
    return kind.startswith("tensordesc")


def block_of(kind: str) -> Block | None:
    """What the type of a descriptor's parameter says, or None where it is none that a plan can hold."""
    if (found := _KIND.fullmatch(kind)) is None or found[1] not in _ITEM_BYTES:
        return None
    block = Block(dtype=found[1], shape=tuple(int(size) for size in found[2].split(",")))
    powers = all(size > 0 and size & (size - 1) == 0 for size in block.shape)
    return block if powers and math.prod(block.shape) <= _MAX_BLOCK_ELEMENTS else None


def fault_of(descriptor: Descriptor, block: Block, *, dtype: str, offset: int, limit_bytes: int) -> str | None:
    """What is wrong with a descriptor of a tensor of that dtype which begins `offset` elements into a storage of
    `limit_bytes`, or None."""
    rank, shape, strides = len(block.shape), descriptor.shape, descriptor.strides
    if len(shape) != rank or len(strides) != rank:
        return f"has {len(shape)} sizes and {len(strides)} strides for a block of {rank}"
    if not all(_is_within(size, 1, _MAX_SIZE) for size in shape):
        return f"has the shape {_listed(shape)}; each size is from 1 to {_MAX_SIZE}"
    item = block.item_bytes
    if not all(_is_within(stride, 0, _MAX_STRIDE_BYTES // item) for stride in strides) or strides[-1] != 1:
        return f"has the strides {_listed(strides)}; the last one is 1"
    if any(stride * item % MIN_INNER_BYTES for stride in strides[:-1]):
        return f"has strides {_listed(strides)} that are not multiples of {MIN_INNER_BYTES} bytes"
    if TRITON_DTYPE.get(dtype) != block.dtype:
        return f"is of {dtype}, the kernel takes {block.dtype}"
    if offset * item % MIN_INNER_BYTES:
        return f"begins {offset} elements into its memory, which is no multiple of {MIN_INNER_BYTES} bytes"
    if descriptor.padding not in PADDINGS or (descriptor.padding == "nan" and block.dtype not in _PADDED_WITH_NAN):
        return f"of {block.dtype} has the padding {descriptor.padding!r:.20}"
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if (end := (last + 1) * item) > limit_bytes:
        return f"of shape {_listed(shape)} reaches byte {end} of a buffer of {limit_bytes}"
    return None


def form_fault(form: Form, block: Block) -> str | None:
    """What is wrong with the form in which a kernel takes a descriptor with that block, or None."""
    if isinstance(form, Lowered):
        return None if _is_within(form.flags, 1, 2) else f"has {form.flags!r:.20} flags"
    if len(form.box) != len(block.shape) or not all(_is_within(size, 1, MAX_BOX) for size in form.box):
        return f"has the box {_listed(form.box)}; each of {len(block.shape)} sizes is from 1 to {MAX_BOX}"
    if any(size > most for size, most in zip(form.box, block.shape, strict=True)):
        return f"has the box {_listed(form.box)}, which is more than its block"
    known = type(form.element_type) is int and _ELEMENT_BYTES.get(form.element_type) == block.item_bytes
    if not known or type(form.element_bytes) is not int or form.element_bytes != block.item_bytes:
        return f"has elements of type {form.element_type!r:.20}, not of {block.dtype}"
    inner = form.box[-1] * block.item_bytes
    if inner % MIN_INNER_BYTES:
        return f"has a box of {inner} bytes along its last dimension, which is no multiple of {MIN_INNER_BYTES}"
    if not _is_within(form.swizzle, 0, 3) or inner > _SWIZZLE_BYTES.get(form.swizzle, inner):
        return f"has the swizzle {form.swizzle!r:.20} for rows of {inner} bytes"
    return None


def _is_within(raw: Any, low: int, high: int) -> bool:
    return type(raw) is int and low <= raw <= high


def _listed(sizes: Sequence[Any]) -> str:
    return f"[{', '.join(f'{size!r:.20}' for size in sizes)}]"

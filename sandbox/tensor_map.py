"""Encodes descriptors for the tensor memory accelerator: the 128 bytes that a kernel takes by value.

The driver's own encoder is called by its C interface, as Triton's launcher does (`fill_tma_descriptor_tiled` in
triton/backends/nvidia/driver.c): it wants its result aligned to 64 bytes, which an object of `cuda.bindings` is not.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from sandbox.descriptors import Descriptor, TensorMap

MAP_BYTES, MAP_ALIGN = 128, 64  # CUtensorMap (cuda.h)
_INTERLEAVE_NONE, _L2_PROMOTION_128B = 0, 2  # CUtensorMapInterleave, CUtensorMapL2promotion
_FILL = {"zero": 0, "nan": 1}  # CUtensorMapFloatOOBfill: NONE, NAN_REQUEST_ZERO_FMA
_U64_POINTER, _U32_POINTER = ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(ctypes.c_uint32)
# CUtensorMap *, data type, rank, address, sizes, strides, box, element strides, interleave, swizzle, promotion, fill.
ENCODE_ARGUMENTS = (
    ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, _U64_POINTER, _U64_POINTER, _U32_POINTER,
    _U32_POINTER, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """What the driver is told, its dimensions from the last to the first, strides in bytes. The last stride is the
    whole tensor's, which the driver does not read."""

    sizes: tuple[int, ...]
    stride_bytes: tuple[int, ...]
    box: tuple[int, ...]


def tiling(form: TensorMap, descriptor: Descriptor) -> Tiling:
    """A validated descriptor in the driver's terms."""
    sizes = tuple(reversed(descriptor.shape))
    steps = tuple(form.element_bytes * stride for stride in reversed(descriptor.strides[:-1]))
    whole = sizes[-1] * (steps[-1] if steps else form.element_bytes)
    return Tiling(sizes=sizes, stride_bytes=(*steps, whole), box=tuple(reversed(form.box)))


def driver_encoder() -> Any:
    """`cuTensorMapEncodeTiled` of the driver that is loaded. Raises OSError, AttributeError where there is none."""
    function = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled
    function.argtypes, function.restype = ENCODE_ARGUMENTS, ctypes.c_int
    return function


def encoded(encode: Any, form: TensorMap, descriptor: Descriptor, *, address: int) -> tuple[int, bytes]:
    """The driver's result (0 is success) and the encoded descriptor of memory at `address`."""
    told, rank = tiling(form, descriptor), len(form.box)
    memory = ctypes.create_string_buffer(MAP_BYTES + MAP_ALIGN)
    start = -(-ctypes.addressof(memory) // MAP_ALIGN) * MAP_ALIGN
    result = encode(
        start, form.element_type, rank, address, (ctypes.c_uint64 * rank)(*told.sizes),
        (ctypes.c_uint64 * rank)(*told.stride_bytes), (ctypes.c_uint32 * rank)(*told.box),
        (ctypes.c_uint32 * rank)(*(1,) * rank), _INTERLEAVE_NONE, form.swizzle, _L2_PROMOTION_128B,
        _FILL[descriptor.padding],
    )  # fmt: skip
    return int(result), ctypes.string_at(start, MAP_BYTES)

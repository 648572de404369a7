"""Reductions and scans with a combine function of the kernel's own, over whole slices instead of element by element.

Triton's interpreter walks such a reduction in Python, one element at a time: a minute for a row of a few thousand.
Triton requires the combine function to be associative, so halving the axis gives the same answer in a few calls. Runs
in the interpret child only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as ti


def _combined(operation: Any, left: list[Any], right: list[Any], dtypes: list[Any]) -> list[Any]:
    """The combine function on two tuples of arrays of one shape, as arrays."""
    operands = [operation.to_tensor(a, t) for side in (left, right) for a, t in zip(side, dtypes, strict=True)]
    result = operation.combine_fn.fn(*operands)
    parts = result if isinstance(result, tuple) else (result,)
    shape = np.shape(left[0])
    return [
        np.broadcast_to(p.handle.data if isinstance(p, tl.core.tensor) else np.asarray(p), shape).astype(a.dtype)
        for p, a in zip(parts, left, strict=True)
    ]


def _slice(arrays: list[Any], axis: int, start: int | None, stop: int | None) -> list[Any]:
    at = (slice(None),) * axis + (slice(start, stop),)
    return [a[at] for a in arrays]


def generic_reduce(self: Any, tensors: Any) -> list[Any]:
    """Takes the place of `ReduceOps.generic_reduce`."""
    rank = len(tensors[0].handle.data.shape)
    given = self.axis
    dtypes = [t.dtype for t in tensors]
    arrays = [t.handle.data if given is not None else t.handle.data.reshape(-1) for t in tensors]
    axis = 0 if given is None else given % rank
    while (length := arrays[0].shape[axis]) > 1:
        half = length // 2
        left, right = _slice(arrays, axis, 0, half), _slice(arrays, axis, half, 2 * half)
        rest = _slice(arrays, axis, 2 * half, None)
        paired = _combined(self, left, right, dtypes)
        arrays = [np.concatenate((p, r), axis=axis) for p, r in zip(paired, rest, strict=True)]
    finished = []
    for array, dtype in zip(arrays, dtypes, strict=True):
        if given is None:
            shaped = array.reshape((1,) * rank) if self.keep_dims else array.item()
        else:
            shaped = array if self.keep_dims else np.squeeze(array, axis=axis)
        finished.append(self.to_tensor(shaped, dtype))
    return finished


def generic_scan(self: Any, tensors: Any) -> list[Any]:
    """Takes the place of `ScanOps.generic_scan`: after step k each element holds the 2^k elements up to it."""
    dtypes = [t.dtype for t in tensors]
    arrays = [t.handle.data for t in tensors]
    axis = self.axis % len(arrays[0].shape)
    length = arrays[0].shape[axis]
    position = np.arange(length).reshape((-1,) + (1,) * (arrays[0].ndim - axis - 1))
    distance = 1
    while distance < length:
        # Whole arrays, for a tensor's length is a power of two; what came round from the end is not taken.
        earlier = [np.roll(a, distance, axis=axis) for a in arrays]
        joined = _combined(self, earlier, arrays, dtypes)
        arrays = [np.where(position < distance, a, j) for a, j in zip(arrays, joined, strict=True)]
        distance *= 2
    return [self.to_tensor(a, t) for a, t in zip(arrays, dtypes, strict=True)]


def install() -> None:
    """Replaces the slow paths, for the life of this process."""
    ti.ReduceOps.generic_reduce = generic_reduce
    ti.ScanOps.generic_scan = generic_scan

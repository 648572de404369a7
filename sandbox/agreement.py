"""Says whether two runs of the same computation agree, without a float64 answer at hand.

For runs of trusted code and for repeated runs; what a candidate must meet is `compare.py`'s matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sandbox.execute import same_bits

_CHUNK = 1 << 24  # elements compared at once in float64
_MAX_FLIPPED = 1e-3  # share of integers and booleans that may differ: decisions at ties


def disagreement(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], *, bound: float) -> str | None:
    """Why `ours` is not `theirs`, or None.

    Floating-point tensors agree when the root mean square of their difference is within `bound` of theirs, with NaN and
    infinities in the same places; others when almost all elements are equal.
    """
    if len(ours) != len(theirs):
        return f"{len(ours)} outputs, not {len(theirs)}"
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if (mine.shape, mine.dtype) != (other.shape, other.dtype):
            return f"output {index} is {mine.dtype} {tuple(mine.shape)}, not {other.dtype} {tuple(other.shape)}"
        error = _relative_error(mine.reshape(-1), other.reshape(-1))
        limit = bound if mine.is_floating_point() else _MAX_FLIPPED
        if not error <= limit:
            return f"output {index} differs by {error:.2g} of its size, where {limit:.2g} is allowed"
    return None


def _relative_error(mine: torch.Tensor, other: torch.Tensor) -> float:
    if same_bits(mine, other):  # most runs repeat, and one pass tells
        return 0.0
    if mine.is_complex():
        return 0.0 if torch.equal(mine, other) else float("inf")
    if not mine.is_floating_point():
        return float((mine != other).sum()) / mine.numel()
    wrong, size = 0.0, 0.0
    for start in range(0, mine.numel(), _CHUNK):
        a, b = mine[start : start + _CHUNK], other[start : start + _CHUNK]
        same = (a == b) | (a.isnan() & b.isnan())
        finite = a.isfinite() & b.isfinite()
        if not bool((same | finite).all()):
            return float("inf")
        difference = torch.where(finite, a.double() - b.double(), 0.0)
        wrong += float(difference.square().sum())
        size += float(torch.where(finite, b.double(), 0.0).square().sum())
    if wrong == 0.0:
        return 0.0
    return float("inf") if size == 0.0 else (wrong / size) ** 0.5

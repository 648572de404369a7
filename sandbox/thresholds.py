"""How far a reference's inputs are from the thresholds in its graph: `x > 150` of numbers around one tells nothing.

Looks at one run in the declared dtype. Which kinds of stress help is `calibrate.py`'s matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sandbox.eager_mode import EagerMode

_REACH = 4.0  # beyond the threshold, on either side
_FARTHEST = 1e30  # nearly all that single precision holds
# Operators that do one thing below a threshold and another above; by their names without the "_" of those in place.
_COMPARING = frozenset((
    "gt", "lt", "ge", "le", "clamp", "clamp_min", "clamp_max", "clip", "hardtanh", "threshold", "hardshrink",
    "softshrink", "softplus", "maximum", "minimum", "fmax", "fmin", "huber_loss", "smooth_l1_loss",
))  # fmt: skip


class Thresholds(EagerMode):
    """Notes, for each threshold that is compared with, how much larger it is than what is compared with it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ratios: list[float] = []

    @property
    def scales(self) -> tuple[float, float] | None:
        """By what to multiply, at the least and at the most, for values on both sides of each threshold if all before
        it is linear; None where there is no threshold."""
        if not self._ratios:
            return None
        low, high = min(self._ratios) / _REACH, max(self._ratios) * _REACH
        return max(min(low, 1.0), 1 / _FARTHEST), min(max(high, 1.0), _FARTHEST)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket.__name__.rstrip("_") in _COMPARING and args and isinstance(args[0], torch.Tensor):
            size = _largest(args[0])
            thresholds = [_largest(a) for a in (*args[1:], *(kwargs or {}).values())]
            self._ratios += [threshold / size for threshold in thresholds if threshold and size]
        return func(*args, **(kwargs or {}))


def _largest(value: Any) -> float:
    """The largest finite magnitude; 0 where there is none."""
    if isinstance(value, torch.Tensor) and value.numel() and not value.is_complex():
        finite = value.nan_to_num(0.0, 0.0, 0.0) if value.is_floating_point() else value
        return max(abs(float(finite.max())), abs(float(finite.min())))
    return abs(float(value)) if isinstance(value, int | float) and math.isfinite(value) else 0.0

"""Raises where a CUDA kernel would end the whole context by an assertion: values out of range in a few operators.

Stress inputs and references with an operation left out reach such values. Knows only the operators that are common in
models; indexing with computed tensors is among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sandbox.eager_mode import EagerMode


class DeviceAsserts(EagerMode):  # type: ignore[no-untyped-call]
    """Checks arguments before the operators run. Raises ValueError."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        match func.overloadpacket.__name__:
            case "binary_cross_entropy" as name:
                _within(name, args[0], low=0, high=1)
            case "embedding" as name:
                _within(name, args[1], low=0, high=args[0].shape[0] - 1)
            case "gather" | "index_select" | "scatter" | "scatter_" | "scatter_add" | "scatter_add_" as name:
                size = args[0].shape[args[1]] if args[0].dim() else 1
                _within(name, args[2], low=0, high=size - 1)
            case "index" | "index_put" | "index_put_" as name:
                for size, at in zip(args[0].shape, args[1], strict=False):
                    if at is not None and at.dtype != torch.bool:
                        _within(name, at, low=-size, high=size - 1)
            case "multinomial" | "bernoulli" as name:
                _within(name, args[0], low=0, high=float("inf") if name == "multinomial" else 1)
        return func(*args, **(kwargs or {}))


def _within(name: str, t: torch.Tensor, *, low: float, high: float) -> None:
    if t.numel() and not bool(((t >= low) & (t <= high)).all()):
        raise ValueError(f"{name} is given values outside of [{low}, {high}]")

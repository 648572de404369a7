"""What a lower precision inside matrix products and convolutions does to a float64 answer.

A reference that runs under `reduced` gives the answer as tensor cores of that precision would compute it, so that the
bound for a candidate that may use them can be taken from it. Does not decide what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from sandbox.eager_mode import EagerMode
from sandbox.precision import PRECISIONS

# Relative size of half a unit in the last place with the 10 explicit bits of TF32 and of float16.
ROUNDING = 2.0**-11

_CONTRACTIONS = frozenset((
    "mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "convolution", "_convolution",
    "cudnn_convolution", "cudnn_convolution_transpose", "mkldnn_convolution", "slow_conv3d", "conv_transpose3d",
    "_slow_conv2d_forward", "slow_conv_transpose2d", "slow_conv_transpose3d", "slow_conv_dilated2d",
    "slow_conv_dilated3d", "_trilinear", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_flash_attention", "_cudnn_rnn", "mkldnn_rnn_layer",
))  # fmt: skip
_ADDED_FIRST = frozenset(("addmm", "baddbmm", "addbmm", "addmv"))  # the first argument is added, not multiplied


class _Reduced(EagerMode):
    """Cuts the factors of every contraction to 11 significant bits; for "fp16_accumulate" also moves its result.

    Cut, since tensor cores read float32 as TF32 by leaving out its last bits, which errs twice as much as rounding.
    Summing K terms in float16 rounds the K partial sums s_k. An error uniform within half a unit in the last place has
    a root mean square of at most u |s_k| / sqrt(3), u = 2^-11. If the errors are independent, that of their sum is
    u sqrt(sum of s_k^2 / 3). Terms of random sign give s_k ~ sqrt(k), hence u sqrt(K / 6) times a typical result; terms
    of one sign give s_k ~ k, hence u sqrt(K) / 3 times it, which is less.
    """

    def __init__(self, precision: str, *, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._precision, self._seed = precision, seed
        self.num_contractions = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name not in _CONTRACTIONS:
            return func(*args, **(kwargs or {}))
        self.num_contractions += 1
        first = 1 if name in _ADDED_FIRST else 0
        factors = [_changed(a, _cut) if at >= first else a for at, a in enumerate(args)]
        result = func(*factors, **(kwargs or {}))
        if self._precision != "fp16_accumulate":
            return result
        step = ROUNDING * math.sqrt(_length(name, args) / 6)
        return _changed(result, lambda t: self._moved(t, step))

    def _moved(self, t: torch.Tensor, step: float) -> torch.Tensor:
        """`t` with normal noise of `step` times the larger of each magnitude and the root mean square."""
        generator = torch.Generator(t.device).manual_seed(self._seed ^ (0xF16 + self.num_contractions))
        noise = torch.randn(t.shape, generator=generator, device=t.device, dtype=torch.float32)
        return t + noise * step * torch.maximum(t.abs(), t.square().mean().sqrt())


def reduced(precision: str, work: Callable[[], Any], otherwise: Callable[[], Any], *, seed: int) -> Any:
    """What `work` gives with its contractions in `precision`; where it has none, what `otherwise` gives.

    Raises ValueError for a precision that is none of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    mode = _Reduced(precision, seed=seed)
    with mode:
        result = work()
    return result if mode.num_contractions else otherwise()


def _changed(item: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(item, torch.Tensor):
        return change(item) if item.is_floating_point() and item.numel() else item
    if isinstance(item, tuple | list):
        return type(item)(_changed(entry, change) for entry in item)
    return item


def _cut(t: torch.Tensor) -> torch.Tensor:
    """To 11 significant bits, towards zero. Exponents are not limited: overflow in float16 is not what is asked."""
    mantissa, exponent = torch.frexp(t.double())
    return torch.ldexp(torch.trunc(mantissa * 2048.0) / 2048.0, exponent).to(t.dtype)


def _length(name: str, args: Sequence[Any]) -> int:
    """The number of terms that each element of a contraction sums."""
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    if "conv" in name and len(tensors) > 1:
        weight = tensors[1]
        return max(1, weight.numel() // max(1, min(weight.shape[0], weight.shape[1])))
    left = tensors[1] if name in _ADDED_FIRST and len(tensors) > 1 else tensors[0]
    return max(1, int(left.shape[-1]))


def matched_precision() -> None:
    """The precision policy "ieee" for this process: no TF32, no reduced-precision accumulation."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

"""Stress inputs: what a problem's own distribution leaves unseen, made from its own inputs.

Each kind maps one floating tensor to another of the same shape and dtype; other dtypes stay as they are, since indices
and masks have meanings of their own. Beside those of `STRESS` there are those of `scaled_kinds`, whose names say how
far they reach, so that who is told the name can make them. Knows nothing of problems, references or candidates.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import torch

Stress = Callable[[torch.Tensor, int], torch.Tensor]

_PART_ELEMENTS = 1 << 26
_MIN_ELEMENTS = 64  # of smaller tensors a few outliers would be most
NUM_SCALED = 2  # kinds that `scaled_kinds` gives
_SCALED, _BOTH_SIGNS = "scaled", "both signs"
_MIN_SCALES, _MAX_SCALES = 16, 1024  # in one tensor that has the elements


def stressed(kind: str, t: torch.Tensor, *, seed: int) -> torch.Tensor:
    """`t` under a kind of `STRESS` or of `scaled_kinds`, on the elements that it has in memory; what was expanded stays
    so."""
    if not t.is_floating_point() or t.numel() == 0:
        return t
    dense = t
    for dim, step in enumerate(t.stride()):
        if step == 0 and t.shape[dim] > 1:
            dense = dense.narrow(dim, 0, 1)
    wide = dense.float() if t.dtype.itemsize == 1 else dense  # torch computes nothing in float8
    return (STRESS.get(kind) or _scaling(kind))(wide, seed).to(t.dtype).expand(t.shape)


def scaled_kinds(low: float, high: float) -> tuple[str, ...]:
    """The kinds that multiply by scales from `low` to `high`: first those that keep signs."""
    kind = f"{_SCALED} {low:.2g} to {high:.2g}"
    return kind, f"{kind} {_BOTH_SIGNS}"


def _scaling(kind: str) -> Stress:
    """What a kind of `scaled_kinds` does. Raises ValueError for other names."""
    first, low, _, high, *signs = kind.split(maxsplit=4)
    if first != _SCALED:
        raise ValueError(f"no kind of stress: {kind}")
    return functools.partial(_scaled, low=float(low), high=float(high), both_signs=signs == [_BOTH_SIGNS])


def _scaled(t: torch.Tensor, seed: int, *, low: float, high: float, both_signs: bool) -> torch.Tensor:
    """Magnitudes all over the range, evenly on a logarithmic scale: one for each index of as few leading dimensions as
    have several, so that what is summed over the others stays alike."""
    leading = next((k for k in range(1, t.dim()) if math.prod(t.shape[:k]) >= _MIN_SCALES), t.dim())
    num = math.prod(t.shape[:leading])
    distinct = min(num, _MAX_SCALES)
    generator = _generator(t, seed ^ 0x5CA)
    order = torch.randperm(distinct, generator=generator, device=t.device)
    steps = order / (distinct - 1) if distinct > 1 else torch.rand(1, generator=generator, device=t.device)
    scales = low * (high / low) ** steps
    if both_signs:
        scales *= torch.randint(0, 2, scales.shape, generator=generator, device=t.device) * 2 - 1
    scales = scales.repeat(math.ceil(num / distinct))[:num]
    return (t * scales.view(t.shape[:leading] + (1,) * (t.dim() - leading))).to(t.dtype)


def rounding(t: torch.Tensor) -> float:
    """Half the distance from 1 to the next number of the tensor's dtype; 1 where it is not floating."""
    return torch.finfo(t.dtype).eps / 2 if t.is_floating_point() else 1.0


def move_seed(seed: int, turn: int) -> int:
    """The seed of a case's moves in that turn; its own in the first."""
    return (seed + turn * 0x9E3779B97F4A7C15) % 2**63


def moved(t: torch.Tensor, *, seed: int, step: float) -> torch.Tensor:
    """Each element moved up or down by the relative `step`, in float64; other dtypes as they are."""
    if not t.is_floating_point():
        return t
    sign = torch.randint(0, 2, t.shape, generator=_generator(t, seed ^ 0xE95), device=t.device, dtype=torch.int8)
    wide = t.to(torch.float64, copy=True)
    rows = max(1, len(wide) * _PART_ELEMENTS // max(wide.numel(), 1)) if wide.dim() else 1
    whole = wide.dim() == 0
    parts = [(wide, sign)] if whole else zip(torch.split(wide, rows), torch.split(sign, rows), strict=True)
    for part, up in parts:  # in parts and in place: of gigabytes there is no room for more copies
        part.mul_(up.to(torch.float64).mul_(2 * step).add_(1 - step))
    return wide


def vary_weights(model: torch.nn.Module, names: frozenset[str], *, seed: int, device: torch.device) -> None:
    """Moves parameters and buffers off their defaults: a bias of zeros or a scale of ones hides that nobody applies
    it."""
    generator = torch.Generator(device).manual_seed(seed ^ 0xA11)

    def noise(t: torch.Tensor) -> torch.Tensor:
        return torch.randn(t.shape, generator=generator, device=device, dtype=torch.float32)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point() and name in names:
                step = 0.1 * parameter.float().std(correction=0) + 0.05
                parameter.add_((noise(parameter) * step).to(parameter.dtype))
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point() and name in names:
                # Variances stay positive, masks of zeros and ones nearly so. Zeros alone are a running mean, say.
                size = noise(buffer).abs()
                zeros = not bool(buffer.any())
                buffer.copy_((0.5 * size if zeros else buffer.float() * (1.0 + 0.1 * size)).to(buffer.dtype))


def _generator(t: torch.Tensor, seed: int) -> torch.Generator:
    return torch.Generator(t.device).manual_seed(seed)


def _spread(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation in the tensor's dtype."""
    wide = t.float()
    return wide.mean().to(t.dtype), wide.std(correction=0).to(t.dtype)


def _centred(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """Both signs and four times the spread: makes ReLU, clamps and absolute values visible on `torch.rand` inputs.

    A fifth of the mean stays, since a sum that is all cancellation would have no accurate answer.
    """
    return ((t - 0.8 * t.float().mean().to(t.dtype)) * 4.0).to(t.dtype)


def _with_outliers(t: torch.Tensor, seed: int) -> torch.Tensor:
    """Centred, with zeros, ties and a few large values of both signs: saturation, overflow guards and ends of
    ranges."""
    if t.numel() < _MIN_ELEMENTS:
        return _centred(t, seed)
    result = _centred(t, seed).contiguous().clone()
    values = torch.tensor([10.0, -10.0, 30.0, -30.0, 100.0, -100.0, 0.0, 0.0, 1.0, 1.0], device=t.device)
    at = torch.randint(0, t.numel(), (len(values),), generator=_generator(t, seed ^ 0x0D0), device=t.device)
    result.view(-1)[at] = values.to(t.dtype)
    return result


def _halved(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """The same signs at half the scale, for problems that need positive inputs."""
    return t * 0.5


def _large(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """Centred at thirty times the scale: clamps, saturation, thresholds."""
    mean, _ = _spread(t)
    return (t - 0.8 * mean) * 30.0


def _tiny(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """A thousandth of the scale: the epsilon of a normalisation is no longer small beside the variance."""
    return t * 1e-3


def _ties(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """Few distinct values, a quarter of them zero, and every fourth row constant."""
    mean, deviation = _spread(t)
    steps = torch.round((t - mean) / deviation.clamp_min(torch.finfo(t.dtype).tiny) * 1.5) * 0.5
    result: torch.Tensor = steps.contiguous().clone()
    if t.dim() > 1 and t.shape[-1] > 1:
        rows = result.view(-1, t.shape[-1])
        rows[::4] = rows[::4, :1].clone()
    return result


def _one_hot(t: torch.Tensor, seed: int) -> torch.Tensor:
    """A hundredth of the scale but for one large element a row: saturated softmax, norms that are one element."""
    result: torch.Tensor = (t * 0.01).contiguous().clone()
    if t.dim() > 0 and t.shape[-1] > 1:
        rows = result.view(-1, t.shape[-1])
        shape = (rows.shape[0], 1)
        at = torch.randint(0, t.shape[-1], shape, generator=_generator(t, seed ^ 0x0E5), device=t.device)
        rows.scatter_(1, at, 20.0)
    return result


def _negative(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """All below zero."""
    return -t.abs() - 0.1


def _positive(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """All above zero, and above one at times."""
    return t.abs() * 2.0 + 0.1


def _ordered(t: torch.Tensor, _seed: int) -> torch.Tensor:
    """Rows that fall from their largest to their smallest: positions tell on maxima, scans and cumulative sums."""
    return t.sort(dim=-1, descending=True).values if t.dim() else t


# In the order in which they are tried.
STRESS: Mapping[str, Stress] = {
    "outliers": _with_outliers,
    "centred": _centred,
    "halved": _halved,
    "negative": _negative,
    "positive": _positive,
    "large": _large,
    "tiny": _tiny,
    "ties": _ties,
    "one_hot": _one_hot,
    "ordered": _ordered,
}
# One of these is part of every judgement: the first that the problem stands.
FIRST_CHOICE = ("outliers", "centred", "halved")

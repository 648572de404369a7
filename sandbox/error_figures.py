"""How far one output is from its float64 values: the largest error, the root mean square, and what is wrong.

Walks in parts, so that its float64 temporaries stay small. Sets no bound and describes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

CHUNK_ELEMENTS = 1 << 26  # bounds the float64 temporaries of one comparison to a few GiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Error figures of one output; `num_wrong` counts elements beyond the bound or not finite where they should be."""

    max_relative: float
    rms: float
    num_wrong: int
    first_wrong: int | None


def largest_at(flat: torch.Tensor, want: torch.Tensor, spread: float) -> int:
    """Where the error is largest."""
    largest, at = -1.0, 0
    for start in range(0, flat.numel(), CHUNK_ELEMENTS):
        got = flat[start : start + CHUNK_ELEMENTS]
        relative = relative_errors(got, want[start : start + CHUNK_ELEMENTS].to(flat.device), spread)
        if (top := float(relative.max())) > largest:
            largest, at = top, start + int(relative.argmax())
    return at


def relative_errors(got: torch.Tensor, expected: torch.Tensor, spread: float) -> torch.Tensor:
    """|got - expected| / (|expected| + spread) in float64; 0 where both are the same NaN or infinity, infinite where
    only one is."""
    if not got.dtype.is_floating_point:
        return torch.where(got == expected, 0.0, math.inf).to(torch.float64)
    got = got.to(torch.float64)
    same = (got == expected) | (got.isnan() & expected.isnan())
    error = (got - expected).abs() / (expected.abs() + spread)
    error = torch.where(torch.isfinite(got) & torch.isfinite(expected), error, math.inf)
    return torch.where(same, 0.0, error)


def square_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The sum of the squared differences where both are finite; 0 for dtypes that must agree exactly."""
    if not got.dtype.is_floating_point:
        return 0.0
    difference = got.to(torch.float64) - expected.to(torch.float64)
    return float(torch.where(torch.isfinite(difference), difference, 0.0).square().sum())


def errors_of(output: torch.Tensor, value: torch.Tensor, *, spread: float, scale: float, max_relative: float) -> Errors:
    """Walks both in parts. Infinities and NaN must stand in the same places with the same signs; else they are
    wrong."""
    flat, want = output.reshape(-1), value.reshape(-1)
    largest, square_sum, num_wrong, first = 0.0, 0.0, 0, None
    for start in range(0, flat.numel(), CHUNK_ELEMENTS):
        got = flat[start : start + CHUNK_ELEMENTS]
        expected = want[start : start + CHUNK_ELEMENTS].to(got.device)
        agreeing = _agreeing(got, expected, spread, max_relative)
        if agreeing is None:
            relative = relative_errors(got, expected, spread)
            wrong = ~(relative <= max_relative)
            count = int(wrong.sum())
            if count and first is None:
                first = start + int(wrong.to(torch.uint8).argmax())
            num_wrong += count
            agreeing = float(relative.nan_to_num(math.inf).max()), square_error(got, expected)
        largest, square_sum = max(largest, agreeing[0]), square_sum + agreeing[1]
    rms = math.sqrt(square_sum / max(flat.numel(), 1)) / scale
    return Errors(max_relative=largest, rms=rms, num_wrong=num_wrong, first_wrong=first)


def _agreeing(
    got: torch.Tensor, expected: torch.Tensor, spread: float, max_relative: float
) -> tuple[float, float] | None:
    """The largest relative error and the sum of the squared ones of a part in which all is finite and within the bound;
    None for every other.

    Most parts are such, and a third of the passes over memory tells: where something is not finite on either side, the
    largest error or the sum is not finite either.
    """
    if not got.dtype.is_floating_point or expected.dtype != torch.float64 or not got.numel():
        return None
    difference = got - expected
    root = torch.linalg.vector_norm(difference)
    relative = difference.abs_().div_(expected.abs().add_(spread))
    largest, norm = torch.stack([relative.max(), root]).tolist()  # one wait for both; max hands NaN on
    if not (largest <= max_relative and math.isfinite(largest) and math.isfinite(norm)):
        return None
    return largest, norm * norm

"""Decides whether outputs agree with the float64 answer, and describes how they do not.

The bound is a small multiple of PyTorch's own error in the declared dtype, so that a problem on which PyTorch itself
is rough is not held to a standard it misses, and one on which it is exact is not a loophole. Knows nothing of plans or
processes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from sandbox.error_figures import CHUNK_ELEMENTS, Errors, errors_of, largest_at, relative_errors, square_error
from sandbox.trees import dtype_name
from sandbox.types import Failure, Mismatch, Pattern, Status, Tolerance

# Bytes that fill fresh buffers, by case: NaN for every float, then a large finite number, so that luck with one shows
# in the other.
POISON = (0xFF, 0x7B)

_FIRST_ELEMENTS = 1 << 16  # of a comparison that stops at the first wrong part
FEW_ELEMENTS = 32  # of an output, whose error says little of what another kernel's would be
_PATTERN_ELEMENTS = 1 << 22
KEPT_BYTES = 128 << 20


# Puts a tensor where no kernel finds it and gives what brings it back, or None where there is no room.
Keep = Callable[[torch.Tensor], Callable[[], torch.Tensor] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One output as it should be: its bounds, and `answer`, which gives the values when they are needed.

    The values are float64 for floating dtypes, else the declared dtype. Where they are not kept on the device out of
    reach (`vault.py`), small ones are kept on the host (`kept_bytes`), and large ones computed again, since moving
    gigabytes over the bus costs more. `spread` is the geometric mean of the
    magnitudes, `scale` their root mean square; `max_relative` bounds |error| / (|value| + spread) of each element and
    `max_rms` the root mean square of the error over `scale`. Both are 0 for dtypes that must agree exactly.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    answer: Callable[[], torch.Tensor]
    kept_bytes: int
    all_finite: bool
    spread: float
    scale: float
    max_relative: float
    max_rms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of comparing. `status` and `failure` are None together when everything agrees."""

    status: Status | None
    failure: Failure | None
    max_error_ratio: float
    rms_error_ratio: float


def expect(
    path: str,
    exact: torch.Tensor,
    own: Sequence[torch.Tensor],
    tolerance: Tolerance,
    *,
    recompute: Callable[[], torch.Tensor] | None,
    reduced: torch.Tensor | None = None,
) -> Expected:
    """The expectation for one output from the float64 answer and what rounding alone does to it.

    `own` starts with PyTorch's answer in the declared dtype; others may follow, such as the float64 answer on inputs
    moved by one rounding: the largest error of them sets the bound. A bound that is not finite is no bound:
    `all_finite` is False then. `recompute` gives the values again; without it they are kept whatever their size.
    `reduced` is the float64 answer with matrix products in a lower precision that is allowed: a quarter of the
    multiples of its error is a bound as well, since it has that precision's whole rounding in it, which every kernel
    shares.
    """
    bounds = Bounds(own[0], exact, tolerance)
    for other in own[1:]:
        bounds.admit(other)
    if reduced is not None:
        bounds.admit_reduced(reduced)
    return bounds.expected(path, recompute=recompute)


class Bounds:
    """What `expect` finds out about one output, from one answer after the other: no two of the answers need be in
    memory at once. Holds the float64 values, and of the answers figures alone."""

    def __init__(self, own: torch.Tensor, exact: torch.Tensor, tolerance: Tolerance) -> None:
        self._dtype, self._tolerance = own.dtype, tolerance
        self._value, self._overflows = own, False
        self._spread, self._scale, self._all_finite = 1.0, 1.0, True
        self._relative = self._rms = 0.0
        self._usual: list[tuple[float, float]] = []
        if not own.dtype.is_floating_point:
            return
        self._value = exact.to(torch.float64)
        if not all_finite(own):  # what overflows in the declared dtype is right to overflow
            self._value = torch.where(torch.isfinite(own), self._value, own.to(torch.float64))
            self._overflows = True
        self._spread, self._scale, self._all_finite = _scales_of(self._value)
        self._relative, self._rms = _multiples(own.dtype, tolerance)[2:]
        self.admit(own)

    def admit(self, answer: torch.Tensor) -> None:
        """Makes room for the error of `answer` and its multiples."""
        if self._dtype.is_floating_point:
            multiple, multiple_rms = _multiples(self._dtype, self._tolerance)[:2]
            self._make_room(answer, multiple, multiple_rms)

    def admit_moved(self, answer: torch.Tensor) -> None:
        """The same for one of several answers that differ by how the inputs were rounded. For an output of few elements
        they also show how large such an error usually is."""
        self.admit(answer)
        if self._dtype.is_floating_point and 0 < self._value.numel() < FEW_ELEMENTS:
            relative = relative_errors(answer, self._value, self._spread).square().mean()
            rms = errors_of(answer, self._value, spread=self._spread, scale=self._scale, max_relative=math.inf).rms
            self._usual.append((float(relative), rms**2))

    def _make_room_for_luck(self) -> None:
        """Multiples of the usual error of n elements, and of how much larger one kernel's may be by luck alone.

        The root mean square of n normal errors is above 1 + 3 / sqrt(n) times the usual one in 1 of 10,000 (quantile
        of the chi distribution: 3.9 for n = 1, 2.0 for 8, 1.5 for 32). Among many elements such errors show each time,
        and bounds that come of them have the room already.
        """
        if self._usual:
            luck = 1 + 3 / math.sqrt(self._value.numel())
            relative, rms = (luck * math.sqrt(sum(each) / len(each)) for each in zip(*self._usual, strict=True))
            multiple, multiple_rms = _multiples(self._dtype, self._tolerance)[:2]
            self._relative = max(self._relative, multiple * relative)
            self._rms = max(self._rms, multiple_rms * rms)

    def admit_reduced(self, answer: torch.Tensor) -> None:
        """The same for an answer with matrix products in a lower precision."""
        if self._dtype.is_floating_point:
            self._make_room(answer, self._tolerance.elementwise / 4, self._tolerance.rms / 4)

    def _make_room(self, answer: torch.Tensor, multiple: float, multiple_rms: float) -> None:
        errors = errors_of(answer, self._value, spread=self._spread, scale=self._scale, max_relative=math.inf)
        relative, rms = multiple * errors.max_relative, multiple_rms * errors.rms
        self._all_finite = self._all_finite and math.isfinite(relative) and math.isfinite(rms)
        self._relative, self._rms = max(self._relative, relative), max(self._rms, rms)

    def expected(
        self, path: str, *, recompute: Callable[[], torch.Tensor] | None, keep: Keep | None = None
    ) -> Expected:
        """The expectation for that output; `recompute` as for `expect`."""
        self._make_room_for_luck()
        num_bytes = self._value.nbytes
        if keep is not None and (kept_away := keep(self._value)) is not None:
            recompute, num_bytes = kept_away, 0
        elif recompute is None or self._overflows or num_bytes <= KEPT_BYTES:
            kept = self._value.cpu()
            recompute = lambda: kept  # noqa: E731
        return Expected(
            path=path, dtype=dtype_name(self._dtype), shape=tuple(self._value.shape), answer=recompute,
            all_finite=self._all_finite, kept_bytes=num_bytes if num_bytes <= KEPT_BYTES else 0,
            spread=self._spread, scale=self._scale, max_relative=self._relative, max_rms=self._rms,
        )  # fmt: skip


def held(expected: Sequence[Expected]) -> list[Expected]:
    """The same expectations, whose values are computed or moved once and stay where they are for as long as these
    records are kept."""
    return [replace(want, answer=functools.cache(want.answer)) for want in expected]


def all_finite(t: torch.Tensor) -> bool:
    """Whether no element is infinite or NaN. By parts: `isfinite` makes a copy of what it is given."""
    if not t.is_floating_point():
        return True
    flat = t.reshape(-1)
    parts = (flat[start : start + CHUNK_ELEMENTS] for start in range(0, flat.numel(), CHUNK_ELEMENTS))
    return all(bool(torch.isfinite(part).all()) for part in parts)


def _multiples(dtype: torch.dtype, tolerance: Tolerance) -> tuple[float, float, float, float]:
    """(elementwise multiple, RMS multiple, elementwise floor, RMS floor) for a declared dtype.

    Below float32 the rounding of the result is most of PyTorch's own error and every kernel shares it, so a quarter of
    the multiples is enough; at the full ones 25 % off would pass in bfloat16.
    """
    eps = torch.finfo(dtype).eps
    if torch.finfo(dtype).bits >= 32:
        floor = tolerance.floor_eps * eps
        return tolerance.elementwise, tolerance.rms, floor, floor
    return tolerance.elementwise / 4, tolerance.rms / 4, tolerance.floor_eps / 8 * eps, tolerance.floor_eps / 32 * eps


def _scales_of(value: torch.Tensor) -> tuple[float, float, bool]:
    """The geometric mean of the nonzero magnitudes, the root mean square, and whether all values are finite.

    The first says how large a typical value is: it is not carried away by outliers, beside which an error in everything
    else would look small.
    """
    square_sum, log_sum, num_finite, num_nonzero = 0.0, 0.0, 0, 0
    flat = value.reshape(-1)
    for start in range(0, flat.numel(), CHUNK_ELEMENTS):
        part = flat[start : start + CHUNK_ELEMENTS]
        finite = part[torch.isfinite(part)]
        nonzero = finite[finite != 0].abs()
        num_finite, num_nonzero = num_finite + finite.numel(), num_nonzero + nonzero.numel()
        square_sum += float(finite.square().sum())
        log_sum += float(nonzero.log().sum())
    if num_nonzero == 0:  # where all is zero, nothing else is near
        tiny = torch.finfo(torch.float64).tiny
        return tiny, tiny, num_finite == flat.numel()
    return math.exp(log_sum / num_nonzero), math.sqrt(square_sum / num_finite), num_finite == flat.numel()


def compare(outputs: Sequence[torch.Tensor], expected: Sequence[Expected]) -> Comparison:
    """Compares all outputs; the first that differs is described. Expected values are brought to the outputs' device by
    parts."""
    if len(outputs) != len(expected):
        return _failed(Status.WRONG_SHAPE, f"{len(outputs)} outputs where the reference has {len(expected)}")
    for output, want in zip(outputs, expected, strict=True):
        name = f"output{want.path}"
        if tuple(output.shape) != want.shape:
            return _failed(Status.WRONG_SHAPE, f"{name} has shape {tuple(output.shape)}, the reference {want.shape}")
        if dtype_name(output.dtype) != want.dtype:
            return _failed(Status.WRONG_DTYPE, f"{name} is {dtype_name(output.dtype)}, the reference {want.dtype}")
    worst, worst_rms = 0.0, 0.0
    for output, want in zip(outputs, expected, strict=True):
        value = want.answer()
        errors = errors_of(output, value, spread=want.spread, scale=want.scale, max_relative=want.max_relative)
        ratio = _ratio(errors.max_relative, want.max_relative)
        rms_ratio = _ratio(errors.rms, want.max_rms)
        worst, worst_rms = max(worst, ratio), max(worst_rms, rms_ratio)
        if errors.num_wrong or ratio > 1 or rms_ratio > 1:
            failure = _describe(output, value, want, errors)
            return Comparison(
                status=Status.WRONG_VALUES, failure=failure, max_error_ratio=worst, rms_error_ratio=worst_rms
            )
    return Comparison(status=None, failure=None, max_error_ratio=worst, rms_error_ratio=worst_rms)


def in_next_call(comparison: Comparison, *, same_inputs: bool) -> Comparison:
    """The same comparison, of a later call of a module whose first call agreed."""
    failure = comparison.failure
    if failure is None:
        return comparison
    mismatch = failure.mismatch and replace(failure.mismatch, pattern=Pattern.RUN_TO_RUN)
    message = f"{failure.message} in a later call on {'the same' if same_inputs else 'other'} inputs"
    return replace(comparison, failure=replace(failure, mismatch=mismatch, message=message))


def agrees(output: torch.Tensor, want: Expected, value: torch.Tensor) -> bool:
    """Whether `compare` would pass `output` for `want`, whose values are `value`. Stops at the first part with a wrong
    element, and describes nothing: for many outputs that are to fail."""
    if tuple(output.shape) != want.shape or dtype_name(output.dtype) != want.dtype:
        return False
    flat, wanted = output.reshape(-1), value.reshape(-1)
    start, size, square_sum = 0, _FIRST_ELEMENTS, 0.0
    while start < flat.numel():
        got, expected = flat[start : start + size], wanted[start : start + size].to(output.device)
        if expected.is_floating_point():
            expected = expected.to(torch.float64)
        relative = relative_errors(got, expected, want.spread)
        if not bool((relative <= want.max_relative).all()):
            return False
        square_sum += square_error(got, expected)
        start, size = start + size, min(8 * size, CHUNK_ELEMENTS)
    return _ratio(math.sqrt(square_sum / max(flat.numel(), 1)) / want.scale, want.max_rms) <= 1


def _failed(status: Status, message: str) -> Comparison:
    failure = Failure(error_class=status.value, message=message)
    return Comparison(status=status, failure=failure, max_error_ratio=math.inf, rms_error_ratio=math.inf)


def _ratio(error: float, bound: float) -> float:
    if error == 0:
        return 0.0
    return error / bound if bound > 0 else math.inf


def _describe(output: torch.Tensor, answer: torch.Tensor, want: Expected, errors: Errors) -> Failure:
    flat, value = output.reshape(-1), answer.reshape(-1)
    first = errors.first_wrong
    if first is None:  # no single element is beyond its bound, but all together are: show the largest
        first = largest_at(flat, value, want.spread)
    mismatch = Mismatch(
        output=f"output{want.path}",
        share_wrong=max(errors.num_wrong, 1) / max(flat.numel(), 1),
        first_bad_index=_index_in(want.shape, first),
        expected=float(value[first]),
        got=float(flat[first]),
        pattern=_pattern(output, value, want, first_wrong=first),
    )
    message = f"{mismatch.output}: {errors.num_wrong} of {flat.numel()} values are wrong"
    return Failure(error_class="wrong_values", message=message, mismatch=mismatch)


def _index_in(shape: Sequence[int], position: int) -> tuple[int, ...]:
    """The index of the element at `position` in row-major order. torch.unravel_index imports for 0.4 s at first use."""
    found: list[int] = []
    for size in reversed(shape):
        position, at = divmod(position, size)
        found.insert(0, at)
    return tuple(found)


def _pattern(output: torch.Tensor, answer: torch.Tensor, want: Expected, *, first_wrong: int) -> Pattern | None:
    """The one thing that explains most wrong values, if there is one. Looks at no more than the first few million
    elements, on the output's device: the host takes a good part of a second for them."""
    if not output.dtype.is_floating_point or output.numel() == 0:
        return None
    given = output.reshape(-1)[:_PATTERN_ELEMENTS]
    got, value = given.to(torch.float64), answer.reshape(-1)[:_PATTERN_ELEMENTS].to(output.device, torch.float64)
    wrong = ~(relative_errors(got, value, want.spread) <= want.max_relative)
    if not bool(wrong.any()):
        return None
    bad, good = got[wrong], value[wrong]
    raw = given[wrong].contiguous().view(torch.uint8)
    if any(bool((raw == poison).all()) for poison in POISON):
        return Pattern.UNWRITTEN
    if bool(bad.isnan().all()):
        return Pattern.NAN
    if bool((bad == 0).all()):
        return Pattern.ZEROS
    if bool(bad.isnan().any()):
        return Pattern.NAN
    if first_wrong > 0 and bool(wrong[first_wrong:].all()):
        return Pattern.TAIL_ONLY
    if len(want.shape) >= 2 and want.shape[-1] == want.shape[-2] and output.numel() <= _PATTERN_ELEMENTS:
        turned = got.reshape(want.shape).transpose(-1, -2).reshape(-1)
        if bool((relative_errors(turned, value, want.spread) <= max(want.max_relative, 1e-4)).all()):
            return Pattern.TRANSPOSED
    nonzero = good != 0
    if int(nonzero.sum()) >= 4:
        ratios = bad[nonzero] / good[nonzero]
        middle = float(ratios.median())
        if math.isfinite(middle) and bool(((ratios - middle).abs() <= 1e-3 * abs(middle)).float().mean() > 0.95):
            return Pattern.CONSTANT_RATIO
    return None

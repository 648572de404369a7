"""The tolerance: what it lets through, what it does not, and how a mismatch is described."""

from __future__ import annotations

import math

import pytest
import torch

from sandbox.compare import Expected, compare, expect
from sandbox.error_figures import errors_of
from sandbox.types import Pattern, Status, Tolerance


def expectation(exact: torch.Tensor, dtype: torch.dtype = torch.float32) -> Expected:
    return expect("", exact.double(), (exact.to(dtype),), Tolerance(), recompute=None)


@pytest.fixture
def exact() -> torch.Tensor:
    return torch.randn(64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_rounding_in_the_declared_dtype_passes(exact: torch.Tensor) -> None:
    found = compare([exact.float() * (1 + 1e-7)], [expectation(exact)])
    assert found.status is None and found.max_error_ratio < 1


@pytest.mark.parametrize("scale", [0.99, 1.0 + 1e-4, 0.0])
def test_a_wrong_scale_fails(exact: torch.Tensor, scale: float) -> None:
    assert compare([exact.float() * scale], [expectation(exact)]).status is Status.WRONG_VALUES


def test_tf32_like_error_fails_where_float32_is_declared(exact: torch.Tensor) -> None:
    lowered = (exact.float().view(torch.int32) & ~0x1FFF).view(torch.float32)  # ten mantissa bits, as TF32 keeps
    assert compare([lowered], [expectation(exact)]).status is Status.WRONG_VALUES
    assert compare([exact.half()], [expectation(exact, torch.float16)]).status is None


def test_the_reference_s_own_error_widens_the_bound(exact: torch.Tensor) -> None:
    rough = expect("", exact, ((exact * (1 + 1e-3)).float(),), Tolerance(), recompute=None)
    assert compare([exact.float() * (1 + 2e-3)], [rough]).status is None


@pytest.mark.parametrize(
    ("value", "got", "passes"),
    [
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (math.nan, math.nan, True),
        (math.nan, 1.0, False),
        (1.0, math.nan, False),
        (-math.inf, -math.inf, True),
        (3.0e38, math.inf, False),
    ],
)
def test_infinities_and_nan_must_stand_in_the_same_places(
    exact: torch.Tensor, value: float, got: float, passes: bool
) -> None:
    exact[3, 4] = value
    output = exact.float()
    output[3, 4] = got
    found = compare([output], [expectation(exact)])
    assert (found.status is None) == passes
    if not passes:
        assert found.failure is not None and found.failure.mismatch is not None
        assert found.failure.mismatch.first_bad_index == (3, 4)


def test_integers_must_agree_exactly() -> None:
    value = torch.arange(10)
    assert compare([value], [expect("", value, (value,), Tolerance(), recompute=None)]).status is None
    assert (
        compare([value + (value == 7)], [expect("", value, (value,), Tolerance(), recompute=None)]).status
        is Status.WRONG_VALUES
    )


def test_zeros_where_all_is_zero_pass_and_anything_else_fails() -> None:
    zero = torch.zeros(8, dtype=torch.float64)
    assert compare([zero.float()], [expectation(zero)]).status is None
    assert compare([zero.float() + 1e-30], [expectation(zero)]).status is Status.WRONG_VALUES


def poisoned(tensor: torch.Tensor) -> torch.Tensor:
    return torch.full_like(tensor.view(torch.int32), -1).view(torch.float32)


PATTERNS = [
    (lambda t: torch.zeros_like(t), Pattern.ZEROS),
    (lambda t: t.t().contiguous(), Pattern.TRANSPOSED),
    (lambda t: t * 2.5, Pattern.CONSTANT_RATIO),
    (lambda t: torch.cat([t[:60], t[60:] + 1]), Pattern.TAIL_ONLY),
    (lambda t: torch.cat([t[:60], t[60:] * math.nan]), Pattern.NAN),
    (lambda t: torch.cat([t[:60], poisoned(t[60:])]), Pattern.UNWRITTEN),
    (lambda t: t + torch.randn(t.shape, generator=torch.Generator().manual_seed(3)), None),
]


@pytest.mark.parametrize(("spoil", "pattern"), PATTERNS)
def test_patterns(exact: torch.Tensor, spoil: object, pattern: Pattern | None) -> None:
    assert callable(spoil)
    found = compare([spoil(exact.float())], [expectation(exact)])
    assert found.failure is not None and found.failure.mismatch is not None
    assert found.failure.mismatch.pattern is pattern


@pytest.mark.gpu
@pytest.mark.parametrize(("spoil", "pattern"), PATTERNS)
def test_patterns_are_told_on_a_gpu_as_they_are_on_the_host(
    exact: torch.Tensor, spoil: object, pattern: Pattern | None
) -> None:
    assert callable(spoil)
    want = [expectation(exact)]
    here, there = (compare([spoil(exact.float()).to(device)], want).failure for device in ("cpu", "cuda"))
    assert here is not None and repr(here) == repr(there)  # they may hold NaN
    assert here.mismatch is not None and here.mismatch.pattern is pattern


def test_shape_dtype_and_number_of_outputs(exact: torch.Tensor) -> None:
    want = [expectation(exact)]
    assert compare([exact.float()[:1]], want).status is Status.WRONG_SHAPE
    assert compare([exact.float().expand(1, 64, 64)], want).status is Status.WRONG_SHAPE
    assert compare([exact.half()], want).status is Status.WRONG_DTYPE
    assert compare([], want).status is Status.WRONG_SHAPE


def test_one_wrong_element_among_many_outliers_is_found(exact: torch.Tensor) -> None:
    output = exact.float()
    output[10, 20] += 0.5
    found = compare([output], [expectation(exact)])
    assert found.failure is not None and found.failure.mismatch is not None
    assert found.failure.mismatch.first_bad_index == (10, 20)
    assert found.failure.mismatch.share_wrong == pytest.approx(1 / 4096)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 0.95), (torch.float16, 0.98), (torch.bfloat16, 1.06)])
def test_a_wrong_scale_fails_in_half_precision_too(exact: torch.Tensor, dtype: torch.dtype, scale: float) -> None:
    assert compare([(exact * scale).to(dtype)], [expectation(exact, dtype)]).status is Status.WRONG_VALUES
    assert compare([exact.to(dtype)], [expectation(exact, dtype)]).status is None


def test_outliers_do_not_hide_the_rest(exact: torch.Tensor) -> None:
    wide = torch.exp(6 * exact)
    output = wide.float()
    output[wide < 1.0] = 0.0
    assert compare([output], [expectation(wide)]).status is Status.WRONG_VALUES


def test_large_answers_are_computed_again_instead_of_kept(exact: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.compare.KEPT_BYTES", 64)
    calls = []

    def recompute() -> torch.Tensor:
        calls.append(1)
        return exact

    want = expect("", exact, (exact.float(),), Tolerance(), recompute=recompute)
    assert want.kept_bytes == 0 and not calls
    assert compare([exact.float()], [want]).status is None and calls == [1]


def test_the_largest_error_is_shown_where_only_all_together_are_too_large(
    exact: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tensor that is walked in parts, in a part that is not the first."""
    monkeypatch.setattr("sandbox.error_figures.CHUNK_ELEMENTS", 1000)
    own = exact.float()
    own[0, 0] += 0.01  # makes room for single elements alone
    want = expect("", exact, (own,), Tolerance(), recompute=None)
    output = (exact + 0.01 * (exact.abs() + want.spread)).float()
    output[40, 7] = exact[40, 7] + 0.015 * (exact[40, 7].abs() + want.spread)
    failure = compare([output], [want]).failure
    assert failure is not None and failure.mismatch is not None
    assert failure.message.startswith("output: 0 of") and failure.mismatch.first_bad_index == (40, 7)


def test_the_first_wrong_element_is_named_in_any_number_of_dimensions() -> None:
    exact = torch.arange(1, 121, dtype=torch.float64).reshape(2, 3, 4, 5)
    for position in (0, 59, 119):
        output = exact.float()
        output.view(-1)[position] = -1.0
        found = compare([output], [expectation(exact)]).failure
        assert found is not None and found.mismatch is not None
        index = found.mismatch.first_bad_index
        assert index == tuple(int(i) for i in torch.unravel_index(torch.tensor(position), exact.shape))


@pytest.mark.parametrize("bad", [None, 0.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64])
@pytest.mark.parametrize("bound", [0.0, 1e-3, math.inf])
def test_parts_that_agree_are_told_in_fewer_passes_with_the_same_figures(
    exact: torch.Tensor, monkeypatch: pytest.MonkeyPatch, bad: float | None, dtype: torch.dtype, bound: float
) -> None:
    """Also where something is not finite on one side or on both: those parts are looked at in full."""
    monkeypatch.setattr("sandbox.error_figures.CHUNK_ELEMENTS", 1000)
    value = exact.clone() if dtype.is_floating_point else (10 * exact).to(dtype)
    output = value.to(dtype)
    if bad is not None and dtype.is_floating_point:
        output[0, 0], output[20, 5], value[20, 5] = bad, bad, bad
    quick = errors_of(output, value, spread=0.5, scale=1.0, max_relative=bound)
    monkeypatch.setattr("sandbox.error_figures._agreeing", lambda *_: None)
    full = errors_of(output, value, spread=0.5, scale=1.0, max_relative=bound)
    assert (quick.max_relative, quick.num_wrong) == (full.max_relative, full.num_wrong)
    assert quick.first_wrong == full.first_wrong and quick.rms == pytest.approx(full.rms, rel=1e-12, nan_ok=True)

"""What can be done along one dimension: reductions, softmaxes and norms, as passes over the elements.

A kind is the same whether a row is held at once, walked in blocks, or walked down its columns; `row_kernels.py` writes
the three. Sums are of float32 and variances of centred values, so that they hold for wide rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from standin.operations import GIVEN, NEGATIVE, POSITIVE, SHARES, WIDE

Combine = Literal["sum", "max", "min", "argmax", "argmin"]
MINUS_INF, INF, ZERO = '-float("inf")', 'float("inf")', "0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over the elements: `value` of each is combined, and `then` uses the result `{r}` and the width `{n}`."""

    value: str
    then: str
    combine: Combine = "sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """A value of each element that the second pass and the result use; `masked` must be zero past the row's end."""

    name: str
    value: str
    masked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKind:
    """`torch` forms say `{x}`, the dimension `{d}` and what keeps it `{k}`; `triton` is the result, of each element or,
    where `scalar`, of the row. `neutral` stands past the row's end. `weights` are vectors along the row: the names
    that the kernel gives them, with what PyTorch calls them; `state` makes them, of width `{dim}`. `last` kinds are for
    the last dimension alone, `whole` ones for rows that are held at once. `gives` are numbers such as the result's.
    """

    name: str
    torch: tuple[str, ...]
    passes: tuple[Pass, ...]
    triton: str
    neutral: str = ZERO
    element: Element | None = None
    scalar: bool = False
    module: str | None = None
    weights: tuple[tuple[str, str], ...] = ()
    state: tuple[str, ...] = ()
    last: bool = False
    whole: bool = False
    gives: tuple[float, ...] = GIVEN


_PEAK = Pass(value="{x}", combine="max", then="peak = {r}")
_TOTAL_OF_EXP = Pass(value="num", then="total = {r}")
_EXP = Element(name="num", value="tl.exp({x} - peak)")
_MEAN = Pass(value="{x}", then="mean = {r} / {n}")
_D = Element(name="d", value="{x} - mean", masked=True)
_VAR = Pass(value="d * d", then="var = {r} / {n}")
_VAR_UNBIASED = Pass(value="d * d", then="var = {r} / ({n} - 1)")
_RSTD = Pass(value="d * d", then="rstd = 1.0 / tl.sqrt({r} / {n} + 1e-5)")
_RMS = Pass(value="{x} * {x}", then="rrms = 1.0 / tl.sqrt({r} / {n} + 1e-6)")


def _reduction(name: str, torch: tuple[str, ...], *passes: Pass, triton: str, **rest: object) -> RowKind:
    return RowKind(name=name, torch=torch, passes=passes, triton=triton, scalar=True, **rest)  # type: ignore[arg-type]


_REDUCTIONS = (
    _reduction("sum", ("torch.sum({x}, dim={d}{k})", "{x}.sum(dim={d}{k})"),
               Pass(value="{x}", then="total = {r}"), triton="total", gives=WIDE),
    _reduction("mean", ("torch.mean({x}, dim={d}{k})", "{x}.mean(dim={d}{k})"), _MEAN, triton="mean"),
    _reduction("max", ("torch.max({x}, dim={d}{k})[0]", "torch.amax({x}, dim={d}{k})", "{x}.max(dim={d}{k}).values"),
               _PEAK, triton="peak", neutral=MINUS_INF),
    _reduction("min", ("torch.min({x}, dim={d}{k})[0]", "torch.amin({x}, dim={d}{k})", "{x}.min(dim={d}{k}).values"),
               Pass(value="{x}", combine="min", then="low = {r}"), triton="low", neutral=INF),
    _reduction("l2", ("torch.norm({x}, p=2, dim={d}{k})", "torch.norm({x}, dim={d}{k})"),
               Pass(value="{x} * {x}", then="norm = tl.sqrt({r})"), triton="norm", gives=POSITIVE),
    _reduction("l1", ("torch.norm({x}, p=1, dim={d}{k})", "torch.sum(torch.abs({x}), dim={d}{k})"),
               Pass(value="tl.abs({x})", then="norm = {r}"), triton="norm", gives=POSITIVE),
    _reduction("mean_square", ("torch.mean({x} ** 2, dim={d}{k})", "({x} * {x}).mean(dim={d}{k})"),
               Pass(value="{x} * {x}", then="mean = {r} / {n}"), triton="mean", gives=POSITIVE),
    _reduction("sum_square", ("torch.sum({x} ** 2, dim={d}{k})", "({x} * {x}).sum(dim={d}{k})"),
               Pass(value="{x} * {x}", then="total = {r}"), triton="total", gives=POSITIVE),
    _reduction("abs_max", ("torch.amax(torch.abs({x}), dim={d}{k})", "torch.max({x}.abs(), dim={d}{k})[0]"),
               Pass(value="tl.abs({x})", combine="max", then="peak = {r}"), triton="peak", gives=POSITIVE),
    _reduction("var", ("torch.var({x}, dim={d}{k})", "{x}.var(dim={d}{k})"),
               _MEAN, _VAR_UNBIASED, triton="var", element=_D, gives=POSITIVE),
    _reduction("var_biased", ("torch.var({x}, dim={d}, unbiased=False{k})",), _MEAN, _VAR,
               triton="var", element=_D, gives=POSITIVE),
    _reduction("std", ("torch.std({x}, dim={d}{k})", "{x}.std(dim={d}{k})"), _MEAN, _VAR_UNBIASED,
               triton="tl.sqrt(var)", element=_D, gives=POSITIVE),
    _reduction("argmax", ("torch.argmax({x}, dim={d}{k})", "{x}.argmax(dim={d}{k})"),
               Pass(value="{x}", combine="argmax", then="index = {r}"), triton="index", neutral=MINUS_INF, whole=True),
    _reduction("argmin", ("torch.argmin({x}, dim={d}{k})",),
               Pass(value="{x}", combine="argmin", then="index = {r}"), triton="index", neutral=INF, whole=True),
)  # fmt: skip

_SOFTMAXES = (
    RowKind(name="softmax", torch=("torch.softmax({x}, dim={d})", "F.softmax({x}, dim={d})", "{x}.softmax(dim={d})"),
            passes=(_PEAK, _TOTAL_OF_EXP), element=_EXP, triton="num / total", neutral=MINUS_INF,
            module="nn.Softmax(dim={d})", gives=SHARES),
    RowKind(name="log_softmax", torch=("torch.log_softmax({x}, dim={d})", "F.log_softmax({x}, dim={d})"),
            passes=(_PEAK, _TOTAL_OF_EXP), element=_EXP, triton="{x} - peak - tl.log(total)", neutral=MINUS_INF,
            module="nn.LogSoftmax(dim={d})", gives=NEGATIVE),
    RowKind(name="softmin", torch=("F.softmin({x}, dim={d})", "torch.softmax(-{x}, dim={d})"),
            passes=(Pass(value="{x}", combine="min", then="low = {r}"), _TOTAL_OF_EXP),
            element=Element(name="num", value="tl.exp(low - {x})"), triton="num / total", neutral=INF,
            module="nn.Softmin(dim={d})", gives=SHARES),
    _reduction("logsumexp", ("torch.logsumexp({x}, dim={d}{k})",), _PEAK, _TOTAL_OF_EXP,
               triton="peak + tl.log(total)", element=_EXP, neutral=MINUS_INF, gives=POSITIVE),
)  # fmt: skip

_SCALE_SHIFT = (("w", "weight"), ("b", "bias"))
_NORMS = (
    RowKind(name="layer_norm", torch=("self.norm({x})",), passes=(_MEAN, _RSTD), element=_D,
            triton="d * rstd * w + b", weights=(("w", "self.norm.weight"), ("b", "self.norm.bias")),
            state=("self.norm = nn.LayerNorm({dim})",), last=True),
    RowKind(name="layer_norm_functional", torch=("F.layer_norm({x}, ({dim},), self.weight, self.bias)",),
            passes=(_MEAN, _RSTD), element=_D, triton="d * rstd * w + b",
            weights=(("w", "self.weight"), ("b", "self.bias")),
            state=("self.weight = nn.Parameter(torch.ones({dim}))", "self.bias = nn.Parameter(torch.zeros({dim}))"),
            last=True),
    RowKind(name="layer_norm_plain", torch=("F.layer_norm({x}, ({dim},))",),
            passes=(_MEAN, _RSTD), element=_D, triton="d * rstd", last=True),
    RowKind(name="rms_norm",
            torch=("{x} * torch.rsqrt(torch.mean({x} ** 2, dim={d}, keepdim=True) + 1e-6) * self.weight",
                   "{x} / torch.sqrt({x}.pow(2).mean({d}, keepdim=True) + 1e-6) * self.weight"),
            passes=(_RMS,), triton="{x} * rrms * w", weights=(("w", "self.weight"),),
            state=("self.weight = nn.Parameter(torch.ones({dim}))",), last=True),
    RowKind(name="rms_norm_plain", torch=("{x} * torch.rsqrt(torch.mean({x} ** 2, dim={d}, keepdim=True) + 1e-6)",
                                          "{x} / torch.sqrt(torch.mean({x} * {x}, dim={d}, keepdim=True) + 1e-6)"),
            passes=(_RMS,), triton="{x} * rrms"),
    RowKind(name="l2_normalize", torch=("F.normalize({x}, dim={d})", "F.normalize({x}, p=2, dim={d})"),
            passes=(Pass(value="{x} * {x}", then="norm = tl.maximum(tl.sqrt({r}), 1e-12)"),), triton="{x} / norm"),
    RowKind(name="l1_normalize", torch=("F.normalize({x}, p=1, dim={d})",
                                        "{x} / torch.sum(torch.abs({x}), dim={d}, keepdim=True).clamp(min=1e-12)"),
            passes=(Pass(value="tl.abs({x})", then="norm = tl.maximum({r}, 1e-12)"),), triton="{x} / norm"),
    RowKind(name="centre", torch=("{x} - torch.mean({x}, dim={d}, keepdim=True)",
                                  "{x} - {x}.mean(dim={d}, keepdim=True)"),
            passes=(_MEAN,), triton="{x} - mean"),
    RowKind(name="standardise",
            torch=("({x} - {x}.mean(dim={d}, keepdim=True)) / ({x}.std(dim={d}, keepdim=True) + 1e-5)",),
            passes=(_MEAN, _VAR_UNBIASED), element=_D, triton="d / (tl.sqrt(var) + 1e-5)"),
    RowKind(name="subtract_max", torch=("{x} - torch.amax({x}, dim={d}, keepdim=True)",
                                        "{x} - torch.max({x}, dim={d}, keepdim=True)[0]"),
            passes=(_PEAK,), triton="{x} - peak", neutral=MINUS_INF, gives=NEGATIVE),
    RowKind(name="scale_by_max", torch=("{x} / (torch.amax(torch.abs({x}), dim={d}, keepdim=True) + 1e-6)",),
            passes=(Pass(value="tl.abs({x})", combine="max", then="peak = {r}"),), triton="{x} / (peak + 1e-6)"),
)  # fmt: skip

REDUCTIONS: Mapping[str, RowKind] = {kind.name: kind for kind in _REDUCTIONS}
SOFTMAXES: Mapping[str, RowKind] = {kind.name: kind for kind in _SOFTMAXES}
NORMS: Mapping[str, RowKind] = {kind.name: kind for kind in _NORMS}
KINDS: Mapping[str, RowKind] = {**REDUCTIONS, **SOFTMAXES, **NORMS}

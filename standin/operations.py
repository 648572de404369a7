"""The elementwise operations that problems are made of: how PyTorch writes each, and how Triton does.

Each Triton form agrees with PyTorch's to its last few bits on any input, since the judge's bounds are of that size:
`log1p` and `expm1` where a sum would cancel. Knows nothing of problems or kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from types import SimpleNamespace

SOFTPLUS = "tl.where({x} > 20.0, {x}, libdevice.log1p(tl.exp({x})))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`{x}` is the value so far, `{y}` a second tensor, `{c}` one of `constants`.

    `module` is the constructor of an `nn` module that does the same. `grows` marks what leaves float32's range soon.
    """

    name: str
    torch: tuple[str, ...]
    triton: tuple[str, ...]
    module: str | None = None
    constants: tuple[str, ...] = ()
    grows: bool = False


def _op(name: str, torch: str | tuple[str, ...], triton: str | tuple[str, ...], **rest: object) -> Operation:
    forms = (torch,) if isinstance(torch, str) else torch
    kernels = (triton,) if isinstance(triton, str) else triton
    return Operation(name=name, torch=forms, triton=kernels, **rest)  # type: ignore[arg-type]


_UNARY = (
    _op("relu", ("torch.relu({x})", "F.relu({x})"), ("tl.maximum({x}, 0.0)", "tl.where({x} > 0, {x}, 0.0)"),
        module="nn.ReLU()"),
    _op("sigmoid", "torch.sigmoid({x})", ("tl.sigmoid({x})", "1.0 / (1.0 + tl.exp(-{x}))"), module="nn.Sigmoid()"),
    _op("tanh", ("torch.tanh({x})", "F.tanh({x})"), "libdevice.tanh({x})", module="nn.Tanh()"),
    _op("exp", "torch.exp({x})", "tl.exp({x})", grows=True),
    _op("abs", ("torch.abs({x})", "{x}.abs()"), "tl.abs({x})"),
    _op("neg", ("-{x}", "torch.neg({x})"), "-{x}"),
    _op("square", ("{x} * {x}", "{x} ** 2", "torch.square({x})", "torch.pow({x}, 2)"), "{x} * {x}", grows=True),
    _op("sqrt_abs", ("torch.sqrt(torch.abs({x}))", "torch.abs({x}).sqrt()"), "tl.sqrt(tl.abs({x}))"),
    _op("log1p_abs", ("torch.log1p(torch.abs({x}))", "torch.log1p({x}.abs())"), "libdevice.log1p(tl.abs({x}))"),
    _op("gelu", "F.gelu({x})", "0.5 * {x} * (1.0 + tl.erf({x} * 0.7071067811865476))", module="nn.GELU()"),
    _op("gelu_tanh", 'F.gelu({x}, approximate="tanh")',
        "0.5 * {x} * (1.0 + libdevice.tanh(0.7978845608028654 * ({x} + 0.044715 * {x} * {x} * {x})))",
        module='nn.GELU(approximate="tanh")'),
    _op("silu", ("F.silu({x})", "{x} * torch.sigmoid({x})"), "{x} * tl.sigmoid({x})", module="nn.SiLU()"),
    _op("softplus", "F.softplus({x})", SOFTPLUS, module="nn.Softplus()"),
    _op("elu", ("F.elu({x})", "F.elu({x}, alpha=1.0)"), "tl.where({x} > 0, {x}, libdevice.expm1({x}))",
        module="nn.ELU()"),
    _op("selu", ("torch.selu({x})", "F.selu({x})"),
        "1.0507009873554805 * tl.where({x} > 0, {x}, 1.6732632423543772 * libdevice.expm1({x}))", module="nn.SELU()"),
    _op("leaky_relu", ("F.leaky_relu({x}, {c})", "F.leaky_relu({x}, negative_slope={c})"),
        "tl.where({x} > 0, {x}, {x} * {c})", module="nn.LeakyReLU({c})",
        constants=("0.01", "0.02", "0.05", "0.1", "0.15", "0.25", "0.3", "0.2")),
    _op("clamp", ("torch.clamp({x}, -{c}, {c})", "{x}.clamp(-{c}, {c})", "F.hardtanh({x}, -{c}, {c})",
        "torch.clamp({x}, min=-{c}, max={c})"), "tl.minimum(tl.maximum({x}, -{c}), {c})",
        module="nn.Hardtanh(-{c}, {c})", constants=("0.5", "0.75", "1.0", "1.25", "1.5", "1.75", "2.0")),
    _op("clamp_min", ("torch.clamp({x}, min={c})", "{x}.clamp(min={c})"), "tl.maximum({x}, {c})",
        constants=("0.1", "0.2", "0.3", "0.5", "-0.1", "-0.25", "-0.5")),
    _op("relu6", "F.relu6({x})", "tl.minimum(tl.maximum({x}, 0.0), 6.0)", module="nn.ReLU6()"),
    _op("hardsigmoid", "F.hardsigmoid({x})", "tl.minimum(tl.maximum({x} + 3.0, 0.0), 6.0) / 6.0",
        module="nn.Hardsigmoid()"),
    _op("hardswish", "F.hardswish({x})", "{x} * tl.minimum(tl.maximum({x} + 3.0, 0.0), 6.0) / 6.0",
        module="nn.Hardswish()"),
    _op("mish", ("F.mish({x})", "{x} * torch.tanh(F.softplus({x}))"), f"{{x}} * libdevice.tanh({SOFTPLUS})",
        module="nn.Mish()"),
    _op("softsign", ("F.softsign({x})", "{x} / (1 + torch.abs({x}))"), "{x} / (1.0 + tl.abs({x}))",
        module="nn.Softsign()"),
    _op("logsigmoid", "F.logsigmoid({x})", "tl.minimum({x}, 0.0) - libdevice.log1p(tl.exp(-tl.abs({x})))",
        module="nn.LogSigmoid()"),
    _op("softshrink", "F.softshrink({x}, {c})",
        "tl.where({x} > {c}, {x} - {c}, tl.where({x} < -{c}, {x} + {c}, 0.0))", module="nn.Softshrink({c})",
        constants=("0.5", "0.4", "0.3", "0.25")),
    _op("sin", ("torch.sin({x})", "{x}.sin()"), "tl.sin({x})"),
    _op("cos", ("torch.cos({x})", "{x}.cos()"), "tl.cos({x})"),
    _op("erf", ("torch.erf({x})",), "tl.erf({x})"),
    _op("atan", ("torch.atan({x})",), "libdevice.atan({x})"),
    _op("add_scalar", "{x} + {c}", "{x} + {c}",
        constants=("0.5", "0.25", "0.75", "1.0", "1.25", "1.5", "2.0", "2.5", "3.0")),
    _op("sub_scalar", "{x} - {c}", "{x} - {c}", constants=("0.5", "0.25", "0.75", "1.0", "1.25", "1.5", "1.75", "2.0")),
    _op("mul_scalar", ("{x} * {c}", "torch.mul({x}, {c})"), "{x} * {c}",
        constants=("0.5", "0.25", "0.3", "0.7", "0.8", "1.25", "1.5", "1.75", "2.0", "0.2", "0.1")),
    _op("div_scalar", "{x} / {c}", "{x} / {c}", constants=("2.0", "1.5", "2.5", "3.0", "4.0", "5.0", "8.0", "10.0")),
)  # fmt: skip

# With a second tensor of the same shape, or one that is broadcast to it.
_BINARY = (
    _op("add", ("{x} + {y}", "torch.add({x}, {y})"), "{x} + {y}"),
    _op("sub", ("{x} - {y}", "torch.sub({x}, {y})"), "{x} - {y}"),
    _op("mul", ("{x} * {y}", "torch.mul({x}, {y})"), "{x} * {y}", grows=True),
    _op("maximum", "torch.maximum({x}, {y})", "tl.maximum({x}, {y})"),
    _op("minimum", "torch.minimum({x}, {y})", "tl.minimum({x}, {y})"),
    _op("gate", "{x} * torch.sigmoid({y})", "{x} * tl.sigmoid({y})"),
    _op("div_safe", "{x} / (1.0 + torch.abs({y}))", "{x} / (1.0 + tl.abs({y}))"),
)  # fmt: skip

UNARY: Mapping[str, Operation] = {op.name: op for op in _UNARY}
BINARY: Mapping[str, Operation] = {op.name: op for op in _BINARY}
# Drawn more often: what networks are made of.
_COMMON = ("relu", "gelu", "sigmoid", "tanh", "silu", "leaky_relu", "mul_scalar", "add_scalar", "clamp", "hardswish")
ACTIVATIONS = (
    "relu", "gelu", "sigmoid", "tanh", "silu", "leaky_relu", "elu", "softplus", "hardswish", "mish", "clamp", "relu6",
    "hardsigmoid", "mul_scalar", "add_scalar", "abs", "softsign", "gelu_tanh",
)  # fmt: skip


# Numbers such as those that operations are given: inputs, wide sums, and what is known of some results.
GIVEN = tuple(i / 4 for i in range(-12, 13))
WIDE = tuple(2.0 * i for i in range(-12, 13))
POSITIVE = tuple(0.5 + i for i in range(25))
SHARES = tuple(0.002 + i / 50 for i in range(25))
NEGATIVE = tuple(-i / 3 for i in range(25))

_ON_NUMBERS = SimpleNamespace(
    maximum=max, minimum=min, where=lambda condition, a, b: a if condition else b, exp=math.exp, abs=abs,
    sqrt=math.sqrt, erf=math.erf, sin=math.sin, cos=math.cos, sigmoid=lambda x: 1.0 / (1.0 + math.exp(-x)),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a problem, with its constant and the name of its second tensor where it has them."""

    name: str
    constant: str = ""
    other: str = ""

    @property
    def operation(self) -> Operation:
        return known(self.name)


def draw_names(
    rng: Random, count: int, *, among: Sequence[str] | None = None, given: Sequence[float] = GIVEN
) -> list[str]:
    """Names of unary operations in order, of which each tells on values such as `given` and at most one grows."""
    names: list[str] = []
    while len(names) < count:
        name = rng.choice(among) if among else rng.choice(_COMMON if rng.random() < 0.35 else tuple(UNARY))
        if UNARY[name].grows and any(UNARY[before].grows for before in names):
            continue
        if tells(tuple(names), name, given=tuple(given)):
            names.append(name)
    return names


def tells(before: tuple[str, ...], name: str, *, given: tuple[float, ...]) -> bool:
    """Whether the operation changes what comes before it, and leaves it far from constant, whatever its constants.

    Tried on numbers: what does nothing, such as ReLU after a square, would be a problem that cannot be judged.
    """
    for end in (0, -1):
        old, new = _on_numbers(before, given, end), _on_numbers((*before, name), given, end)
        moved = sum(abs(a - b) > 1e-3 for a, b in zip(new, old, strict=True))
        distinct = len({round(value, 3) for value in new if math.isfinite(value)})
        if not all(map(math.isfinite, new)) or moved < 0.3 * len(given) or distinct < 0.2 * len(given):
            return False
    return True


@cache
def _on_numbers(names: tuple[str, ...], given: tuple[float, ...], end: int) -> tuple[float, ...]:
    """What the operations make of plain numbers, by their Triton forms, with their first or last constants."""
    if not names:
        return given
    function = _function(names[-1], end)
    try:
        return tuple(function(value) for value in _on_numbers(names[:-1], given, end))
    except OverflowError:
        return tuple(math.inf for _ in given)


@cache
def _function(name: str, end: int) -> Callable[[float], float]:
    operation = known(name)
    text = operation.triton[0].format(x="x", y="0.7", c=operation.constants[end] if operation.constants else "")
    return eval(f"lambda x: float({text})", {"tl": _ON_NUMBERS, "libdevice": math})  # type: ignore[no-any-return]


def known(name: str) -> Operation:
    return UNARY[name] if name in UNARY else BINARY[name]


def draw_steps(rng: Random, names: Sequence[str], *, others: Sequence[str] = ()) -> tuple[Step, ...]:
    """The operations with constants drawn; those with a second tensor take `others` in order."""
    remaining, steps = iter(others), []
    for name in names:
        constants = known(name).constants
        steps.append(
            Step(
                name=name,
                constant=rng.choice(constants) if constants else "",
                other=next(remaining) if name in BINARY else "",
            )
        )
    return tuple(steps)


def torch_expression(step: Step, value: str, rng: Random, *, other: str | None = None) -> str:
    """PyTorch's form on `value`, which is a name or a call."""
    form = rng.choice(step.operation.torch)
    return form.format(x=value, y=step.other if other is None else other, c=step.constant)


def triton_lines(
    steps: Sequence[Step],
    value: str,
    rng: Random,
    *,
    fresh: Iterator[str] | None = None,
    others: Mapping[str, str] | None = None,
) -> tuple[list[str], str]:
    """A line for each step, and the name of the result: `value` again, or the next of `fresh` for each line.

    `others` are the kernel's names of the second tensors, where those differ from the problem's.
    """
    lines = []
    for step in steps:
        form = rng.choice(step.operation.triton)
        target = value if fresh is None else next(fresh)
        other = (others or {}).get(step.other, step.other)
        lines.append(f"{target} = {form.format(x=value, y=other, c=step.constant)}")
        value = target
    return lines, value

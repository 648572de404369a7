"""The elementwise operations that problems are made of: how PyTorch writes each, and how Triton does.

Each Triton form agrees with PyTorch's to its last few bits on any input, since the judge's bounds are of that size:
`log1p` and `expm1` where a sum would cancel. Knows nothing of problems or kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

SOFTPLUS = "tl.where({x} > 20.0, {x}, libdevice.log1p(tl.exp({x})))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`{x}` is the value so far, `{y}` a second tensor, `{c}` one of `constants`.

    `module` is the constructor of an `nn` module that does the same. `grows` marks what leaves float32's range soon,
    `positive` what never gives a negative value, `signed` what does nothing to values that are not negative.
    """

    name: str
    torch: tuple[str, ...]
    triton: tuple[str, ...]
    module: str | None = None
    constants: tuple[str, ...] = ()
    grows: bool = False
    positive: bool = False
    signed: bool = False


def _op(name: str, torch: str | tuple[str, ...], triton: str | tuple[str, ...], **rest: object) -> Operation:
    forms = (torch,) if isinstance(torch, str) else torch
    kernels = (triton,) if isinstance(triton, str) else triton
    return Operation(name=name, torch=forms, triton=kernels, **rest)  # type: ignore[arg-type]


_UNARY = (
    _op("relu", ("torch.relu({x})", "F.relu({x})"), ("tl.maximum({x}, 0.0)", "tl.where({x} > 0, {x}, 0.0)"),
        module="nn.ReLU()", positive=True, signed=True),
    _op("sigmoid", "torch.sigmoid({x})", ("tl.sigmoid({x})", "1.0 / (1.0 + tl.exp(-{x}))"), module="nn.Sigmoid()",
        positive=True),
    _op("tanh", ("torch.tanh({x})", "F.tanh({x})"), "libdevice.tanh({x})", module="nn.Tanh()"),
    _op("exp", "torch.exp({x})", "tl.exp({x})", grows=True, positive=True),
    _op("abs", ("torch.abs({x})", "{x}.abs()"), "tl.abs({x})", positive=True, signed=True),
    _op("neg", ("-{x}", "torch.neg({x})"), "-{x}"),
    _op("square", ("{x} * {x}", "{x} ** 2", "torch.square({x})", "torch.pow({x}, 2)"), "{x} * {x}", grows=True,
        positive=True),
    _op("sqrt_abs", ("torch.sqrt(torch.abs({x}))", "torch.abs({x}).sqrt()"), "tl.sqrt(tl.abs({x}))", positive=True),
    _op("log1p_abs", ("torch.log1p(torch.abs({x}))", "torch.log1p({x}.abs())"), "libdevice.log1p(tl.abs({x}))",
        positive=True),
    _op("gelu", "F.gelu({x})", "0.5 * {x} * (1.0 + tl.erf({x} * 0.7071067811865476))", module="nn.GELU()"),
    _op("gelu_tanh", 'F.gelu({x}, approximate="tanh")',
        "0.5 * {x} * (1.0 + libdevice.tanh(0.7978845608028654 * ({x} + 0.044715 * {x} * {x} * {x})))",
        module='nn.GELU(approximate="tanh")'),
    _op("silu", ("F.silu({x})", "{x} * torch.sigmoid({x})"), "{x} * tl.sigmoid({x})", module="nn.SiLU()"),
    _op("softplus", "F.softplus({x})", SOFTPLUS, module="nn.Softplus()", positive=True),
    _op("elu", ("F.elu({x})", "F.elu({x}, alpha=1.0)"), "tl.where({x} > 0, {x}, libdevice.expm1({x}))",
        module="nn.ELU()", signed=True),
    _op("selu", ("torch.selu({x})", "F.selu({x})"),
        "1.0507009873554805 * tl.where({x} > 0, {x}, 1.6732632423543772 * libdevice.expm1({x}))", module="nn.SELU()"),
    _op("leaky_relu", ("F.leaky_relu({x}, {c})", "F.leaky_relu({x}, negative_slope={c})"),
        "tl.where({x} > 0, {x}, {x} * {c})", module="nn.LeakyReLU({c})", constants=("0.01", "0.1", "0.2"), signed=True),
    _op("clamp", ("torch.clamp({x}, -{c}, {c})", "{x}.clamp(-{c}, {c})", "F.hardtanh({x}, -{c}, {c})",
        "torch.clamp({x}, min=-{c}, max={c})"), "tl.minimum(tl.maximum({x}, -{c}), {c})", module="nn.Hardtanh(-{c}, {c})",
        constants=("0.5", "1.0", "2.0")),
    _op("clamp_min", ("torch.clamp({x}, min={c})", "{x}.clamp(min={c})"), "tl.maximum({x}, {c})",
        constants=("0.1", "0.5", "-0.5"), signed=True),
    _op("relu6", "F.relu6({x})", "tl.minimum(tl.maximum({x}, 0.0), 6.0)", module="nn.ReLU6()", positive=True),
    _op("hardsigmoid", "F.hardsigmoid({x})", "tl.minimum(tl.maximum({x} + 3.0, 0.0), 6.0) / 6.0",
        module="nn.Hardsigmoid()", positive=True),
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
        constants=("0.5", "0.25")),
    _op("sin", ("torch.sin({x})", "{x}.sin()"), "tl.sin({x})"),
    _op("cos", ("torch.cos({x})", "{x}.cos()"), "tl.cos({x})"),
    _op("erf", ("torch.erf({x})",), "tl.erf({x})"),
    _op("atan", ("torch.atan({x})",), "libdevice.atan({x})"),
    _op("add_scalar", "{x} + {c}", "{x} + {c}", constants=("0.5", "1.0", "2.0", "3.0")),
    _op("sub_scalar", "{x} - {c}", "{x} - {c}", constants=("0.5", "1.0", "2.0")),
    _op("mul_scalar", ("{x} * {c}", "torch.mul({x}, {c})"), "{x} * {c}", constants=("0.5", "1.5", "2.0", "0.1")),
    _op("div_scalar", "{x} / {c}", "{x} / {c}", constants=("2.0", "3.0", "1.5", "10.0")),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a problem, with its constant and the name of its second tensor where it has them."""

    name: str
    constant: str = ""
    other: str = ""

    @property
    def operation(self) -> Operation:
        return UNARY[self.name] if self.name in UNARY else BINARY[self.name]


def draw_names(rng: Random, count: int, *, among: Sequence[str] | None = None, first: str | None = None) -> list[str]:
    """Names of unary operations in order. What would do nothing after the one before it is left out, and at most one
    grows. `first` is what came before them."""
    names: list[str] = []
    before = first
    grown = first is not None and _known(first).grows
    while len(names) < count:
        name = rng.choice(among) if among else rng.choice(_COMMON if rng.random() < 0.35 else tuple(UNARY))
        operation = UNARY[name]
        last = None if before is None else _known(before)
        if name == before or (grown and operation.grows) or (last and last.positive and operation.signed):
            continue
        names.append(name)
        before, grown = name, grown or operation.grows
    return names


def _known(name: str) -> Operation:
    return UNARY[name] if name in UNARY else BINARY[name]


def draw_steps(rng: Random, names: Sequence[str], *, others: Sequence[str] = ()) -> tuple[Step, ...]:
    """The operations with constants drawn; those with a second tensor take `others` in order."""
    remaining, steps = iter(others), []
    for name in names:
        constants = _known(name).constants
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

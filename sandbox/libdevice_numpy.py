"""Gives Triton's interpreter the device math library, which it lacks: each function computed by torch on the CPU.

Runs in the interpret child only. A function that is not here raises, and the candidate is `unverified` with that
reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter as ti

_UNARY = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "rsqrt",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    "isnan",
    "isinf",
    "signbit",
]
_BINARY = ["pow", "fmod", "atan2", "copysign", "hypot", "fmax", "fmin", "nextafter", "remainder"]

_OTHERS: dict[str, Callable[..., torch.Tensor]] = {
    "rint": torch.round,
    "nearbyint": torch.round,
    "round": lambda x: torch.sign(x) * torch.floor(x.abs() + 0.5),
    "cbrt": lambda x: torch.sign(x) * x.abs() ** (1.0 / 3.0),
    "isfinited": torch.isfinite,
    "finitef": torch.isfinite,
    "rcbrt": lambda x: torch.sign(x) * x.abs() ** (-1.0 / 3.0),
    "fma": lambda a, b, c: a * b + c,
    "normcdf": lambda x: 0.5 * torch.erfc(-x / 2**0.5),
    "fast_expf": torch.exp,
    "fast_logf": torch.log,
    "fast_sinf": torch.sin,
    "fast_cosf": torch.cos,
    "fast_tanf": torch.tan,
    "fast_tanhf": torch.tanh,
    "fast_powf": torch.pow,
    "fast_dividef": torch.div,
    "div_rn": torch.div,
    "sqrt_rn": torch.sqrt,
    "llrint": lambda x: torch.round(x).to(torch.int64),
}
_PREDICATES = ("isnan", "isinf", "signbit", "isfinited", "finitef")


def functions() -> dict[str, Callable[..., torch.Tensor]]:
    """Every device function that is given, by name."""
    return {name: getattr(torch, name) for name in (*_UNARY, *_BINARY)} | _OTHERS


def _device_function(name: str, compute: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    def call(*args: Any, _semantic: Any = None, _builder: Any = None) -> Any:
        tensors = [ti.interpreter_semantic.to_tensor(a) for a in args]
        arrays = np.broadcast_arrays(*(t.handle.data for t in tensors))
        result = compute(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)).numpy().reshape(arrays[0].shape)
        kind = tl.int32 if name in _PREDICATES else tl.int64 if name == "llrint" else tensors[0].dtype
        result = result.astype(np.int32) if name in _PREDICATES else result
        first = next((t for t in tensors if t.type.is_block()), tensors[0])
        whole = tl.block_type(kind, list(first.type.shape)) if first.type.is_block() else kind
        return tl.tensor(ti.TensorHandle(result, kind), whole)

    return call


def install() -> None:
    """Replaces the functions in Triton's libdevice modules, for the life of this process; the rest raise when
    called."""

    def missing(name: str) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise NotImplementedError(f"libdevice.{name} is not available in the interpreter")

        return refuse

    given = functions()
    for path in ("triton.language.extra.libdevice", "triton.language.extra.cuda.libdevice"):
        module = importlib.import_module(path)
        for name, function in list(vars(module).items()):
            if callable(function) and getattr(function, "__module__", "").startswith("triton.language.extra"):
                setattr(module, name, _device_function(name, given[name]) if name in given else missing(name))

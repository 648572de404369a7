"""What a kernel is compiled from, apart from what came of it: the recipe, its bounds and its key.

A recipe comes out of the sandbox as part of a plan. Its texts are checked where they are used (`kernel_check.py`); here
only that it is bounded data. Knows neither torch nor triton.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sandbox import environment
from sandbox.plan import Kernel, PlanError
from sandbox.types import content_hash

# Changes when the same recipe would be compiled to something else or found fit no more, Triton's version apart.
_FORMAT = "3"
# What a recipe holds of a Kernel; every other field follows from it.
RECIPE_FIELDS = ("name", "functions", "names", "noinline", "params", "constants", "divisible", "options")

Options = Mapping[str, Any]


def _is_flag(raw: Any) -> bool:
    return type(raw) is bool


def _is_within(low: int, high: int) -> Callable[[Any], bool]:
    return lambda raw: type(raw) is int and low <= raw <= high


def _is_one_of(*allowed: Any) -> Callable[[Any], bool]:
    return lambda raw: type(raw) in map(type, allowed) and raw in allowed


# Triton's compile options (CUDAOptions in triton/backends/nvidia/compiler.py) that a launch or a configuration may set.
# The rest name files, pass text on to other programs or follow from the target: those stay at their defaults.
OPTIONS: Mapping[str, Callable[[Any], bool]] = {
    "num_warps": _is_one_of(1, 2, 4, 8, 16, 32),
    "num_ctas": _is_one_of(1, 2, 4, 8, 16),
    "num_stages": _is_within(0, 64),
    "maxnreg": lambda raw: raw is None or _is_within(1, 256)(raw),
    "enable_fp_fusion": _is_flag,
    "enable_reflect_ftz": _is_flag,
    "launch_cooperative_grid": _is_flag,
    "launch_pdl": _is_flag,
    "debug": _is_flag,
    "sanitize_overflow": _is_flag,
    "default_dot_input_precision": _is_one_of("tf32", "tf32x3", "ieee", "bf16x3", "bf16x6"),
}


def check_recipe(kernel: Kernel) -> None:
    """Raises PlanError unless the options and the divisible parameters are what a launch can have set."""
    options = kernel.options
    if not isinstance(options, dict) or set(options) - set(OPTIONS):
        raise PlanError(f"compile options that a plan cannot hold; it can hold {', '.join(OPTIONS)}")
    for name, value in options.items():
        if not OPTIONS[name](value):
            raise PlanError(f"compile option {name} is {value!r:.40}")
    if not {"num_warps", "num_ctas", "num_stages"} <= set(options):
        raise PlanError("a kernel without its compile options")
    if not set(kernel.noinline) <= set(kernel.functions):
        raise PlanError("a function that is not to be inlined is none of the kernel's")
    params = dict(kernel.params)
    if len(params) != len(kernel.params) or set(params) & set(kernel.constants):
        raise PlanError("a kernel names a parameter twice")
    if len(set(kernel.divisible)) != len(kernel.divisible) or not set(kernel.divisible) <= set(params):
        raise PlanError("divisible parameters that the kernel does not have")


def recipe_of(kernel: Kernel, *, capability: int) -> dict[str, Any]:
    """The recipe as plain data, for the target that the trusted side has chosen."""
    return {name: getattr(kernel, name) for name in RECIPE_FIELDS} | {"capability": capability}


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """Identifies what the recipe compiles to with the Triton that is installed."""
    plain = json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return content_hash(_FORMAT, str(environment.version("triton")), plain)

"""What tracing a candidate gave, as plain data: buffers, steps, kernels, outputs.

A plan comes out of the sandbox, so it is hostile until `validate` has passed; `decode` does both. It holds no code:
running it is the work of `execute.py`. Wire form: JSON, cubins in base64, never pickle.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.descriptors import Descriptor, Form, form_from_json
from sandbox.types import content_hash
from sandbox.wire import read_json

# Bounds on a plan. Generous for real models, small enough that reading one never hurts.
MAX_STORAGES = 100_000
MAX_VALUES = 200_000
MAX_STEPS = 50_000
MAX_KERNELS = 512
MAX_LAUNCHES = 4_096
MAX_ALTERNATIVES = 64
MAX_CUBIN_BYTES = 8 << 20
MAX_STORAGE_BYTES = 128 << 30
MAX_CONSTANT_BYTES = 1 << 20
MAX_RANK = 32
MAX_TREE_DEPTH = 16
MAX_SOURCE_CHARS = 400_000
MAX_NAMES = 1_024
MAX_LABEL_CHARS = 4_096
# JSON of a plan without its cubins. What JSON becomes in memory is up to thirty times as large.
MAX_BODY_BYTES = 12 << 20

# What tracing writes down of a candidate besides its plan.
LABELS = frozenset(["autotune_capped", "names_restored"])
# CUDA's limits on a launch: the driver would refuse these too, but by name is kinder.
MAX_GRID = (2**31 - 1, 65_535, 65_535)
MAX_SHARED_BYTES = 232_448

ITEM_BYTES: Mapping[str, int] = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "complex64": 8, "complex128": 16,
}  # fmt: skip

# Kernel parameter types (Triton's names) and their size in the launch's parameter block.
SCALAR_BYTES: Mapping[str, int] = {
    "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "u1": 1, "u8": 1, "u16": 2, "u32": 4, "u64": 8,
    "fp16": 2, "bf16": 2, "fp32": 4, "f32": 4, "fp64": 8,
}  # fmt: skip

# Triton's names of the dtypes that a pointer can lead to.
POINTED = frozenset(
    (
        "i1", "i8", "i16", "i32", "i64", "u1", "u8", "u16", "u32", "u64", "fp16", "bf16", "fp32", "fp64", "fp8e4nv",
        "fp8e4b8", "fp8e4b15", "fp8e5", "fp8e5b16",
    )
)  # fmt: skip

Argument = int | float | bool | Descriptor | None  # of a launch
Tree = Any  # JSON: null, bool, int, str, list, or one of the tagged forms that `trees.py` explains


class PlanError(ValueError):
    """The bytes are not a plan, or a plan that must not be run. The message is one line and fit to be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """One allocation. `role` is "scratch" (poisoned before use) or "constant" (then `content` holds it)."""

    num_bytes: int
    role: str
    content: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor: a strided window on a storage. `offset` and `stride` count elements."""

    storage: int
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    device: str

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def end_bytes(self) -> int:
        """One past the last byte of the storage that this window can touch."""
        if self.num_elements == 0:
            return 0
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return (last + 1) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtenStep:
    """One call of an aten operator. `outputs` are value indices (None where the operator returned no tensor)."""

    op: str
    args: Tree
    kwargs: Tree
    outputs: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchStep:
    """One kernel launch. `args` follow the kernel's `params`: a value index for pointers, a number for scalars, a
    record for descriptors."""

    kernel: int
    grid: tuple[int, int, int]
    args: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceStep:
    """An autotuned launch: the judge chooses one of the alternatives, by timing. `names` are the configurations'
    texts."""

    alternatives: tuple[tuple[AtenStep | LaunchStep, ...], ...]
    names: tuple[str, ...]


Step = AtenStep | LaunchStep | ChoiceStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One compiled kernel. `params` are (name, Triton type) of what the launch passes; `constants` what was compiled
    in.

    `functions` maps the names of the kernel's own function and of the functions it calls to their text, `names` the
    global names in them to what they mean (see `kernel_source.py`); `noinline` names those not to be inlined. With
    `divisible` (parameters known to be multiples of 16) and `options` (Triton's compile options) they are the recipe
    (see `kernel_recipe.py`) from which the trusted side has the kernel compiled again: what a plan out of the sandbox
    claims of the rest, the cubin included, is thrown away. `dots` says what the dots compute in (see `precision.py`),
    `descriptors` in which form it takes each descriptor among its parameters, in order (see `descriptors.py`).
    """

    name: str
    entry: str
    cubin: bytes
    capability: int
    num_warps: int
    num_ctas: int
    shared_bytes: int
    global_scratch_bytes: int
    global_scratch_align: int
    profile_scratch_bytes: int
    cooperative: bool
    pdl: bool
    num_registers: int
    local_bytes: int
    params: tuple[tuple[str, str], ...]
    constants: Tree
    functions: Mapping[str, str]
    names: Mapping[str, Mapping[str, Tree]]
    noinline: tuple[str, ...]
    divisible: tuple[str, ...]
    options: Mapping[str, int | bool | str | None]
    dots: tuple[str, ...]
    descriptors: tuple[Form, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole of it. `inputs` are the values of the problem's tensor inputs in order; `weights` the module's named
    parameters and buffers after construction; `init_steps` fill them (run on the CPU under the problem's seed)."""

    storages: tuple[Storage, ...]
    values: tuple[Value, ...]
    kernels: tuple[Kernel, ...]
    init_steps: tuple[AtenStep, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    weights: tuple[tuple[str, int], ...]
    outputs: Tree
    labels: tuple[str, ...]

    def value_bytes(self, index: int) -> int:
        """Bytes that the elements of a value take, counted once each."""
        value = self.values[index]
        return value.num_elements * ITEM_BYTES[value.dtype]


def resolve(plan: Plan, choices: tuple[int, ...]) -> Plan:
    """The plan with each ChoiceStep, in order, replaced by the alternative named in `choices`."""
    steps: list[Step] = []
    remaining = list(choices)
    for step in plan.steps:
        steps.extend(step.alternatives[remaining.pop(0)] if isinstance(step, ChoiceStep) else (step,))
    if remaining:
        raise ValueError(f"{len(remaining)} choices too many")
    return Plan(**{name: getattr(plan, name) for name in Plan.__slots__} | {"steps": tuple(steps)})


def num_alternatives(plan: Plan) -> tuple[int, ...]:
    """How many alternatives each ChoiceStep has, in order."""
    return tuple(len(s.alternatives) for s in plan.steps if isinstance(s, ChoiceStep))


def flat_steps(plan: Plan) -> list[AtenStep | LaunchStep]:
    """All steps of the forward pass, those of every alternative included."""
    flat: list[AtenStep | LaunchStep] = []
    for step in plan.steps:
        if isinstance(step, ChoiceStep):
            flat.extend(s for alternative in step.alternatives for s in alternative)
        else:
            flat.append(step)
    return flat


# --- wire form -------------------------------------------------------------------------------------------------------


def _step_to_json(step: Step) -> dict[str, Any]:
    if isinstance(step, ChoiceStep):
        return {"choice": [[_step_to_json(s) for s in a] for a in step.alternatives], "names": list(step.names)}
    if isinstance(step, LaunchStep):
        return {"kernel": step.kernel, "grid": list(step.grid), "args": [_argument_to_json(a) for a in step.args]}
    return {"op": step.op, "args": step.args, "kwargs": step.kwargs, "outputs": list(step.outputs)}


def _argument_to_json(argument: Argument) -> Any:
    if isinstance(argument, Descriptor):
        return argument.to_json()
    if isinstance(argument, float) and not math.isfinite(argument):
        return {"float": repr(argument)}
    return argument


def _kernel_to_json(kernel: Kernel) -> dict[str, Any]:
    plain = {name: getattr(kernel, name) for name in Kernel.__slots__}
    cubin = base64.b64encode(kernel.cubin).decode()
    return plain | {"cubin": cubin, "descriptors": [form.to_json() for form in kernel.descriptors]}


def _body(plan: Plan) -> dict[str, Any]:
    return {
        "storages": [
            [s.num_bytes, s.role, None if s.content is None else base64.b64encode(s.content).decode()]
            for s in plan.storages
        ],
        "values": [[v.storage, v.dtype, list(v.shape), list(v.stride), v.offset, v.device] for v in plan.values],
        "kernels": [_kernel_to_json(k) for k in plan.kernels],
        "init_steps": [_step_to_json(s) for s in plan.init_steps],
        "steps": [_step_to_json(s) for s in plan.steps],
        "inputs": plan.inputs,
        "weights": plan.weights,
        "outputs": plan.outputs,
        "labels": plan.labels,
    }


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def encode(plan: Plan) -> bytes:
    """The plan's canonical bytes; equal plans give equal bytes."""
    return _canonical(_body(plan))


def plan_hash(plan: Plan) -> str:
    """Identifies equal work: what runs and on what, whatever the candidate's host code looks like.

    Of a kernel its recipe counts (texts are normalised, without comments), not what a compiler made of it.
    """
    from sandbox.kernel_recipe import recipe_of

    body = _body(plan)
    body["kernels"] = [recipe_of(kernel, capability=kernel.capability) for kernel in plan.kernels]
    for step in body["steps"]:
        step.pop("names", None)
    body.pop("labels")
    return content_hash(_canonical(body))


def _tuple(raw: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(raw, list | tuple):
        raise PlanError(f"{what} must be a list")
    return tuple(raw)


def _text(raw: Any, what: str) -> str:
    if not isinstance(raw, str) or len(raw) > MAX_LABEL_CHARS:
        raise PlanError(f"{what} must be a text of at most {MAX_LABEL_CHARS} characters")
    return raw


def _only(raw: Mapping[str, Any], names: tuple[str, ...], what: str) -> None:
    if set(raw) != set(names):
        raise PlanError(f"{what} has missing or unknown fields; it has {', '.join(names)}")


def _argument_from_json(raw: Any) -> Argument:
    if isinstance(raw, dict) and "descriptor" in raw:
        return Descriptor.from_json(raw)
    if isinstance(raw, dict):
        if set(raw) != {"float"} or raw["float"] not in ("inf", "-inf", "nan"):
            raise PlanError("a scalar argument is malformed")
        return float(raw["float"])
    if raw is None or isinstance(raw, bool | int | float):
        return raw
    raise PlanError(f"a scalar argument is a {type(raw).__name__}")


def _step_from_json(raw: Any, *, depth: int = 0) -> Step:
    if not isinstance(raw, dict) or depth > 1:
        raise PlanError("a step is malformed")
    if "choice" in raw:
        _only(raw, ("choice", "names"), "a choice")
        alternatives = []
        for alternative in _tuple(raw["choice"], "choice"):
            inner = tuple(_step_from_json(s, depth=depth + 1) for s in _tuple(alternative, "alternative"))
            if any(isinstance(s, ChoiceStep) for s in inner):
                raise PlanError("a choice holds a choice")
            alternatives.append(inner)
        names = tuple(_text(name, "the name of an alternative") for name in _tuple(raw["names"], "names"))
        return ChoiceStep(alternatives=tuple(alternatives), names=names)  # type: ignore[arg-type]
    if "kernel" in raw:
        _only(raw, ("args", "grid", "kernel"), "a launch")
        grid = _tuple(raw["grid"], "grid")
        if len(grid) != 3:
            raise PlanError("a grid must have three sizes")
        args = tuple(_argument_from_json(a) for a in _tuple(raw["args"], "args"))
        return LaunchStep(kernel=raw["kernel"], grid=grid, args=args)
    _only(raw, ("args", "kwargs", "op", "outputs"), "a step")
    return AtenStep(op=raw["op"], args=raw["args"], kwargs=raw["kwargs"], outputs=_tuple(raw["outputs"], "outputs"))


def _kernel_from_json(raw: Mapping[str, Any]) -> Kernel:
    _only(raw, Kernel.__slots__, "a kernel")
    params = tuple((_text(name, "a parameter"), _text(kind, "a parameter's type")) for name, kind in raw["params"])
    words = {
        field: tuple(_text(word, f"an item of {field}") for word in _tuple(raw[field], field))
        for field in ("noinline", "divisible", "dots")
    }
    forms = tuple(form_from_json(form) for form in _tuple(raw["descriptors"], "descriptors"))
    cubin = base64.b64decode(raw["cubin"], validate=True)
    return Kernel(**{**raw, "cubin": cubin, "params": params, **words, "descriptors": forms})


# Whatever this matches costs no more in memory than in the plan: it is one text.
_CUBIN = re.compile(rb'"cubin":\s*"([A-Za-z0-9+/=]*)"')


def _check_size(raw: bytes) -> None:
    num_bytes = len(raw) - sum(match.end(1) - match.start(1) for match in _CUBIN.finditer(raw))
    if num_bytes > MAX_BODY_BYTES:
        raise PlanError(f"a plan of {num_bytes} bytes besides its cubins; the limit is {MAX_BODY_BYTES}")


def decode(raw: bytes) -> Plan:
    """Reads and validates a plan. Raises PlanError on anything that is not one."""
    from sandbox.plan_check import validate

    _check_size(raw)
    try:
        body = read_json(raw)
        _only(body, tuple(Plan.__slots__), "a plan")
        plan = Plan(
            storages=tuple(
                Storage(num_bytes=n, role=role, content=None if c is None else base64.b64decode(c, validate=True))
                for n, role, c in body["storages"]
            ),
            values=tuple(
                Value(storage=s, dtype=d, shape=_tuple(sh, "shape"), stride=_tuple(st, "stride"), offset=o, device=dev)
                for s, d, sh, st, o, dev in body["values"]
            ),
            kernels=tuple(_kernel_from_json(k) for k in body["kernels"]),
            init_steps=tuple(_step_from_json(s) for s in body["init_steps"]),  # type: ignore[misc]
            steps=tuple(_step_from_json(s) for s in body["steps"]),
            inputs=_tuple(body["inputs"], "inputs"),
            weights=tuple((_text(name, "a weight's name"), value) for name, value in body["weights"]),
            outputs=body["outputs"],
            labels=tuple(_text(label, "a label") for label in _tuple(body["labels"], "labels")),
        )
        validate(plan)
    except PlanError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise PlanError(f"not a plan: {type(error).__name__}: {str(error)[:200]}") from error
    return plan

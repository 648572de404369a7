"""Decides whether a plan may be run at all, and what kind of work it is.

Trusts nothing in it. Knows no torch and no GPU: everything here is arithmetic on plain data, done before anything is
allocated. Whether the plan's answer is right is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sandbox import plan as p
from sandbox.descriptors import Descriptor, block_of, fault_of, form_fault, is_descriptor
from sandbox.kernel_recipe import check_recipe
from sandbox.plan import AtenStep, ChoiceStep, Kernel, LaunchStep, Plan, PlanError
from sandbox.plan_trees import check_meaning, check_tree, is_name
from sandbox.precision import PRECISION_OF

_OP = re.compile(r"(aten|prims)\.[a-zA-Z0-9_]+\.[a-zA-Z0-9_]+")
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
# Operators some of whose results are for a backward pass, and where these begin: memory that nobody need have written.
_FOR_BACKWARD = {
    "_cudnn_rnn": 3, "_embedding_bag": 1, "_flash_attention_forward": 1, "_efficient_attention_forward": 1,
    "_scaled_dot_product_efficient_attention": 1, "_scaled_dot_product_flash_attention": 1,
    "_scaled_dot_product_cudnn_attention": 1, "_scaled_dot_product_flash_attention_for_cpu": 1,
    "cudnn_batch_norm": 3, "nll_loss2d_forward": 1,
}  # fmt: skip


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise PlanError(message[:400])  # it may quote what a plan holds


def _index(raw: Any, limit: int, what: str) -> int:
    _need(type(raw) is int and 0 <= raw < limit, f"{what} {raw!r:.40} is not an index below {limit}")
    return int(raw)


def _size(raw: Any, limit: int, what: str) -> int:
    _need(type(raw) is int and 0 <= raw <= limit, f"{what} {raw!r:.40} is not a size up to {limit}")
    return int(raw)


def validate(plan: Plan) -> None:
    """Raises PlanError unless every index, size and extent in the plan is within bounds."""
    _need(len(plan.storages) <= p.MAX_STORAGES, f"more than {p.MAX_STORAGES} buffers")
    _need(len(plan.values) <= p.MAX_VALUES, f"more than {p.MAX_VALUES} tensors")
    _need(len(plan.kernels) <= p.MAX_KERNELS, f"more than {p.MAX_KERNELS} kernels")
    _check_storages(plan)
    for value in plan.values:
        _check_value(value, plan)
    for kernel in plan.kernels:
        _check_kernel(kernel)
    _check_steps(plan)
    for index in plan.inputs:
        _index(index, len(plan.values), "input")
    names = [name for name, _ in plan.weights]
    _need(len(set(names)) == len(names), "a weight is named twice")
    for _, index in plan.weights:
        _index(index, len(plan.values), "weight")
    check_tree(plan.outputs, num_values=len(plan.values), what="outputs")
    _check_unwritten(plan)
    # Labels go into the verdict, so a plan cannot bring its own: only what tracing itself writes down.
    _need(set(plan.labels) <= p.LABELS, f"labels that tracing does not give; it gives {', '.join(sorted(p.LABELS))}")
    _need(len(set(plan.labels)) == len(plan.labels), "labels named twice")


def _check_storages(plan: Plan) -> None:
    total = constant = 0
    for storage in plan.storages:
        total += _size(storage.num_bytes, p.MAX_STORAGE_BYTES, "buffer of bytes")
        _need(storage.role in ("scratch", "constant"), f"buffer role {storage.role!r}")
        _need((storage.content is not None) == (storage.role == "constant"), "constant without content")
        if storage.content is not None:
            constant += len(storage.content)
            _need(len(storage.content) == storage.num_bytes, "constant of another size than its buffer")
    _need(total <= p.MAX_STORAGE_BYTES, f"buffers of {total} bytes in all; the limit is {p.MAX_STORAGE_BYTES}")
    _need(constant <= p.MAX_CONSTANT_BYTES, f"constants of {constant} bytes; the limit is {p.MAX_CONSTANT_BYTES}")


def _check_value(value: p.Value, plan: Plan) -> None:
    _index(value.storage, len(plan.storages), "buffer")
    _need(value.dtype in p.ITEM_BYTES, f"dtype {value.dtype!r} is not supported")
    _need(len(value.shape) == len(value.stride) <= p.MAX_RANK, "shape and stride differ in length")
    for size in value.shape:
        _size(size, p.MAX_STORAGE_BYTES, "dimension")
    for step in (*value.stride, value.offset):
        _size(step, p.MAX_STORAGE_BYTES, "stride or offset")
    _need(value.device in ("cuda", "cpu"), f"device {value.device!r}")
    limit = plan.storages[value.storage].num_bytes
    _need(value.end_bytes <= limit, f"a tensor reaches byte {value.end_bytes} of a buffer of {limit}")


def _check_kernel(kernel: Kernel) -> None:
    _need(isinstance(kernel.name, str) and len(kernel.name) <= 512, "kernel name too long")
    _need(bool(_IDENTIFIER.fullmatch(kernel.entry)) and len(kernel.entry) <= 512, "kernel entry is not a symbol")
    _need(len(kernel.cubin) <= p.MAX_CUBIN_BYTES, f"cubin of {len(kernel.cubin)} bytes")
    _need(kernel.cubin[:4] == b"\x7fELF", "cubin is not an ELF file")
    _need(kernel.num_warps in (1, 2, 4, 8, 16, 32), f"num_warps {kernel.num_warps!r}")
    _need(kernel.num_ctas in (1, 2, 4, 8, 16), f"num_ctas {kernel.num_ctas!r}")
    _size(kernel.shared_bytes, p.MAX_SHARED_BYTES, "shared memory")
    _size(kernel.global_scratch_bytes, 1 << 30, "global scratch")
    _size(kernel.profile_scratch_bytes, 1 << 30, "profile scratch")
    align = kernel.global_scratch_align
    _need(type(align) is int and 0 < align <= 4096, "scratch alignment")
    for flag in (kernel.cooperative, kernel.pdl):
        _need(type(flag) is bool, "kernel flags must be booleans")
    for count in (kernel.capability, kernel.num_registers, kernel.local_bytes):
        _size(count, 1 << 30, "kernel figure")
    _need(len(kernel.params) <= 256, "more than 256 parameters")
    for _, kind in kernel.params:
        pointed = kind.startswith("*") and kind.removeprefix("*").removeprefix("k") in p.POINTED
        known = pointed or kind in p.SCALAR_BYTES or block_of(kind) is not None
        _need(known, f"parameter type {kind!r} is not supported")
    _check_forms(kernel)
    _need(set(kernel.dots) <= set(PRECISION_OF), f"dots that no kernel has; they are {', '.join(PRECISION_OF)}")
    _check_kernel_text(kernel)
    check_recipe(kernel)


def _check_forms(kernel: Kernel) -> None:
    described = [(name, kind) for name, kind in kernel.params if is_descriptor(kind)]
    _need(len(kernel.descriptors) == len(described), "a kernel has another number of descriptors than parameters")
    for (name, kind), form in zip(described, kernel.descriptors, strict=True):
        block = block_of(kind)
        fault = "is none" if block is None else form_fault(form, block)
        _need(fault is None, f"descriptor {name} {fault}")
        _need(name not in kernel.divisible, f"descriptor {name} is a multiple of nothing")


def _check_kernel_text(kernel: Kernel) -> None:
    functions, names, constants = kernel.functions, kernel.names, kernel.constants
    for mapping in (functions, names, constants):
        _need(isinstance(mapping, dict) and all(map(is_name, mapping)), "kernel text is malformed")
        _need(len(mapping) <= p.MAX_NAMES, f"a kernel has more than {p.MAX_NAMES} functions or constants")
    _need(all(isinstance(text, str) for text in functions.values()), "kernel text is malformed")
    _need(sum(len(text) for text in functions.values()) <= p.MAX_SOURCE_CHARS, "kernel text too long")
    meanings = [meaning for meaning in constants.values() if meaning is not None]
    for used in names.values():
        _need(isinstance(used, dict) and all(map(is_name, used)), "kernel names are malformed")
        _need(len(used) <= p.MAX_NAMES, f"a kernel uses more than {p.MAX_NAMES} names")
        meanings.extend(used.values())
    for meaning in meanings:
        check_meaning(meaning)


def _check_steps(plan: Plan) -> None:
    flat = p.flat_steps(plan)
    _need(len(flat) + len(plan.init_steps) <= p.MAX_STEPS, f"more than {p.MAX_STEPS} steps")
    _need(sum(isinstance(s, LaunchStep) for s in flat) <= p.MAX_LAUNCHES, f"more than {p.MAX_LAUNCHES} launches")
    for step in plan.steps:
        if isinstance(step, ChoiceStep):
            count = len(step.alternatives)
            _need(0 < count <= p.MAX_ALTERNATIVES, f"{count} alternatives; the limit is {p.MAX_ALTERNATIVES}")
            _need(len(step.names) == count, "alternatives and their names differ in number")
    for init_step in plan.init_steps:
        _need(isinstance(init_step, AtenStep), "a kernel is launched while the module is constructed")
    for step in (*plan.init_steps, *flat):
        if isinstance(step, LaunchStep):
            _check_launch(step, plan)
        else:
            _check_aten(step, plan)


def _check_aten(step: AtenStep, plan: Plan) -> None:
    _need(isinstance(step.op, str) and bool(_OP.fullmatch(step.op)), f"operator {step.op!r} is not an aten operator")
    _need(isinstance(step.args, list) and isinstance(step.kwargs, dict), "operator arguments are malformed")
    check_tree(step.args, num_values=len(plan.values), what=f"arguments of {step.op}")
    for name, tree in step.kwargs.items():
        # Readers take the keyword arguments as one tree, in which an argument named so would pass for a tensor.
        _need(is_name(name) and name != "tensor", f"{step.op} has no argument {name!r:.40}")
        check_tree(tree, num_values=len(plan.values), what=f"argument {name} of {step.op}")
    for index in step.outputs:
        if index is not None:
            _index(index, len(plan.values), "tensor")


def _check_unwritten(plan: Plan) -> None:
    """Nothing may use memory that an operator gives without having written it: a kernel could find there what it left
    in its last run."""
    steps = (*plan.init_steps, *p.flat_steps(plan))
    used = {plan.values[index].storage for step in steps for index in step_refs(plan, step)}
    used |= {plan.values[index].storage for index in tensor_refs(plan.outputs)}
    for step in steps:
        if isinstance(step, AtenStep) and (first := _FOR_BACKWARD.get(step.op.split(".")[1])) is not None:
            left = {plan.values[index].storage for index in step.outputs[first:] if index is not None}
            only = "its first result alone" if first == 1 else f"its first {first} results alone"
            _need(used.isdisjoint(left), f"{step.op}: {only} may be used; what follows is for a backward pass")


def _check_launch(step: LaunchStep, plan: Plan) -> None:
    kernel = plan.kernels[_index(step.kernel, len(plan.kernels), "kernel")]
    for size, limit in zip(step.grid, p.MAX_GRID, strict=True):
        _need(type(size) is int and 0 <= size <= limit, f"grid {step.grid} is beyond CUDA's limit {p.MAX_GRID}")
    _need(len(step.args) == len(kernel.params), "launch arguments do not match the kernel's parameters")
    for argument, (name, kind) in zip(step.args, kernel.params, strict=True):
        if kind.startswith("*"):
            value = plan.values[_index(argument, len(plan.values), f"pointer {name}")]
            _need(value.device == "cuda", f"pointer argument {name} is a CPU tensor")
            address = value.offset * p.ITEM_BYTES[value.dtype]  # buffers are aligned
            _need(address % 16 == 0 or name not in kernel.divisible, f"pointer {name} is not aligned as compiled for")
        elif is_descriptor(kind):
            _check_descriptor(argument, name, kind, plan)
        else:
            fits = isinstance(argument, int | float) if "f" in kind else isinstance(argument, int)
            _need(fits, f"argument {name} of type {kind} is {argument!r}")
            divides = isinstance(argument, int) and argument % 16 == 0
            _need(divides or name not in kernel.divisible, f"argument {name} is {argument!r}, compiled for 16 times n")


def _check_descriptor(argument: p.Argument, name: str, kind: str, plan: Plan) -> None:
    block = block_of(kind)
    if not isinstance(argument, Descriptor) or block is None:
        raise PlanError(f"argument {name} is no descriptor")
    value = plan.values[_index(argument.base, len(plan.values), f"the tensor of descriptor {name}")]
    _need(value.device == "cuda", f"descriptor {name} is of a CPU tensor")
    limit = plan.storages[value.storage].num_bytes
    fault = fault_of(argument, block, dtype=value.dtype, offset=value.offset, limit_bytes=limit)
    _need(fault is None, f"descriptor {name} {fault}")


def tensor_refs(tree: Any) -> Iterator[int]:
    """The value indices in the arguments or outputs of a validated plan, in order."""
    if isinstance(tree, dict):
        if "tensor" in tree:
            yield tree["tensor"]
        else:
            for item in tree.values():
                yield from tensor_refs(item)
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from tensor_refs(item)


def step_refs(plan: Plan, step: AtenStep | LaunchStep) -> list[int]:
    """The value indices that a step of a validated plan is given, in order."""
    if isinstance(step, AtenStep):
        return [*tensor_refs(step.args), *tensor_refs(step.kwargs)]
    refs: list[int] = []
    for argument, (_, kind) in zip(step.args, plan.kernels[step.kernel].params, strict=True):
        if isinstance(argument, Descriptor):
            refs.append(argument.base)
        elif kind.startswith("*") and argument is not None:
            refs.append(int(argument))
    return refs


def tree_tensors(tree: Any, *, path: str = "") -> list[tuple[str, int]]:
    """The value indices in a validated plan's outputs, each with its path as `trees.tensors_in` names it."""
    if isinstance(tree, list):
        return [leaf for i, entry in enumerate(tree) for leaf in tree_tensors(entry, path=f"{path}[{i}]")]
    if not isinstance(tree, dict):
        return []
    if "tensor" in tree:
        return [(path, tree["tensor"])]
    if "tuple" in tree:
        return tree_tensors(tree["tuple"], path=path)
    return [leaf for key, entry in tree.get("dict", ()) for leaf in tree_tensors(entry, path=f"{path}[{key!r}]")]


class Work(StrEnum):
    """What does a plan's work: candidate kernels only, both, or torch's operators only."""

    TRITON = "triton"
    MIXED = "mixed"
    TORCH = "torch"
    DEAD = "dead"  # kernels are launched, but no output depends on one
    NONE = "none"  # nothing is computed


# Operators that move or make data but compute nothing; a plan may use them and still be called triton.
_MOVES = frozenset(
    (
        "clone", "_to_copy", "copy_", "contiguous", "cat", "stack", "fill_", "zero_", "zeros", "ones", "full",
        "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "scalar_tensor", "lift_fresh",
        "constant_pad_nd", "alias", "detach",
    )
)  # fmt: skip

# Operators that write their first argument without reading it.
_FILLS = frozenset(["copy_", "fill_", "zero_", "uniform_", "normal_", "random_", "bernoulli_", "exponential_"])

# Operators that write arguments of which neither their name nor their schema tells.
_WRITES_BESIDES = re.compile(r".*batch_norm.*|rrelu_with_noise_?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataflow:
    """What the outputs depend on. `dead_launches` counts launches that no output depends on."""

    work: Work
    live_launches: int
    dead_launches: int
    live_ops: tuple[str, ...]


def dataflow(plan: Plan, writes: Sequence[Collection[int]] | None = None) -> Dataflow:
    """Walks the steps backwards from the outputs, by buffer.

    A launch reads every buffer that it is given. It writes those that `writes` names, a collection of buffers for each
    launch in order, as observed; before anything has run (`writes` None) it is taken to write all but the problem's
    inputs, which a passing candidate leaves unchanged. An operator reads its arguments and writes its outputs and
    what `written_arguments` says. Coarse on purpose: it may call a dead launch live, never a live one dead.
    """
    steps = first_choices(plan)
    inputs = {plan.values[i].storage for i in plan.inputs}
    observed = iter(reversed(writes)) if writes is not None else None
    storage_of = [value.storage for value in plan.values]
    needed = {storage_of[i] for i in tensor_refs(plan.outputs)}
    live: list[AtenStep | LaunchStep] = []
    dead_launches = 0
    covered = _Covered(plan)
    for step in reversed(steps):
        reads, written = _effects(step, plan)
        touched = {storage_of[i] for i in written}
        if isinstance(step, LaunchStep):
            touched = touched - inputs if observed is None else touched & set(next(observed))
        if touched & needed:
            live.append(step)
            if isinstance(step, AtenStep):
                needed -= {storage_of[i] for i in written if covered.overwritten(step, i)}
            needed |= {storage_of[i] for i in reads}
        elif isinstance(step, LaunchStep):
            dead_launches += 1
    launches = sum(isinstance(s, LaunchStep) for s in live)
    ops = tuple(s.op.split(".")[1] for s in reversed(live) if isinstance(s, AtenStep))
    computing = [s.op for s in live if isinstance(s, AtenStep) and (s.op.split(".")[1] not in _MOVES or _cuts(s, plan))]
    if launches:
        work = Work.MIXED if computing else Work.TRITON
    elif dead_launches:
        work = Work.DEAD
    else:
        work = Work.TORCH if computing else Work.NONE
    return Dataflow(work=work, live_launches=launches, dead_launches=dead_launches, live_ops=ops)


def _cuts(step: AtenStep, plan: Plan) -> bool:
    """Whether a copy computes by its change of dtype: floating to booleans it compares with zero, to integers it
    rounds."""
    sources = (plan.values[i].dtype for i in _effects(step, plan)[0])
    targets = (plan.values[o].dtype for o in step.outputs if o is not None)
    return any("float" in name for name in sources) and any("bool" in name or "int" in name for name in targets)


def first_choices(plan: Plan) -> tuple[AtenStep | LaunchStep, ...]:
    """The steps of the forward pass under the first alternative of each choice."""
    return p.resolve(plan, (0,) * len(p.num_alternatives(plan))).steps  # type: ignore[return-value]


def _effects(step: AtenStep | LaunchStep, plan: Plan) -> tuple[list[int], list[int]]:
    """Value indices that a step may read, and that it may write."""
    if isinstance(step, LaunchStep):
        pointers = step_refs(plan, step)
        return pointers, pointers
    name = step.op.split(".")[1]
    fills = name in _FILLS
    reads = [*tensor_refs(step.args[1:] if fills else step.args), *tensor_refs(step.kwargs)]
    return reads, [*(o for o in step.outputs if o is not None), *written_arguments(step)]


def written_arguments(step: AtenStep) -> list[int]:
    """The value indices among an operator's arguments that it may write: what its name ends in "_" for, what some write
    besides, as running statistics, and all that is given by keyword: its `out`, which has as many names as operators
    have results, and in a forged plan the first argument too."""
    name = step.op.split(".")[1]
    if _WRITES_BESIDES.fullmatch(name):
        return [*tensor_refs(step.args), *tensor_refs(step.kwargs)]
    first = step.args[:1] if name.endswith("_") else []
    return [*tensor_refs(first), *tensor_refs(step.kwargs)]


class _Covered:
    """Which bytes of each buffer later steps write without reading, gathered while walking backwards."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._spans: dict[int, list[tuple[int, int]]] = {}

    def overwritten(self, step: AtenStep, written: int) -> bool:
        """Notes what `step` writes; whether nothing that the buffer held before outlives it and the steps after it."""
        value = self._plan.values[written]
        if value.storage in {self._plan.values[i].storage for i in _effects(step, self._plan)[0]}:
            return False
        item = p.ITEM_BYTES[value.dtype]
        start = value.offset * item
        if value.end_bytes - start != value.num_elements * item:
            return False  # a window with gaps
        spans = self._spans.setdefault(value.storage, [])
        spans.append((start, value.end_bytes))
        reached = 0
        for begin, end in sorted(spans):
            if begin > reached:
                return False
            reached = max(reached, end)
        return reached >= self._plan.storages[value.storage].num_bytes

"""Runs a plan's steps on real tensors: the CPU's in the interpret child, a GPU's in the replay worker.

Buffers are poisoned before use and stand between guard bands. Launching a kernel is handed in, since only its owner
knows how. Does not compare and does not time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from sandbox.plan import AtenStep, LaunchStep, Plan, PlanError, Value, flat_steps
from sandbox.plan_check import step_refs, tensor_refs
from sandbox.seeding import seed_torch
from sandbox.trees import TreeError, dtype_name, dtype_named, from_tree, tensors_in

Launch = Callable[[LaunchStep], None]

# A plan's operators run in a trusted process, so only those may that compute tensors from tensors: nothing that reaches
# files, another tensor's storage or extent, memory beyond it, random state or gradients; and none that gives memory
# which nobody wrote, where a kernel could find its own last answer. Private operators only by name.
_FORBIDDEN = re.compile(
    r"_.*|.*(backward|sparse|quant|mkldnn|cudnn|miopen|fbgemm|storage|resize|rename|pin_memory|cuda|sym_|names).*"
    r"|set|set_|set_data|data|save|manual_seed|from_file|from_blob|record_stream|share_memory_|swap_|item|equal|is_.*"
    r"|as_strided_.*|requires_grad_|retain_grad|detach_|output_nr|numpy_T|to_.*|copy|lift.*|choose_qparams.*"
    r"|(new_)?empty.*"
)
_PRIVATE = frozenset(
    (
        "_to_copy", "_softmax", "_log_softmax", "_safe_softmax", "_unsafe_view", "_thnn_fused_gru_cell",
        "_thnn_fused_lstm_cell", "_native_batch_norm_legit", "_native_batch_norm_legit_functional",
        "_native_batch_norm_legit_no_training", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_cdist_forward",
        "_euclidean_dist", "_embedding_bag", "_weight_norm_interface", "_prelu_kernel", "_upsample_bicubic2d_aa",
        "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_trilinear", "_fft_r2c",
        "_fft_c2c", "_fft_c2r", "_scaled_dot_product_efficient_attention", "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_flash_attention_for_cpu", "_softmax_backward_data",
        "cudnn_batch_norm", "cudnn_convolution", "cudnn_convolution_transpose", "_cudnn_rnn",
        "_cudnn_rnn_flatten_weight", "_flash_attention_forward", "_efficient_attention_forward",
        "_native_multi_head_attention", "_transformer_encoder_layer_fwd", "_convolution", "_conj",
        "_fused_rms_norm", "_scaled_mm",
    )
)  # fmt: skip

_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}  # by bytes


class Arena:
    """The buffers of one plan on one device, made when first touched.

    `poison` is the byte that fills them (0xFF makes NaN of every float), `guard_bytes` the width of the bands before
    and after, a multiple of 512 so that alignment stays as CUDA's allocator gives it.
    """

    def __init__(self, plan: Plan, *, device: torch.device, poison: int, guard_bytes: int) -> None:
        if guard_bytes % 512:
            raise ValueError("guard_bytes must be a multiple of 512")
        self.plan, self.device = plan, device
        self._poison, self._guard_bytes = poison, guard_bytes
        self._buffers: dict[int, torch.Tensor] = {}

    def buffer(self, storage: int) -> torch.Tensor:
        """The bytes of a storage, without its guard bands: uint8 of shape (num_bytes,)."""
        whole = self._buffers.get(storage)
        if whole is None:
            whole = self._buffers[storage] = self._allocate(storage)
        end = self._guard_bytes + self.plan.storages[storage].num_bytes
        return whole[self._guard_bytes : end]

    def poison(self, storage: int) -> None:
        """Fills a buffer as a new one is filled."""
        self.buffer(storage).fill_(self._poison)

    def _allocate(self, storage: int) -> torch.Tensor:
        record = self.plan.storages[storage]
        # Rounded up so that the trailing band also starts where vectorised accesses of the last element end.
        size = record.num_bytes + (-record.num_bytes) % 16
        whole = torch.full((size + 2 * self._guard_bytes,), self._poison, dtype=torch.uint8, device=self.device)
        if record.content is not None and record.num_bytes:
            content = torch.frombuffer(bytearray(record.content), dtype=torch.uint8)
            whole[self._guard_bytes : self._guard_bytes + record.num_bytes].copy_(content)
        return whole

    def spans(self) -> dict[int, tuple[int, int]]:
        """(first address, one past the last) of each storage made so far, without guard bands."""
        buffers = {storage: self.buffer(storage) for storage in self._buffers}
        return {storage: (b.data_ptr(), b.data_ptr() + b.numel()) for storage, b in buffers.items()}

    @property
    def guard_bytes(self) -> int:
        return self._guard_bytes

    def made(self) -> tuple[int, ...]:
        """The storages that have been touched."""
        return tuple(self._buffers)

    def tensor(self, value: int) -> torch.Tensor:
        """The tensor that a value index stands for."""
        record = self.plan.values[value]
        return _tensor_in(self.buffer(record.storage), record)

    def untouched_between(self, value: int) -> bool:
        """Whether what lies between and around a value's elements in its buffer is still the poison."""
        record = self.plan.values[value]
        # Along a step of 0 all elements are one. They are written as integers: a boolean would not stay the poison.
        shape = tuple(size if step else min(size, 1) for size, step in zip(record.shape, record.stride, strict=True))
        dtype = _OF_SIZE[dtype_named(record.dtype).itemsize]
        if math.prod(shape) * dtype.itemsize >= self.plan.storages[record.storage].num_bytes:
            return True
        whole = self.buffer(record.storage).clone()
        poison = torch.full((dtype.itemsize,), self._poison, dtype=torch.uint8, device=self.device).view(dtype)[0]
        _tensor_in(whole, replace(record, shape=shape, dtype=dtype_name(dtype))).copy_(poison.expand(shape))
        return bool((whole == self._poison).all())

    def broken_guards(self) -> list[int]:
        """The storages whose guard bands no longer hold the poison."""
        if not self._guard_bytes:
            return []
        checks = []
        for storage, whole in self._buffers.items():
            head, tail = whole[: self._guard_bytes], whole[self._guard_bytes + self.plan.storages[storage].num_bytes :]
            checks.append((storage, (head != self._poison).any() | (tail != self._poison).any()))
        if not checks:
            return []
        flags = torch.stack([flag for _, flag in checks]).tolist()
        return [storage for (storage, _), broken in zip(checks, flags, strict=True) if broken]

    def place(self, result: torch.Tensor, value: int, *, op: str) -> None:
        """Puts what an operator returned where the plan has it. Raises PlanError where shape or dtype differ."""
        record = self.plan.values[value]
        if tuple(result.shape) != record.shape or dtype_name(result.dtype) != record.dtype:
            got = f"{dtype_name(result.dtype)}{tuple(result.shape)}"
            raise PlanError(f"{op} gave {got}, the plan has {record.dtype}{record.shape}")
        target = self.tensor(value)
        if target.data_ptr() != result.data_ptr() or target.stride() != result.stride():
            target.copy_(result)

    def hand_over(self, storages: Iterable[int]) -> dict[int, torch.Tensor]:
        """Gives away the buffers that it has made of these storages, as they are, guard bands included."""
        return {storage: self._buffers.pop(storage) for storage in storages if storage in self._buffers}

    def take_over(self, buffers: Mapping[int, torch.Tensor]) -> None:
        """Has the buffers of another arena of the same plan, device and guard bands for its own."""
        for storage, whole in buffers.items():
            end = self._guard_bytes + self.plan.storages[storage].num_bytes
            for band in (whole[: self._guard_bytes], whole[end:]):
                band.fill_(self._poison)
            self._buffers[storage] = whole

    def load(self, other: Arena) -> None:
        """Copies the content of every buffer that another arena of the same plan has made."""
        for storage in other.made():
            self.buffer(storage).copy_(other.buffer(storage))


def _tensor_in(buffer: torch.Tensor, record: Value) -> torch.Tensor:
    """The tensor that a value is in the bytes of its storage."""
    dtype = dtype_named(record.dtype)
    flat = buffer[: buffer.numel() - buffer.numel() % dtype.itemsize].view(dtype)
    return flat.as_strided(record.shape, record.stride, flat.storage_offset() + record.offset)


def run_steps(steps: Sequence[AtenStep | LaunchStep], arena: Arena, launch: Launch) -> None:
    """Runs steps in order. Raises PlanError for operators that a plan must not use; torch's errors pass through."""
    for step in steps:
        if isinstance(step, LaunchStep):
            launch(step)
        else:
            run_aten(step, arena)


def run_aten(step: AtenStep, arena: Arena) -> None:
    """Runs one operator and puts its results where the plan says."""
    operator = aten_operator(step.op)
    try:
        args = from_tree(step.args, arena.tensor, device=arena.device)
        kwargs = {k: from_tree(v, arena.tensor, device=arena.device) for k, v in step.kwargs.items()}
    except (TreeError, KeyError, TypeError) as error:
        raise PlanError(f"{step.op}: malformed arguments") from error
    # Left to torch's default, a large tensor would be made in the host's memory, which no candidate answers for.
    if "device" not in kwargs and not _has_tensor(args) and _takes_device(operator):
        kwargs["device"] = arena.device
    results = [tensor for _, tensor in tensors_in(operator(*args, **kwargs))]
    if len(results) != len(step.outputs):
        raise PlanError(f"{step.op} gave {len(results)} tensors where the plan has {len(step.outputs)}")
    for result, output in zip(results, step.outputs, strict=True):
        if output is not None:
            arena.place(result, output, op=step.op)


def aten_operator(name: str) -> Any:
    """The operator overload of that name. Raises PlanError where there is none, or none that a plan may use."""
    namespace, packet, overload = name.split(".")
    if packet not in _PRIVATE and _FORBIDDEN.fullmatch(packet):
        raise PlanError(f"operator {name} is not allowed in a plan")
    found = getattr(getattr(getattr(torch.ops, namespace), packet, None), overload, None)
    if found is None:
        raise PlanError(f"operator {name} does not exist here")
    return found


def takes_weights_alone(plan: Plan, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether all that the forward pass finds when it begins is the reference's weights, by name: then nothing need be
    constructed, and `initialise` gives what copying them gives."""
    matched = {name: index for name, index in plan.weights if _matches(plan, index, weights.get(name))}
    whole = _whole_storages(plan, matched)
    apart = len(whole) == len(matched) == len(plan.weights)  # no order in which they are copied could matter
    return apart and bool(matched) and _construction_is_overwritten(plan, matched)


def initialise(plan: Plan, *, seed: int, weights: Mapping[str, torch.Tensor]) -> tuple[Arena, str]:
    """Runs the construction steps on the CPU and gives the parameters their values.

    `weights` is the reference's state: a value with the same name, shape and dtype takes it, right after the last
    construction step that writes its buffer, so that whatever the constructor derives from it is derived from the
    right numbers. The others keep what construction drew under `seed`. Returns the arena and "by_name", "by_seed",
    "mixed" or "none".
    """
    arena = Arena(plan, device=torch.device("cpu"), poison=0, guard_bytes=0)
    matched = {name: index for name, index in plan.weights if _matches(plan, index, weights.get(name))}
    due = _injection_points(plan, matched)
    seed_torch(seed)
    for name in due.get(-1, ()):
        arena.tensor(matched[name]).copy_(weights[name])
    skipped = _construction_is_overwritten(plan, matched)
    for at, step in enumerate(plan.init_steps):
        if not skipped:
            _check_sizes(step, plan)
            run_aten(step, arena)
        for name in due.get(at, ()):
            arena.tensor(matched[name]).copy_(weights[name])
    if not plan.weights:
        return arena, "none"
    return arena, "by_name" if len(matched) == len(plan.weights) else "mixed" if matched else "by_seed"


def _check_sizes(step: AtenStep, plan: Plan) -> None:
    """Refuses an operator whose results are larger than the plan says, before it allocates them.

    Asked of the meta device. An operator that cannot answer there is left to be found out by its result.
    """

    def shaped(index: int) -> torch.Tensor:
        record = plan.values[index]
        return torch.empty_strided(record.shape, record.stride, dtype=dtype_named(record.dtype), device="meta")

    meta = torch.device("meta")
    try:
        args = from_tree(step.args, shaped, device=meta)
        kwargs = {k: from_tree(v, shaped, device=meta) for k, v in step.kwargs.items()}
        if step.op.split(".")[1] not in ("_to_copy", "clone"):
            kwargs = {**kwargs, "device": meta} if "device" in kwargs or not _has_tensor(args) else kwargs
        results = [t for _, t in tensors_in(aten_operator(step.op)(*args, **kwargs))]
    except (NotImplementedError, TypeError, RuntimeError, TreeError, KeyError):
        return
    for result, output in zip(results, step.outputs, strict=False):
        if output is not None and tuple(result.shape) != plan.values[output].shape:
            raise PlanError(f"{step.op} makes {tuple(result.shape)}, the plan has {plan.values[output].shape}")


def _has_tensor(args: Sequence[Any]) -> bool:
    return bool(tensors_in(list(args)))


def _takes_device(operator: Any) -> bool:
    return any(argument.name == "device" for argument in operator._schema.arguments)


def _construction_is_overwritten(plan: Plan, matched: Mapping[str, int]) -> bool:
    """Whether nothing that construction computes is left once the matched weights have their values.

    So it is for most modules, and drawing millions of random numbers only to write over them would cost seconds.
    """
    written = set()
    for step in plan.init_steps:
        touched = [o for o in step.outputs if o is not None] or [*tensor_refs(step.args), *tensor_refs(step.kwargs)]
        written |= {plan.values[i].storage for i in touched}
    used = {plan.values[i].storage for i in tensor_refs(plan.outputs)}
    for forward in flat_steps(plan):
        used |= {plan.values[i].storage for i in step_refs(plan, forward)}
    return not (written & used) - _whole_storages(plan, matched)


def _whole_storages(plan: Plan, matched: Mapping[str, int]) -> set[int]:
    """The storages that one of these weights fills from end to end."""
    return {
        plan.values[i].storage
        for i in matched.values()
        if plan.value_bytes(i) == plan.storages[plan.values[i].storage].num_bytes
    }


def weights_by_name(plan: Plan, spec_weights: Sequence[Sequence[Any]]) -> frozenset[str]:
    """The candidate's parameters and buffers that have the name, shape and dtype of one of the reference's.

    `spec_weights` is the problem's list of [name, dtype, shape].
    """
    given = {name: (dtype, tuple(shape)) for name, dtype, shape in spec_weights}
    mine = {name: (plan.values[i].dtype, plan.values[i].shape) for name, i in plan.weights}
    return frozenset(name for name, kind in mine.items() if given.get(name) == kind)


def _matches(plan: Plan, index: int, weight: torch.Tensor | None) -> bool:
    record = plan.values[index]
    return weight is not None and tuple(weight.shape) == record.shape and dtype_name(weight.dtype) == record.dtype


def _injection_points(plan: Plan, matched: Mapping[str, int]) -> dict[int, list[str]]:
    """For each matched weight the last construction step that writes its buffer, -1 if none does."""
    last = dict.fromkeys((plan.values[i].storage for i in matched.values()), -1)
    for at, step in enumerate(plan.init_steps):
        for output in step.outputs:
            if output is not None and plan.values[output].storage in last:
                last[plan.values[output].storage] = at
    points: dict[int, list[str]] = {}
    for name, index in matched.items():
        points.setdefault(last[plan.values[index].storage], []).append(name)
    return points


def bind_inputs(plan: Plan, arena: Arena, inputs: Sequence[torch.Tensor]) -> None:
    """Copies the problem's tensor inputs into their values."""
    if len(inputs) != len(plan.inputs):
        raise PlanError(f"the plan takes {len(plan.inputs)} inputs, the problem has {len(inputs)}")
    for index, tensor in zip(plan.inputs, inputs, strict=True):
        record = plan.values[index]
        if tuple(tensor.shape) != record.shape or dtype_name(tensor.dtype) != record.dtype:
            raise PlanError(
                f"an input is {dtype_name(tensor.dtype)}{tuple(tensor.shape)}, not {record.dtype}{record.shape}"
            )
        target = arena.tensor(index)
        for dim, step in enumerate(record.stride):  # of an expanded dimension, one element stands for all
            if step == 0 and target.shape[dim] > 1:
                target, tensor = target.narrow(dim, 0, 1), tensor.narrow(dim, 0, 1)
        target.copy_(tensor)


def changed_input(plan: Plan, arena: Arena, inputs: Sequence[torch.Tensor]) -> int | None:
    """The position of the first input whose buffer no longer holds what was bound, or None. Nor may anything be left
    between the elements of one that has gaps: a kernel would find it in its next run."""
    for position, (index, given) in enumerate(zip(plan.inputs, inputs, strict=True)):
        if not same_bits(arena.tensor(index), given) or not arena.untouched_between(index):
            return position
    return None


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one dtype and shape hold the same bytes, NaN payloads included."""
    if not a.numel():
        return True
    flat = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    if all(t.numel() % 8 == t.storage_offset() % 8 == t.data_ptr() % 8 == 0 for t in flat):  # eight at a time
        flat = [t.view(torch.int64) for t in flat]
    return torch.equal(*flat)

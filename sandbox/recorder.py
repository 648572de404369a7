"""Writes down what a module does on fake tensors: every buffer, aten call and kernel launch, as a plan.

Runs in the sandboxed child. Views cost nothing in a plan, so a call that only makes one leaves no step; nor does
making an empty tensor, since every buffer is poisoned before use. Knows nothing of Triton: `triton_record.py` hands
launches in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS
from torch._library.triton import set_wrap_triton_enabled
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from sandbox.eager_mode import EagerMode
from sandbox.plan import (
    MAX_CONSTANT_BYTES,
    MAX_STEPS,
    AtenStep,
    ChoiceStep,
    Kernel,
    LaunchStep,
    Plan,
    Step,
    Storage,
    Value,
)
from sandbox.trees import TreeError, dtype_name, tensors_in, to_tree

# Synthetic addresses: one slot a buffer, far apart and aligned as the CUDA allocator aligns (512 bytes and more).
ADDRESS_BASE, _ADDRESS_SLOT = 1 << 56, 1 << 38
ADDRESS_END = 1 << 63
_EMPTY_OPS = frozenset(
    (
        "aten.empty.memory_format",
        "aten.empty.names",
        "aten.empty_strided.default",
        "aten.empty_like.default",
        "aten.empty_permuted.default",
        "aten.new_empty.default",
        "aten.new_empty_strided.default",
    )
)
_LIFTS = (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift.default)


class Untraceable(Exception):
    """The candidate does something that depends on tensor values, or that a plan cannot express."""


class Recorder(EagerMode):
    """A dispatch mode that sits inside a FakeTensorMode and records. One per trace."""

    def __init__(self, fake_mode: FakeTensorMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fake_mode = fake_mode
        self._storages: list[Storage] = []
        self._storage_ids: dict[int, int] = {}
        self._alive: list[
            Any
        ] = []  # keeps recorded storages alive, so that none is taken for another at the same address
        self._values: list[Value] = []
        self._value_ids: dict[Value, int] = {}
        self._constants: dict[int, torch.Tensor] = {}
        self.kernels: list[Kernel] = []
        self.labels: set[str] = set()
        self._steps: list[Step] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        args = tuple(self._faked(a) for a in args)
        if func in _LIFTS:
            return args[0]  # a literal: its content is in the plan already, and FakeTensorMode would compute with it
        kwargs = {k: self._faked(v) for k, v in kwargs.items()}
        if func.namespace not in ("aten", "prims"):
            return self._not_atens(func, args, kwargs)
        known = len(self._storages)
        out = func(*args, **kwargs)
        outputs = [t for _, t in tensors_in(out)]
        indices = [self.value_of(t) for t in outputs]
        fresh = any(self._values[i].storage >= known for i in indices)
        if str(func) in _EMPTY_OPS or not (fresh or func._schema.is_mutable or not outputs):
            return out
        self._append(self._aten_step(func, args, kwargs, tuple(indices)))
        return out

    def _not_atens(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A program's own operator is what its function does; others only ask, as prim.device does."""
        if (own := OPDEFS.get(func._schema.name)) is not None:
            with set_wrap_triton_enabled(False), self:
                return own._init_fn(*args, **kwargs)
        out = func(*args, **kwargs)
        if tensors_in(out):
            raise Untraceable(f"operator {func} has no form in a plan")
        return out

    def _aten_step(self, func: Any, args: Any, kwargs: Any, outputs: tuple[int, ...]) -> AtenStep:
        try:
            tree = [to_tree(a, self.value_of) for a in args]
            named = {k: to_tree(v, self.value_of) for k, v in kwargs.items()}
        except TreeError as error:
            raise Untraceable(f"{func}: {error}") from error
        return AtenStep(op=str(func), args=tree, kwargs=named, outputs=outputs)

    def _faked(self, item: Any) -> Any:
        """Real tensors (from numpy, from literals) become fake ones whose content is kept in the plan."""
        if isinstance(item, FakeTensor) or not isinstance(item, torch.Tensor):
            if isinstance(item, list | tuple) and any(isinstance(i, torch.Tensor) for i in item):
                return type(item)(self._faked(i) for i in item)
            return item
        fake = self._constants.get(id(item))
        if fake is None:
            fake = self._constants[id(item)] = self._fake_constant(item)
            self._alive.append(item)
        return fake

    def _fake_constant(self, real: torch.Tensor) -> torch.Tensor:
        if real.device.type != "cpu":
            raise Untraceable(f"a tensor on {real.device} was made outside of tracing")
        if real.numel() * real.element_size() > MAX_CONSTANT_BYTES:
            raise Untraceable(f"a constant tensor of {real.numel()} elements; the limit is {MAX_CONSTANT_BYTES} bytes")
        with torch.utils._python_dispatch._disable_current_modes():
            flat = real.detach().contiguous().reshape(-1)
            content = bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""
        with torch.utils._python_dispatch._disable_current_modes(), self._fake_mode:
            # The device is named because a default device would apply otherwise.
            fake = torch.empty(tuple(real.shape), dtype=real.dtype, device=real.device)
        self._storage_of(fake, Storage(num_bytes=len(content), role="constant", content=content))
        return fake

    def _storage_of(self, tensor: torch.Tensor, storage: Storage | None = None) -> int:
        untyped = tensor.untyped_storage()
        index = self._storage_ids.get(untyped._cdata)
        if index is None:
            index = self._storage_ids[untyped._cdata] = len(self._storages)
            self._storages.append(storage or Storage(num_bytes=int(untyped.nbytes()), role="scratch"))
            self._alive.append(untyped)
        return index

    @property
    def num_storages(self) -> int:
        """How many buffers there are so far."""
        return len(self._storages)

    def value_of(self, tensor: torch.Tensor) -> int:
        """The index of the value that `tensor` is."""
        tensor = self._faked(tensor)
        if type(tensor) not in (FakeTensor, torch.nn.Parameter, torch.nn.Buffer) or tensor.layout is not torch.strided:
            raise Untraceable(f"a {type(tensor).__name__} with layout {tensor.layout} has no form in a plan")
        if tensor.is_neg() or tensor.is_conj():  # what its memory holds is not its value
            raise Untraceable("a view that negates or conjugates has no form in a plan: resolve_neg(), resolve_conj()")
        value = Value(
            storage=self._storage_of(tensor),
            dtype=dtype_name(tensor.dtype),
            shape=tuple(map(int, tensor.shape)),
            stride=tuple(map(int, tensor.stride())),
            offset=int(tensor.storage_offset()),
            device=tensor.device.type,
        )
        index = self._value_ids.get(value)
        if index is None:
            index = self._value_ids[value] = len(self._values)
            self._values.append(value)
        return index

    def window(self, value: int) -> tuple[Value, int]:
        """The value of that index, and how many bytes its buffer has."""
        record = self._values[value]
        return record, self._storages[record.storage].num_bytes

    def address_of(self, tensor: torch.Tensor) -> int:
        """A stand-in for `data_ptr()`: aligned as the real one would be."""
        offset_bytes = int(tensor.storage_offset()) * tensor.element_size()
        return ADDRESS_BASE + self._storage_of(tensor) * _ADDRESS_SLOT + offset_bytes

    def _append(self, step: Step) -> None:
        if len(self._steps) >= MAX_STEPS:
            raise Untraceable(f"more than {MAX_STEPS} steps")
        self._steps.append(step)

    def launch(self, step: LaunchStep) -> None:
        """Records a kernel launch."""
        self._append(step)

    @contextlib.contextmanager
    def alternative(self) -> Iterator[list[Step]]:
        """Steps recorded inside go into the list handed out, not into the plan."""
        outer, self._steps = self._steps, []
        inner = self._steps
        try:
            yield inner
        finally:
            self._steps = outer

    def choose(self, alternatives: list[tuple[str, list[Step]]]) -> None:
        """Records a choice between named alternatives; one alone is recorded as plain steps."""
        if len(alternatives) == 1:
            for step in alternatives[0][1]:
                self._append(step)
            return
        self._append(
            ChoiceStep(
                alternatives=tuple(tuple(steps) for _, steps in alternatives),  # type: ignore[arg-type]
                names=tuple(name for name, _ in alternatives),
            )
        )

    def take_steps(self) -> tuple[Step, ...]:
        """The steps so far; recording goes on with none."""
        steps, self._steps = tuple(self._steps), []
        return steps

    def plan(
        self, *, init_steps: tuple[Step, ...], inputs: list[int], weights: list[tuple[str, int]], outputs: Any
    ) -> Plan:
        """The plan of everything recorded since the construction phase."""
        return Plan(
            storages=tuple(self._storages),
            values=tuple(self._values),
            kernels=tuple(self.kernels),
            init_steps=init_steps,  # type: ignore[arg-type]
            steps=self.take_steps(),
            inputs=tuple(inputs),
            weights=tuple(weights),
            outputs=to_tree(outputs, self.value_of),
            labels=tuple(sorted(self.labels)),
        )

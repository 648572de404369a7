"""Runs one kernel launch through Triton's interpreter, with every memory access checked against the plan's buffers.

Runs in the interpret child, whose process has TRITON_INTERPRET set before triton is imported. Reads within a guard
band give poison, as they would give garbage on a GPU; any other access outside the buffers is the candidate's illegal
access.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter as ti
from triton.tools.tensor_descriptor import TensorDescriptor

from sandbox.descriptors import Descriptor, block_of
from sandbox.execute import Arena
from sandbox.kernel_source import Functions, UnknownName, build, data_of
from sandbox.plan import Argument, Kernel, LaunchStep


class IllegalAccess(Exception):
    """A kernel reads or writes outside every buffer that the plan has."""


class NotInterpretable(Exception):
    """The interpreter lacks something that the kernel uses. Ours to say, not the candidate's fault."""


class Touched:
    """The address ranges that one launch may touch, and what it did there: buffers written, lanes read in guard
    bands."""

    def __init__(self, arena: Arena) -> None:
        storages = {start: storage for storage, (start, _) in arena.spans().items()}
        spans = np.array(sorted(arena.spans().values()), dtype=np.uint64).reshape(-1, 2)
        self._starts, self._ends = spans[:, 0], spans[:, 1]
        self._storages = np.array([storages[int(start)] for start in self._starts])
        self._guard = np.uint64(arena.guard_bytes)
        self.written: set[int] = set()
        self.stray_reads = 0

    def check(self, addresses: Any, mask: Any, *, item_bytes: int, write: bool) -> None:
        active = np.atleast_1d(addresses)[np.atleast_1d(np.broadcast_to(mask, np.shape(addresses)))].astype(np.uint64)
        if active.size == 0:
            return
        slack = np.uint64(0) if write else self._guard
        at = np.searchsorted(self._starts - slack, active, side="right") - 1
        inside = at >= 0
        ends = self._ends[np.maximum(at, 0)] + slack
        inside &= active + np.uint64(item_bytes) <= ends
        if not inside.all():
            verb = "writes" if write else "reads"
            raise IllegalAccess(
                f"kernel {verb} outside its tensors: {int((~inside).sum())} of {active.size} lanes are out of bounds"
            )
        if write:
            self.written.update(int(s) for s in np.unique(self._storages[at]))
        else:
            nearest = np.maximum(at, 0)
            stray = (active < self._starts[nearest]) | (active + np.uint64(item_bytes) > self._ends[nearest])
            self.stray_reads += int(stray.sum())


class _CheckedBuilder:
    """Wraps the interpreter's memory operations for the time of one launch."""

    _READS = ("create_masked_load",)
    _WRITES = ("create_masked_store", "create_atomic_rmw", "create_atomic_cas")

    def __init__(self, bounds: Touched) -> None:
        self._bounds = bounds
        self._kept = {name: getattr(ti.interpreter_builder, name) for name in (*self._READS, *self._WRITES)}

    def __enter__(self) -> None:
        for name in self._kept:
            setattr(ti.interpreter_builder, name, self._checked(name))

    def __exit__(self, *_: object) -> None:
        for name in self._kept:
            delattr(ti.interpreter_builder, name)

    def _checked(self, name: str) -> Callable[..., Any]:
        original = self._kept[name]
        signature = inspect.signature(original)

        def call(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            pointers = given["ptrs"] if "ptrs" in given else given["ptr"]
            mask = given["mask"].data if "mask" in given else True
            item_bytes = max(pointers.get_element_ty().primitive_bitwidth // 8, 1)
            self._bounds.check(pointers.data, mask, item_bytes=item_bytes, write=name in self._WRITES)
            return original(*args, **kwargs)

        return call


def _functions(kernel: Kernel) -> Functions:
    constexprs = {kernel.name: tuple(kernel.constants)}
    return Functions(kernel.functions, kernel.names, constexprs=constexprs, make=_jitted)


def _jitted(text: str, name: str, scope: dict[str, Any]) -> Any:
    # The interpreter adapts the modules that it finds among the globals; under names that no text may say.
    scope |= {"__language__": tl, "__core__": tl.core}
    return triton.jit(build(text, name=name, filename=f"<kernel {name}>", scope=scope))


def interpreted(kernel: Kernel) -> Any:
    """The kernel's own function, ready for the interpreter, with the functions that it calls."""
    try:
        return _functions(kernel)(kernel.name)
    except UnknownName as error:
        raise NotInterpretable(str(error)) from error


def launch(step: LaunchStep, arena: Arena, kernel: Kernel, function: Any) -> Touched:
    """Runs every program of the grid, in order; what it touched. Raises IllegalAccess, NotInterpretable, or
    what the kernel's own code raises."""
    arguments: dict[str, Any] = {name: _constant(raw, kernel) for name, raw in kernel.constants.items()}
    for (name, kind), argument in zip(kernel.params, step.args, strict=True):
        arguments[name] = _given(argument, kind, arena)
    rewritten = function.rewrite()
    scope = ti._patch_lang(function.fn)
    try:
        bound = {
            name: value if name in kernel.constants else _converted(value, dict(kernel.params)[name])
            for name, value in arguments.items()
        }
        ti.interpreter_builder.set_grid_dim(*step.grid)
        bounds = Touched(arena)
        with _CheckedBuilder(bounds), np.errstate(all="ignore"):
            _run_grid(rewritten, bound, step.grid)
        return bounds
    finally:
        scope.restore()


def _given(argument: Argument, kind: str, arena: Arena) -> Any:
    if isinstance(argument, Descriptor):
        return _descriptor(argument, kind, arena)
    return arena.tensor(int(argument)) if kind.startswith("*") and argument is not None else argument


def _descriptor(argument: Descriptor, kind: str, arena: Arena) -> TensorDescriptor:
    block = block_of(kind)
    assert block is not None, "the plan was checked"
    base, sizes, strides = arena.tensor(argument.base), list(argument.shape), list(argument.strides)
    return TensorDescriptor(base, sizes, strides, list(block.shape), argument.padding)


def _run_grid(function: Any, arguments: dict[str, Any], grid: tuple[int, int, int]) -> None:
    for z in range(grid[2]):
        for y in range(grid[1]):
            for x in range(grid[0]):
                ti.interpreter_builder.set_grid_idx(x, y, z)
                function(**arguments)


def _converted(value: Any, kind: str) -> Any:
    """A launch argument as the interpreter wants it; integers keep the width they were compiled for."""
    if isinstance(value, torch.Tensor | TensorDescriptor) or kind.startswith("*"):
        return ti._implicit_cvt(value)
    if isinstance(value, bool) or "f" in kind:
        return value
    scalar = {"i64": tl.int64, "u64": tl.uint64, "u32": tl.uint32}.get(kind, tl.int32)
    numpy_type = {"i64": np.int64, "u64": np.uint64, "u32": np.uint32}.get(kind, np.int32)
    return tl.tensor(ti.TensorHandle(np.array([value], dtype=numpy_type), scalar), scalar)


def _constant(raw: Any, kernel: Kernel) -> Any:
    if raw is None or "attribute" in raw:
        raise NotInterpretable("a compile-time constant of the kernel has no plain form")
    return data_of(raw, _functions(kernel))

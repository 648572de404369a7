"""Executes a plan on the CPU, on secret inputs that the judge sends: aten steps on CPU tensors, kernels in Triton's
interpreter.

Runs in a sandboxed child of a process with TRITON_INTERPRET set. Never imports the candidate's module and never sees
the expected answer: it sends back what came out, and the judge compares.
"""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from sandbox import wire
from sandbox.alternatives import alternatives_for
from sandbox.execute import Arena, bind_inputs, changed_input, initialise, run_steps, same_bits
from sandbox.kernel_source import SourceError
from sandbox.plan import LaunchStep, Plan, PlanError, decode, resolve
from sandbox.plan_buffers import fresh_storages, kept_storages
from sandbox.plan_check import step_refs, tensor_refs
from sandbox.seeding import seed_torch
from sandbox.trees import dtype_name, dtype_named
from sandbox.types import Status

# A row of common block sizes may be read past the end before that is called illegal; writes never.
GUARD_BYTES = 64 << 10

# What is otherwise imported by each child on its own, when the first kernel runs.
_LAZY = ("sandbox.interpreter", "sandbox.kernel_check", "triton.experimental.gluon", "numpy.ma")


def warm() -> None:
    """Starts the interpreter, gives it the device math library, and imports what every child needs."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("the interpret sandbox needs TRITON_INTERPRET=1 before triton is imported")
    from sandbox import (
        inductor_names,
        interpreter_booleans,
        interpreter_constants,
        interpreter_floats,
        interpreter_index,
        interpreter_reduce,
        libdevice_numpy,
    )

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    inductor_names.warm()
    libdevice_numpy.install()
    interpreter_reduce.install()
    interpreter_floats.install()
    interpreter_booleans.install()
    interpreter_index.install()
    interpreter_constants.install()
    for name in _LAZY:
        importlib.import_module(name)


def pack_tensor(tensor: torch.Tensor) -> tuple[list[Any], bytes]:
    """[dtype, shape] and the elements, contiguous, in the machine's byte order."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    raw = bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""
    return [dtype_name(tensor.dtype), list(tensor.shape)], raw


def unpack_tensor(head: list[Any], blob: memoryview) -> torch.Tensor:
    """The inverse of `pack_tensor`. Raises WireError where head and blob do not fit."""
    try:
        dtype, shape = dtype_named(head[0]), tuple(head[1])
        if any(type(n) is not int or n < 0 for n in shape):
            raise wire.WireError("a tensor's shape is malformed")
        flat = torch.frombuffer(bytearray(blob), dtype=dtype) if len(blob) else torch.empty(0, dtype=dtype)
        return flat.reshape(shape)
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise wire.WireError("a tensor is malformed") from error


def run(body: dict[str, Any], blobs: list[memoryview], _scratch: Path) -> bytes:
    """For each case either its outputs or how it failed; stops at the first failure.

    `body`: {"cases": [{"seed", "poison", "stateful", "inputs": [head, ..], "weights": {name: head}, "others": [head,
    ..]}]}; blobs: the plan, then each case's tensors in order. Answer: {"cases": [{"status", "error_class", "message",
    "weights": how, "writes": [[storage, ..] for each launch], "stray_reads": lanes, "outputs": [[head, ..], ..],
    "followed": [head, ..]}]} and the outputs: those of one or more calls on the case's inputs, and "followed" of a call
    of the same module on the others, where some were given and it could matter.
    """
    remaining = iter(blobs)
    plan = decode(bytes(next(remaining)))
    heads: list[dict[str, Any]] = []
    answers: list[bytes] = []
    functions: dict[int, Any] = {}
    for position, case in enumerate(body["cases"]):
        inputs = [unpack_tensor(head, next(remaining)) for head in case["inputs"]]
        weights = {name: unpack_tensor(head, next(remaining)) for name, head in case["weights"].items()}
        others = [unpack_tensor(head, next(remaining)) for head in case["others"]]
        settled = resolve(plan, alternatives_for(plan, position))
        run_ = _Run(settled, inputs, weights, seed=case["seed"], poison=case["poison"], functions=functions)
        head, packed = run_.answer(stateful=case["stateful"], others=others)
        heads.append({**head, "weights": run_.weights, "writes": run_.writes, "stray_reads": run_.stray_reads})
        answers += packed
        if head["status"] is not None:
            break
    return wire.pack({"cases": heads}, answers)


class InputChanged(Exception):
    """A kernel wrote over one of the problem's inputs."""


class _Run:
    """One case's execution: its buffers, and what its launches were seen to do."""

    def __init__(
        self,
        plan: Plan,
        inputs: list[torch.Tensor],
        weights: dict[str, torch.Tensor],
        *,
        seed: int,
        poison: int,
        functions: dict[int, Any],
    ) -> None:
        """`functions` has the kernels that earlier cases made ready, by number; a kernel's text keeps no state."""
        self._plan, self._inputs, self._seed, self._functions = plan, inputs, seed, functions
        self._initial, self.weights = initialise(plan, seed=seed, weights=weights)
        self._arena = Arena(plan, device=torch.device("cpu"), poison=poison, guard_bytes=GUARD_BYTES)
        self._arena.load(self._initial)
        bind_inputs(plan, self._arena, inputs)
        self.writes: list[list[int]] = []
        self.stray_reads = 0

    def answer(self, *, stateful: bool, others: list[torch.Tensor]) -> tuple[dict[str, Any], list[bytes]]:
        """What came of running the steps; and where the first call changed what the module keeps, of further calls of
        the same module: on the same inputs, on `others` if there are any, and on the first ones once more. Where the
        reference is `stateful`, only a call on `others` follows, whatever the first one changed."""
        given = self._inputs
        failure, outputs, packed = self._called(given)
        seen = self.writes, self.stray_reads
        calls, followed = [outputs], []
        if failure is None and (stateful or self._changed()):
            on_others = [others] if others else []
            for inputs in on_others if stateful else [given, *on_others, given]:
                failure, outputs, more = self._called(inputs, again=True)
                if failure is not None:
                    break
                if inputs is others:
                    followed, last = outputs, more
                else:
                    calls.append(outputs)
                    packed += more
            if followed:
                packed += last
        self.writes, self.stray_reads = seen
        if failure is not None:
            return failure, []
        told = {"status": None, "error_class": None, "message": None}
        return {**told, "outputs": calls, "followed": followed}, packed

    def _called(
        self, inputs: list[torch.Tensor], *, again: bool = False
    ) -> tuple[dict[str, Any] | None, list[Any], list[bytes]]:
        """How a call failed, or the heads and bytes of its outputs."""
        self.writes, self.stray_reads, self._inputs = [], 0, inputs
        if again:
            bind_inputs(self._plan, self._arena, inputs)
            for storage in fresh_storages(self._plan):
                self._arena.poison(storage)
        if (failure := self._failure()) is not None:
            return failure, [], []
        return self._finished()

    def _changed(self) -> bool:
        kept = kept_storages(self._plan)
        return any(not same_bits(self._initial.buffer(s), self._arena.buffer(s)) for s in kept)

    def _failure(self) -> dict[str, Any] | None:
        """Runs the steps; how that failed, or None."""
        try:
            seed_torch(self._seed)
            run_steps(self._plan.steps, self._arena, self._launch)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001  the interpreter runs the kernel's text in Python, which may raise anything
            cause = _cause(error)
            return _failed(_status_of(cause), cause)
        return None

    def _launch(self, step: LaunchStep) -> None:
        from sandbox.interpreter import interpreted, launch

        kernel = self._plan.kernels[step.kernel]
        if step.kernel not in self._functions:
            self._functions[step.kernel] = interpreted(kernel)
        for index in step_refs(self._plan, step):
            self._arena.tensor(index)  # made before the bounds are drawn
        touched = launch(step, self._arena, kernel, self._functions[step.kernel])
        self.writes.append(sorted(touched.written))
        self.stray_reads += touched.stray_reads

    def _finished(self) -> tuple[dict[str, Any] | None, list[Any], list[bytes]]:
        """What shows only now: broken guard bands and inputs that changed. Else the outputs."""
        plan, arena = self._plan, self._arena
        if arena.broken_guards():
            return _failed(Status.ILLEGAL_ACCESS, RuntimeError("a kernel writes outside its tensors")), [], []
        if (position := changed_input(plan, arena, self._inputs)) is not None:
            return _failed(Status.WRONG_VALUES, InputChanged(f"input {position} is changed in place")), [], []
        packed = [pack_tensor(arena.tensor(index)) for index in tensor_refs(plan.outputs)]
        return None, [head for head, _ in packed], [raw for _, raw in packed]


def _cause(error: Exception) -> Exception:
    """What went wrong in the innermost function: the interpreter wraps what leaves a function that a kernel calls."""
    from triton.runtime.errors import InterpreterError

    while isinstance(error, InterpreterError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _status_of(error: Exception) -> Status:
    from sandbox.interpreter import IllegalAccess

    match error:
        case IllegalAccess():
            return Status.ILLEGAL_ACCESS
        case SourceError():
            return Status.REJECTED
        case PlanError():
            return Status.TRACE_ERROR
        case MemoryError():
            return Status.OUT_OF_MEMORY
        case _:  # what the interpreter lacks, NotInterpretable among it
            return Status.UNVERIFIED


def _failed(status: Status, error: BaseException) -> dict[str, Any]:
    lines = str(error).strip().splitlines() or [""]
    told = {"status": status, "error_class": type(error).__name__, "message": lines[-1][:2000]}
    return {**told, "outputs": [], "followed": []}

"""Runs a candidate on fake CUDA tensors and records what it does as a plan.

Runs in the sandboxed child, on a CPU, without a GPU and without any tensor value. What it writes is hostile data to
its reader. Does not judge: a plan may well be wrong.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import triton
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from sandbox import fake_cuda, inductor_names, triton_record, wire
from sandbox.describe import construct, load_module
from sandbox.module_state import attributes_of, state_of
from sandbox.plan import AtenStep, LaunchStep, Plan, Step, encode, flat_steps
from sandbox.plan_check import step_refs, tensor_refs, written_arguments
from sandbox.recorder import Recorder, Untraceable
from sandbox.trees import dtype_named, from_tree, tensors_in
from sandbox.triton_record import CompileFailure
from sandbox.types import Failure, Status

_MODULE = "candidate"
_MAX_SIZES = 64
_UNTRACEABLE = (
    Untraceable,
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
    fake_tensor.UnsupportedFakeTensorException,
    fake_tensor.UnsupportedOperatorException,
    fake_tensor.UnsupportedMutationAliasingException,
)
_COMPILE = (
    CompileFailure,
    triton.compiler.errors.CompilationError,
    triton.runtime.errors.PTXASError,
)


def warm() -> None:
    """Pays, in the warm process, for what every child needs: library start-up and Triton's compiler."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL + 1)
    fake_cuda.warm()
    inductor_names.warm()
    mode = FakeTensorMode()
    with mode, torch.no_grad(), Recorder(mode):
        # On the fake CPU: on a CUDA build even a fake CUDA tensor starts a driver thread, after which no fork is safe.
        x = torch.empty(8, 8)
        torch.nn.functional.gelu(x @ x + torch.randn(8)).sum()
    triton_record.warm()


def run(body: dict[str, Any], _blobs: Any, scratch: Path) -> bytes:
    """The plan of `body["source"]` as a message: {"status": .., "failure": .., "sizes": ..} and the plan's bytes.
    Status and failure are null where there is a plan; "sizes" is as in `wrong_sizes`."""
    try:
        plan = trace(body["source"], body["spec"], capability=body["capability"], folder=scratch)
    except BaseException as error:  # noqa: BLE001  whatever the candidate raises, exits included, is its failure
        status, failure = explain(error, body["source"], scratch / f"{_MODULE}.py")
        asserted = isinstance(error, AssertionError) and str(error).startswith(inductor_names.WRONG_SIZE)
        sizes = wrong_sizes(body, scratch) if asserted else []
        return wire.pack({"status": status, "failure": _plain(failure), "sizes": sizes})
    return wire.pack({"status": None, "failure": None, "sizes": []}, [encode(plan)])


def wrong_sizes(body: dict[str, Any], folder: Path) -> list[Any]:
    """[line, size, stride] of what is passed to each `assert_size_stride` of a candidate that failed on one.

    It is run once more, with no assertion raising and no kernel compiled, until it ends or fails on something else:
    one failure shows all the sizes that are wrong.
    """
    path = str(folder / f"{_MODULE}.py")
    found: list[Any] = []

    def note(tensor: torch.Tensor, size: Any, stride: Any, op_name: str | None = None) -> None:
        try:
            inductor_names.assert_size_stride(tensor, size, stride)
        except AssertionError:
            frame = sys._getframe(1)
            if frame.f_code.co_filename == path and len(found) < _MAX_SIZES:
                found.append([frame.f_lineno, list(tensor.shape), list(tensor.stride())])

    with contextlib.suppress(BaseException):  # its failure is known; what was noted before another one stays true
        trace(body["source"], body["spec"], capability=body["capability"], folder=folder, assert_sizes=note)
    return found


def _plain(failure: Failure) -> dict[str, Any]:
    return {name: getattr(failure, name) for name in ("error_class", "message", "line_number", "source_line")}


def trace(
    source: str, spec: dict[str, Any], *, capability: int, folder: Path, assert_sizes: Callable[..., None] | None = None
) -> Plan:
    """Imports, constructs and calls the candidate's ModelNew on fakes of the problem's inputs.

    `assert_sizes` takes the place of `assert_size_stride`, and nothing is launched then.
    """
    fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
    recorder = Recorder(fake_mode)
    fake_cuda.install(recorder)
    inductor_names.install(recorder)
    triton_record.install(recorder, capability=capability)
    if assert_sizes is not None:
        torch._C._dynamo.guards.assert_size_stride = assert_sizes
        triton_record.launch_nothing()
    with fake_mode, torch.no_grad():
        fakes = [
            torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype_named(dtype), device="cuda")
            for dtype, shape, stride in spec["tensors"]
        ]
    cuda = torch.device("cuda", 0)
    inputs = from_tree(spec["inputs"], fakes.__getitem__, device=cuda)
    with fake_cuda.fake_gpu(recorder, fake_mode):
        module = load_module(source, name=_MODULE, folder=folder)
        model = construct(module.ModelNew, from_tree(spec["init_inputs"], fakes.__getitem__, device=cuda))
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"ModelNew is not a torch.nn.Module but a {type(model).__name__}")
        named = state_of(model)
        weights = [(name, recorder.value_of(tensor)) for name, tensor in named.items()]
        held = {name: tensor.detach() for name, tensor in _held(model).items()}
        init_steps = recorder.take_steps()
        made = recorder.num_storages
        bound = [recorder.value_of(tensor) for _, tensor in tensors_in(inputs)]
        outputs = model(*inputs)
        replaced = _replaced(recorder, held, model)
    if not tensors_in(outputs):
        raise TypeError(f"ModelNew returned no tensor but a {type(outputs).__name__}")
    plan = recorder.plan(init_steps=init_steps, inputs=bound, weights=weights, outputs=outputs)
    plan = _carried_over(plan, replaced)
    _refuse_kept(plan, made)
    return _without_unused(plan)


def _replaced(recorder: Recorder, held: Mapping[str, torch.Tensor], model: torch.nn.Module) -> list[tuple[int, int]]:
    """(what the module held, what it holds now) of the tensors that the forward pass put another one of the same form
    in the place of."""
    now = _held(model)
    pairs = [(old, now[name]) for name, old in held.items() if name in now]
    alike = [(old, new) for old, new in pairs if _form(old) == _form(new)]
    values = [(recorder.value_of(old), recorder.value_of(new)) for old, new in alike]
    return [(old, new) for old, new in values if old != new]


def _held(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What the module holds by name; of plain attributes those that have a form in a plan."""
    attributes = attributes_of(model).items()
    return {**{name: t for name, t in attributes if type(t) is FakeTensor}, **state_of(model)}


def _form(t: torch.Tensor) -> tuple[object, ...]:
    return t.shape, t.dtype, t.device, t.layout


def _carried_over(plan: Plan, replaced: Sequence[tuple[int, int]]) -> Plan:
    """The plan with copies at its end, so that the next call finds in each buffer that it is given what the module then
    has in that buffer's place. What no step is given needs none."""
    given = {plan.values[index].storage for step in flat_steps(plan) for index in step_refs(plan, step)}
    copies = tuple(
        AtenStep(op="aten.copy_.default", args=[{"tensor": old}, {"tensor": new}], kwargs={}, outputs=(old,))
        for old, new in replaced
        if plan.values[old].storage in given
    )
    return replace(plan, steps=(*plan.steps, *copies))


class KeptOutput(RuntimeError):
    """An output lies in memory that the module holds from one call to the next, and each call writes there."""


def _refuse_kept(plan: Plan, made: int) -> None:
    """Raises KeptOutput for an output in one of the first `made` storages, which are older than the forward pass, where
    that writes to it. A weight that is returned as it is may be."""
    storage_of = dict(enumerate(value.storage for value in plan.values)).get  # what has no storage is refused later
    held = set(range(made)).difference(map(storage_of, plan.inputs))
    returned = held.intersection(map(storage_of, tensor_refs(plan.outputs)))
    for step in flat_steps(plan):
        touched = step_refs(plan, step) if isinstance(step, LaunchStep) else written_arguments(step)
        if not returned.isdisjoint(map(storage_of, touched)):
            raise KeptOutput("an output is memory that the module keeps, which the next call writes to: make it anew")


def _without_unused(plan: Plan) -> Plan:
    """The plan without those of an operator's several results that nothing uses: what is for a backward pass may have
    another shape on the device than a fake tensor says."""
    steps = (*plan.init_steps, *flat_steps(plan))
    used = {plan.values[index].storage for step in steps for index in step_refs(plan, step)}
    kept = {*tensor_refs(plan.outputs), *(index for _, index in plan.weights)}
    used |= {value.storage for index, value in enumerate(plan.values) if index in kept}

    def slimmed(step: Step) -> Step:
        if not isinstance(step, AtenStep) or len(step.outputs) < 2:
            return step
        needed = (o if o is not None and plan.values[o].storage in used else None for o in step.outputs)
        return replace(step, outputs=tuple(needed))

    return replace(plan, steps=tuple(map(slimmed, plan.steps)))


def explain(error: BaseException, source: str, path: Path) -> tuple[Status, Failure]:
    """The status and the candidate's own line behind an exception that tracing it raised."""
    told = _innermost(error)
    lines = source.splitlines()
    number = _kernel_line(error, lines) or _line_in(told, path) or _line_in(error, path)
    return _status_of(error), Failure(
        error_class=type(told).__name__,
        message=_last_line(told)[:2000],
        line_number=number,
        source_line=lines[number - 1].strip()[:400] or None if number is not None and number <= len(lines) else None,
    )


def _kernel_line(error: BaseException | None, lines: list[str]) -> int | None:
    """The line of the candidate's text that Triton's compilation error, or a deeper one behind it, points at.

    Errors inside Triton's own library have its text; the deepest one with the candidate's is the one to show.
    """
    found = None
    while error is not None:
        if isinstance(error, triton.compiler.errors.CompilationError) and error.src and error.node is not None:
            text = error.src.splitlines()
            at = error.node.lineno - 1
            wanted = text[at].strip() if 0 <= at < len(text) else None
            found = next((i for i, line in enumerate(lines, start=1) if line.strip() == wanted), found)
        error = error.__cause__
    return found


def _status_of(error: BaseException) -> Status:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    if any(isinstance(e, MemoryError) for e in chain):
        return Status.OUT_OF_MEMORY
    if any(isinstance(e, _UNTRACEABLE) for e in chain):
        return Status.UNTRACEABLE
    if any(isinstance(e, _COMPILE) for e in chain):
        return Status.COMPILE_ERROR
    if any(isinstance(e, triton.runtime.errors.OutOfResources) for e in chain):
        return Status.LAUNCH_ERROR
    return Status.TRACE_ERROR


def _innermost(error: BaseException) -> BaseException:
    """The exception that says most: below our own wrapper, the deepest of Triton's compilation errors."""
    current = error
    if isinstance(current, CompileFailure) and current.__cause__ is not None:
        current = current.__cause__
    while isinstance(current, triton.compiler.errors.CompilationError) and isinstance(
        current.__cause__, triton.compiler.errors.CompilationError
    ):
        current = current.__cause__
    return current


def _last_line(error: BaseException) -> str:
    if isinstance(error, triton.compiler.errors.CompilationError):
        cause = error.__cause__
        text = error.error_message or (str(cause) if cause is not None else "") or str(error)
    else:
        text = str(error)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if isinstance(error, triton.runtime.errors.PTXASError):
        return _ptxas_line(lines)
    if lines and (lines[0].startswith("Could not run") or "invalid combination of arguments" in lines[0]):
        return lines[0]  # torch says what is wrong first and lists its tables after
    return lines[-1] if lines else type(error).__name__


def _ptxas_line(lines: list[str]) -> str:
    """What ptxas itself complains of first. Below it Triton tells how to run ptxas again, which helps nobody here, and
    paths differ from run to run."""
    own = [line for line in lines if not line.startswith("Repro command")]
    logged = own[own.index("`ptxas` stderr:") + 1 :] if "`ptxas` stderr:" in own else own
    told = [line for line in logged if re.search(r"\b(error|fatal)\b", line)] or logged or own
    return re.sub(r"(?<![\w.])/[^\s,;:'\"]+", "<path>", told[0]) if told else "PTXASError"


def _line_in(error: BaseException, path: Path) -> int | None:
    """The last line of the candidate's own file on the way to where `error` was raised."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return frames[-1].lineno if frames else None
